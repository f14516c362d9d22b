"""The embedded default: Prefect's own API in this process's company, kept under the data folder, quiet on the terminal.

It must run before Prefect is imported anywhere, since Prefect reads its environment then. Where the environment names
a Prefect server or a Prefect home, those are used and only the terminal is kept quiet.
"""

import os
import re
import signal
import ssl
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from ti_core.errors import ServiceError
from ti_core.settings import sqlite_path, starting

SERVER_SECONDS = 5.0
"""How long a server may take to answer before a run is given up."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DATABASE = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
"""Variables of Prefect that name its database: the present name and an older one."""
START_SECONDS = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"


def spare_loopback() -> None:
    """Keep connections within this machine away from every proxy that the environment names.

    Prefect's own API, and often the store and MLflow, are on loopback, where no proxy can reach them. Both spellings
    are set, since libraries differ in which they read.
    """
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    hosts = [host for host in re.split(r"[,\s]+", known) if host]
    spared = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = spared


def prepare_prefect(home: Path) -> None:
    """Set Prefect's environment, and start its own API where no server is named.

    Raises ServiceError when a named server does not answer or the API does not start, InputError when `home` cannot be
    made or written.
    """
    quiet = {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "ti_core,tasks,flows",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # threads that publish belong to no run
        "PREFECT_CLI_PROMPT": "false",
        # A server takes a run of the line for dead after five of these (deployments/automations.yaml).
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    spare_loopback()
    if server := named_server():
        if not server.startswith(("http://", "https://")):
            raise ServiceError(f"PREFECT_API_URL is {server!r}: it must start with http:// or https://.")
        if urlsplit(server).hostname not in LOOPBACK and (unspoken := _unspoken_proxies()):
            raise ServiceError(
                f"Prefect's client cannot use the proxy in {' and '.join(unspoken)} to reach {server}: name an http:// "
                "proxy, or put the server's host into NO_PROXY and unset it."
            )
        _drop_unspoken_proxies()
        _check(server, "Prefect", "start it, or unset PREFECT_API_URL to run without one")
        return
    _drop_unspoken_proxies()
    os.environ.setdefault("PREFECT_HOME", str(home.absolute() / "prefect"))
    # Prefect pastes its home into a URI as it is, where a question mark or a percent sign means something else.
    database = Path(os.environ["PREFECT_HOME"]).expanduser().absolute() / "prefect.db"
    if sqlite_path(database) != str(database) and not any(name in os.environ for name in DATABASE):
        os.environ[DATABASE[0]] = f"sqlite+aiosqlite:///{sqlite_path(database)}"
    os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "true")
    # A cold start takes 6 s on a fast machine; Prefect's own limit of 20 s is short for a slow one.
    os.environ.setdefault(START_SECONDS, "120")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    with starting(home):
        _start_api()


def _start_api() -> None:
    """Start the API now, deaf to SIGINT: a terminal sends Ctrl-C to all processes of a run, and without its API Prefect
    cannot end the run but tries to reach it for minutes. A new process inherits what its parent's thread blocks."""
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        import httpx
        from prefect.client.orchestration import get_client
        from prefect.server.api.server import SubprocessASGIServer
        from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS as SECONDS

        seconds = SECONDS.value()
        until = time.monotonic() + seconds
        while True:
            try:
                get_client(sync_client=True)
                return
            except httpx.TimeoutException:  # it listens, but a busy machine leaves it no time to answer: once more
                SubprocessASGIServer().stop()
                if time.monotonic() > until:
                    raise
    except (RuntimeError, httpx.HTTPError) as error:
        late = isinstance(error, httpx.TimeoutException) or str(error).startswith("Timed out")
        if late and "exited" not in str(error):
            raise ServiceError(
                f"Prefect's own API did not answer within {seconds} seconds: on a busy machine give it more in "
                f"{START_SECONDS}, or name a server in PREFECT_API_URL."
            ) from None
        raise ServiceError(f"Prefect's own API does not start ({error}): name a server in PREFECT_API_URL.") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def _unspoken_proxies() -> list[str]:
    """The variables that name a proxy which httpx, Prefect's client, does not speak: it then fails at every client."""
    import httpx

    unspoken = []
    for name, value in os.environ.items():
        if name.lower() in {"http_proxy", "https_proxy", "all_proxy"} and value:
            try:
                httpx.HTTPTransport(proxy=value if "://" in value else f"http://{value}").close()
            except (ImportError, ValueError, httpx.InvalidURL):
                unspoken.append(name)
    return unspoken


def _drop_unspoken_proxies() -> None:
    """Of no use to the other libraries either: none of those installed here speaks SOCKS."""
    for name in _unspoken_proxies():
        del os.environ[name]


def named_server() -> str:
    """The Prefect server of the environment, "" for none. Raises ServiceError for what is no address."""
    server = os.environ.get("PREFECT_API_URL", "")
    try:
        _ = urlsplit(server).port  # looked at when it is asked for
    except ValueError as error:
        raise ServiceError(f"PREFECT_API_URL is {server!r}: {error}.") from None
    return server


def check_tracking(uri: str) -> None:
    """Raise ServiceError when `uri` names a tracking server that does not answer: sooner than MLflow's client can be
    imported and has tried it three times. A database needs no such check."""
    spare_loopback()
    if uri.startswith(("http://", "https://")):
        without_credentials = re.sub(r"//[^/@]*@", "//", uri)
        _check(without_credentials, "tracking", "start it, or correct PSEUDOWORD_TRACKING_URI")


def _check(server: str, name: str, advice: str) -> None:
    """Any answer will do, also a refusal: the server's own client knows how to log in and whom to trust."""
    try:
        urllib.request.urlopen(f"{server.rstrip('/')}/health", timeout=SERVER_SECONDS).close()  # noqa: S310 (http or https)
    except urllib.error.HTTPError as error:
        error.close()
    except (OSError, ValueError, HTTPException) as error:  # the latter two of what is no address
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return
        raise ServiceError(f"The {name} server at {server} does not answer ({reason}): {advice}.") from None
