"""What commands need before and around their work: settings, servers that answer, a clean end when they are stopped."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.ending import StoppedError

if TYPE_CHECKING:
    from ti_core.settings import Settings


def settings_of(home: Path | None) -> "Settings":
    """The settings, with `--home` passed on through the environment so that tasks read the same ones."""
    if home is not None:
        os.environ["PSEUDOWORD_HOME"] = str(home)
    os.environ.setdefault("DO_NOT_TRACK", "true")  # MLflow, Prefect and the hub's client report usage otherwise
    from flows.embedded import spare_loopback
    from ti_core.settings import load_settings

    spare_loopback()
    return load_settings()


def start_services(settings: "Settings") -> None:
    """Make sure that what a run will need answers, before it works for minutes."""
    from flows.embedded import check_tracking, prepare_prefect

    check_tracking(settings.mlflow_uri)
    prepare_prefect(settings.home)
    quiet_libraries()
    from ti_core.registry import Registry

    Registry(settings).check()


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise StoppedError where Ctrl-C or SIGTERM ends the block."""
    stopped_by = signal.SIGINT

    def terminate(_number: int, _frame: object) -> None:
        nonlocal stopped_by
        stopped_by = signal.SIGTERM
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError(stopped_by) from None


def quiet_libraries() -> None:
    """Keep the bars and notices of the libraries off the terminal; ours say what happens."""
    for name, value in {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}.items():
        os.environ.setdefault(name, value)
