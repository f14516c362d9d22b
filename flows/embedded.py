"""The embedded default: Prefect's own API in this process's company, kept under the data folder, quiet on the terminal.

It must run before Prefect is imported anywhere, since Prefect reads its environment then. Where the environment names
a Prefect server or a Prefect home, those are used and only the terminal is kept quiet.
"""

import os
import urllib.error
import urllib.request
from pathlib import Path

from ti_core.errors import ServiceError

SERVER_SECONDS = 5.0
"""How long a Prefect server may take to answer before a run is given up."""


def prepare_prefect(home: Path) -> None:
    """Set Prefect's environment. Raises ServiceError when a named server does not answer."""
    quiet = {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "ti_core",
        "PREFECT_CLI_PROMPT": "false",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    server = os.environ.get("PREFECT_API_URL")
    if server:
        _check(server)
        return
    os.environ.setdefault("PREFECT_HOME", str(home.absolute() / "prefect"))
    os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "true")
    # A cold start takes 6 s on a fast machine; Prefect's own limit of 20 s is short for a slow one.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")


def _check(server: str) -> None:
    if not server.startswith(("http://", "https://")):
        raise ServiceError(f"PREFECT_API_URL is {server!r}: it must start with http:// or https://.")
    try:
        urllib.request.urlopen(f"{server.rstrip('/')}/health", timeout=SERVER_SECONDS).close()  # noqa: S310 (checked above)
    except urllib.error.HTTPError as error:
        error.close()  # it answers, if only to ask who we are; Prefect's client knows how to tell it
    except OSError as error:
        raise ServiceError(
            f"The Prefect server at {server} does not answer ({getattr(error, 'reason', error)}): start it, or unset "
            "PREFECT_API_URL to run without one."
        ) from None
