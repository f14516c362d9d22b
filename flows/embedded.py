"""The embedded default: Prefect's own API in this process's company, kept under the data folder, quiet on the terminal.

It must run before Prefect is imported anywhere, since Prefect reads its environment then. Where the environment names
a Prefect server or a Prefect home, those are used and only the terminal is kept quiet.
"""

import os
import re
import signal
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from ti_core.errors import InputError, ServiceError

SERVER_SECONDS = 5.0
"""How long a server may take to answer before a run is given up."""


def prepare_prefect(home: Path) -> None:
    """Set Prefect's environment, and start its own API where no server is named.

    Raises ServiceError when a named server does not answer or the API does not start, InputError when `home` cannot be
    made.
    """
    quiet = {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "ti_core",
        "PREFECT_CLI_PROMPT": "false",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    server = os.environ.get("PREFECT_API_URL")
    if server:
        if not server.startswith(("http://", "https://")):
            raise ServiceError(f"PREFECT_API_URL is {server!r}: it must start with http:// or https://.")
        _check(server, "Prefect", "start it, or unset PREFECT_API_URL to run without one")
        return
    os.environ.setdefault("PREFECT_HOME", str(home.absolute() / "prefect"))
    try:
        home.mkdir(parents=True, exist_ok=True)  # Prefect makes its own folder, but not those above it
    except OSError as error:
        raise InputError(f"The data folder {home} cannot be made: {error.strerror}.") from None
    os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "true")
    # A cold start takes 6 s on a fast machine; Prefect's own limit of 20 s is short for a slow one.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    _start_api()


def _start_api() -> None:
    """Start the API now, deaf to SIGINT: a terminal sends Ctrl-C to all processes of a run, and without its API Prefect
    cannot end the run but tries to reach it for minutes. A new process inherits what its parent's thread blocks."""
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        from prefect.client.orchestration import get_client

        get_client(sync_client=True)
    except RuntimeError as error:
        raise ServiceError(f"Prefect's own API does not start ({error}): name a server in PREFECT_API_URL.") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def check_tracking(uri: str) -> None:
    """Raise ServiceError when `uri` names a tracking server that does not answer: sooner than MLflow's client can be
    imported and has tried it three times. A database needs no such check."""
    if uri.startswith(("http://", "https://")):
        without_credentials = re.sub(r"//[^/@]*@", "//", uri)
        _check(without_credentials, "tracking", "start it, or correct PSEUDOWORD_TRACKING_URI")


def _check(server: str, name: str, advice: str) -> None:
    """Any answer will do, also a refusal: the server's own client knows how to log in and whom to trust."""
    try:
        urllib.request.urlopen(f"{server.rstrip('/')}/health", timeout=SERVER_SECONDS).close()  # noqa: S310 (http or https)
    except urllib.error.HTTPError as error:
        error.close()
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return
        raise ServiceError(f"The {name} server at {server} does not answer ({reason}): {advice}.") from None
