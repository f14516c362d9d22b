"""How the Prefect server words its log on a stack; `PREFECT_LOGGING_FORMATTERS_STANDARD_` in its environment names it.

The address of a notification block is a secret (who knows a Slack webhook may write there), and when it refuses a note
httpx tells it whole in the traceback. Only the host is kept. This module knows nothing of blocks.
"""

import re
from logging import LogRecord

from prefect.logging.formatters import PrefectFormatter

ADDRESS = re.compile(r"(for url '\w+://)(?:[^/?#'@]*@)?([^/?#']*)[^']*")
"""As httpx's errors name one."""


class Formatter(PrefectFormatter):
    """Prefect's own, that keeps of a refused address the host alone."""

    def format(self, record: LogRecord) -> str:
        """The line, and its traceback."""
        return ADDRESS.sub(r"\1\2/…", super().format(record))
