"""What the line needs on this machine, looked at: servers, workers, versions, clock, room, card, base model.

Checks run side by side, each for so many seconds at most. They change nothing but a scratch object of the store, which
is removed again. This module prints nothing.
"""

import email.utils
import os
import platform
import secrets
import shutil
import sys
import threading
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

from ti_core.errors import ConflictError, PseudowordError
from ti_core.settings import Settings, expanded
from ti_core.store import Store, open_store

SECONDS = 60.0
"""How long a check may take: all tell of a silent server sooner by themselves, the store last, after 35 seconds."""
THREAD = "check of"
"""How the names of threads begin that look at something."""
PACKAGES = ("torch", "diffusers", "transformers", "prefect", "mlflow", "fastapi")
FASTAPI_BELOW = (0, 151)
"""prefect 3.8 and 3.9 do not import their server with fastapi from here on."""
SKEW_WARN, SKEW_FAULT = 60.0, 900.0
"""Seconds between this clock and the store's: S3 refuses requests that are off by 15 minutes."""
GIB = 1024**3
DISK_WARN, DISK_FAULT = 10 * GIB, 1 * GIB
MEMORY_WARN, MEMORY_FAULT = 4 * GIB, 1 * GIB
INSTALL = "pip install 'pseudoword[train]'"

Level = Literal["ok", "warn", "fault"]


class Finding(NamedTuple):
    """A line of the report: what was looked at, what was seen, and what to do about it."""

    level: Level
    name: str
    said: str
    advice: str = ""


Check = Callable[[], Finding]


def examine(settings: Settings, base_model: str = "") -> list[Finding]:
    """All findings, in an order of their own."""
    server = os.environ.get("PREFECT_API_URL", "")
    checks: dict[str, Check] = {
        "python": lambda: python(sys.version_info[:2]),
        "packages": lambda: packages(_installed()),
        "store": lambda: store(open_store(settings)),
        "clock": lambda: clock(settings),
        "mlflow": lambda: mlflow(settings),
        "prefect": lambda: prefect(server),
        "workers": lambda: workers(server),
        "disk": lambda: disk(settings.home),
        "memory": memory,
        "card": lambda: card(settings),
        "folders": lambda: folders(settings.roots),
        "base model": lambda: base(base_model or settings.base_model),
    }
    return bounded(checks, SECONDS)


def bounded(checks: Mapping[str, Check], seconds: float) -> list[Finding]:
    """Run checks side by side; what is not done after `seconds`, or fails, is a fault of its own."""
    found: dict[str, Finding] = {}

    def run(name: str, check: Check) -> None:
        try:
            found[name] = check()
        except PseudowordError as error:
            found[name] = Finding("fault", name, str(error))
        except Exception as error:  # the report goes on, whatever a library does
            found[name] = Finding("fault", name, f"it could not be looked at ({type(error).__name__}: {error})")

    # Daemons: a check that hangs does not hold the command.
    threads = {
        name: threading.Thread(target=run, args=(name, check), name=f"{THREAD} {name}", daemon=True)
        for name, check in checks.items()
    }
    until = datetime.now(UTC).timestamp() + seconds
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, until - datetime.now(UTC).timestamp()))
    late = (f"no answer within {seconds:.0f} seconds", "look at its log, or wait and ask again")
    return [found.get(name) or Finding("fault", name, *late) for name in checks]


def python(version_info: Sequence[int]) -> Finding:
    """The interpreter."""
    said = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if (3, 11) <= tuple(version_info) < (3, 14):
        return Finding("ok", "python", said)
    return Finding("fault", "python", said, "use Python 3.11 to 3.13")


def packages(installed: Mapping[str, str]) -> Finding:
    """The versions of the libraries whose versions matter."""
    said = ", ".join(f"{name} {installed[name]}" for name in PACKAGES if name in installed)
    missing = [name for name in PACKAGES if name not in installed]
    if missing:
        return Finding("fault", "packages", f"{said or 'none'}; missing: {', '.join(missing)}", INSTALL)
    if tuple(int(part) for part in installed["fastapi"].split(".")[:2]) >= FASTAPI_BELOW:
        return Finding(
            "fault", "packages", said, "Prefect's server does not start with it: pip install 'fastapi<0.151'"
        )
    return Finding("ok", "packages", said)


def _installed() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def store(place: Store) -> Finding:
    """Write, list, read, both conditional writes and removal, on an object of this check alone."""
    key = f"doctor/{secrets.token_hex(8)}"
    wrong = []
    try:
        if not place.create(key, b"1"):
            wrong.append("a new object counts as there already")
        if place.create(key, b"2"):
            wrong.append("it overwrites what is there (If-None-Match)")
        if key not in place.keys("doctor/"):
            wrong.append("it does not list what was written")
        first = place.get(key)
        place.replace(key, b"3", first.etag)
        try:
            place.replace(key, b"4", first.etag)
            wrong.append("it overwrites what has changed (If-Match)")
        except ConflictError:
            pass
        if place.get(key).data != b"3":
            wrong.append("it does not give back what was written")
    finally:
        place.delete(key)
    if wrong:
        advice = "words can be lost on it: use a store with conditional writes"
        return Finding("fault", "store", f"{place.uri}: {'; '.join(wrong)}", advice)
    return Finding("ok", "store", f"{place.uri} lists, reads, writes, and writes conditionally")


def clock(settings: Settings) -> Finding:
    """This clock beside the store's, by the Date of any answer of its."""
    if not settings.store_uri.startswith("s3://"):
        return Finding("ok", "clock", "the store is a folder: one clock")
    endpoint = settings.s3_endpoint_url or os.environ.get("AWS_ENDPOINT_URL", "https://s3.amazonaws.com")
    _, headers = _asked(endpoint)
    if not headers.get("Date"):
        return Finding("warn", "clock", f"{endpoint} tells no time", "")
    off = (datetime.now(UTC) - email.utils.parsedate_to_datetime(headers["Date"])).total_seconds()
    return skew(off)


def skew(seconds: float) -> Finding:
    """What a clock that is `seconds` ahead of the store's means."""
    said = f"{abs(seconds):.0f} seconds {'ahead of' if seconds > 0 else 'behind'} the store's"
    if abs(seconds) >= SKEW_FAULT:
        return Finding("fault", "clock", said, "S3 refuses what is off by 15 minutes: set the clock (NTP)")
    if abs(seconds) >= SKEW_WARN:
        return Finding("warn", "clock", said, "set the clock (NTP)")
    return Finding("ok", "clock", said)


def mlflow(settings: Settings) -> Finding:
    """The tracking server, asked for something that needs its database and, where it wants one, the password."""
    uri = settings.mlflow_uri
    if not uri.startswith(("http://", "https://")):
        return Finding("ok", "mlflow", "no server: a database of this machine")
    login = (os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
    status, _ = _asked(f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1", login)
    return _answer("mlflow", uri, status, "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")


def prefect(server: str) -> Finding:
    """The Prefect API, asked for something that needs the password where it wants one."""
    if not server:
        return Finding("ok", "prefect", "no server: runs keep their own company (PREFECT_API_URL names one)")
    name, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    status, _ = _asked(f"{server.rstrip('/')}/admin/version", (name, password))
    return _answer("prefect", server, status, "PREFECT_API_AUTH_STRING")


def _answer(name: str, url: str, status: int, variables: str) -> Finding:
    if status in {401, 403}:
        return Finding("fault", name, f"{url} refuses this name and password", f"set {variables} (. servers/env.sh)")
    if status >= 400:
        return Finding("fault", name, f"{url} answers with {status}", "look at its log")
    return Finding("ok", name, f"{url} answers")


def workers(server: str) -> Finding:
    """Who does the work."""
    if not server:
        return Finding("ok", "workers", "none needed: runs happen where they are started")
    from prefect.exceptions import ObjectNotFound

    from flows.serving.deploying import pool, prefect_client

    name = pool()
    with prefect_client() as client:
        try:
            paused = client.read_work_pool(name).is_paused
            alive = [one.name for one in client.read_workers_for_work_pool(name) if one.status == "ONLINE"]
        except ObjectNotFound:
            return Finding("fault", "workers", f"there is no pool {name}", "ti up, or deployments/setup.sh, makes it")
    if not alive:
        return Finding("warn", "workers", f"none of the pool {name} is alive", "ti up starts them")
    if paused:
        return Finding(
            "warn", "workers", f"the pool {name} is paused", "resume it in Prefect, or with ti down and ti up"
        )
    return Finding("ok", "workers", ", ".join(alive))


def disk(home: Path) -> Finding:
    """Free room where the data folder lies, or will lie."""
    place = next(folder for folder in (home.absolute(), *home.absolute().parents) if folder.exists())
    return room("disk", shutil.disk_usage(place).free, f"free in {place}", (DISK_WARN, DISK_FAULT), "make room")


def memory() -> Finding:
    """Memory that a run could have."""
    import psutil

    free = psutil.virtual_memory().available
    return room("memory", free, "available", (MEMORY_WARN, MEMORY_FAULT), "end other programs")


def room(name: str, free: int, what: str, limits: tuple[int, int], advice: str) -> Finding:
    """Bytes that are free beside what a run wants (limits to warn at, and to call a fault)."""
    said = f"{free / GIB:.1f} GiB {what}"
    warn, fault = limits
    if free < fault:
        return Finding("fault", name, said, advice)
    return Finding("warn", name, said, advice) if free < warn else Finding("ok", name, said)


def card(settings: Settings) -> Finding:
    """The device that runs take, its memory, and the number type of the U-Net."""
    import torch

    from ti_core.backbone.resident import place_of_work

    place, kind = place_of_work(settings.device, settings.precision)
    if place.startswith("cuda"):
        bytes_there = torch.cuda.get_device_properties(torch.device(settings.device or "cuda")).total_memory
        return Finding("ok", "card", f"{place}, {bytes_there / GIB:.0f} GiB, computes in {kind}")
    if place == "cpu":
        return Finding("ok", "card", f"none: the CPU, in {kind}; enough for the miniature alone")
    return Finding("ok", "card", f"{place}, in {kind}")


def folders(roots: Sequence[Path]) -> Finding:
    """The folders that pictures may be read from."""
    said = ", ".join(str(root) for root in roots)
    gone = [str(root) for root in roots if not root.is_dir()]
    if gone:
        return Finding("warn", "folders", f"pictures may come from {said}; there is no {', '.join(gone)}",
                       "correct PSEUDOWORD_ALLOWED_ROOTS")  # fmt: skip
    return Finding("ok", "folders", f"pictures may come from {said}")


def base(name: str) -> Finding:
    """Whether the base model is here. A hub's model that is not is not fetched."""
    from ti_core.backbone.folder import find_base, is_whole
    from ti_core.backbone.hub import hub_name

    hub = None if name == "miniature" or expanded(name).exists() else hub_name(name)
    if hub is None:
        return Finding("ok", "base model", f"{name} ({find_base(name).kind})")
    there = hub.cached(["model_index.json"])
    if there and is_whole(name, there):
        return Finding("ok", "base model", f"{name} is in the hub's cache")
    return Finding("warn", "base model", f"{name} is not in the hub's cache", "the first run downloads it")


def _asked(url: str, login: tuple[str, str] = ("", "")) -> tuple[int, Mapping[str, str]]:
    """Status and headers of an answer, be it a refusal. Raises PseudowordError where there is none."""
    request = urllib.request.Request(url)  # noqa: S310 (from settings that name http and https)
    if any(login):
        request.add_header("Authorization", "Basic " + b64encode(":".join(login).encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 (as above)
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, error.headers
    except OSError as error:
        raise PseudowordError(
            f"{url.partition('/api')[0]} does not answer ({getattr(error, 'reason', error)}): start it (ti up), or "
            "correct its address."
        ) from None
