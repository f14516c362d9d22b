"""What `ti doctor` says of stores, versions, clocks, room and servers, each shown to it broken too."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.serving.doctor import GIB, Finding, bounded, folders, mlflow, packages, prefect, python, room, skew, store
from ti_core.errors import ServiceError
from ti_core.settings import Settings
from ti_core.store.base import Stored
from ti_core.store.folder import FolderStore

INSTALLED = dict.fromkeys(("torch", "diffusers", "transformers", "prefect", "mlflow"), "3.0") | {"fastapi": "0.150.2"}


class Forgetful(FolderStore):
    """A store that knows no conditional writes, as some that speak S3."""

    def create(self, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True

    def replace(self, key: str, data: bytes, etag: str) -> None:
        self.put(key, data)


class Broken(FolderStore):
    def get(self, key: str) -> Stored:
        raise ServiceError("The store is away.")


def test_a_good_store_is_left_as_it_was(tmp_path: Path) -> None:
    place = FolderStore(tmp_path)
    assert store(place).level == "ok"
    assert list(place.keys("")) == []


def test_a_store_without_conditional_writes_is_a_fault(tmp_path: Path) -> None:
    place = Forgetful(tmp_path)
    found = store(place)
    assert found.level == "fault"
    assert "If-None-Match" in found.said and "If-Match" in found.said
    assert list(place.keys("")) == []


def test_a_probe_that_fails_midway_is_removed_and_told(tmp_path: Path) -> None:
    place = Broken(tmp_path)
    (found,) = bounded({"store": lambda: store(place)}, 30)
    assert found == Finding("fault", "store", "The store is away.")
    assert list(place.keys("")) == []


def test_a_check_that_hangs_or_breaks_does_not_hold_the_others() -> None:
    def broken() -> Finding:
        raise KeyError("x")

    let_go = threading.Event()
    began = time.monotonic()
    checks = {"slow": lambda: Finding("ok", str(let_go.wait(60)), ""), "broken": broken,
              "well": lambda: Finding("ok", "well", "")}  # fmt: skip
    found = bounded(checks, 0.5)
    let_go.set()
    assert time.monotonic() - began < 30
    assert [(one.level, one.name) for one in found] == [("fault", "slow"), ("fault", "broken"), ("ok", "well")]
    assert "KeyError" in found[1].said


@pytest.mark.parametrize(
    ("installed", "level", "said"),
    [
        (INSTALLED, "ok", "fastapi 0.150.2"),
        (INSTALLED | {"fastapi": "0.151.0"}, "fault", "fastapi 0.151.0"),
        ({"torch": "3.0"}, "fault", "missing: diffusers"),
        ({}, "fault", "none; missing: torch"),
    ],
)
def test_versions(installed: dict[str, str], level: str, said: str) -> None:
    found = packages(installed)
    assert found.level == level
    assert said in found.said
    assert bool(found.advice) == (level != "ok")


def test_python_clock_room_and_folders_have_their_limits(tmp_path: Path) -> None:
    assert [python(version).level for version in ((3, 10), (3, 11), (3, 13), (3, 14))] == ["fault", "ok", "ok", "fault"]
    assert [skew(off).level for off in (2.0, -61.0, 61.0, -901.0)] == ["ok", "warn", "warn", "fault"]
    assert "behind" in skew(-61.0).said
    assert [room("disk", free * GIB, "", (10 * GIB, GIB), "").level for free in (0, 5, 50)] == ["fault", "warn", "ok"]
    assert folders([tmp_path]).level == "ok"
    assert "nowhere" in folders([tmp_path, tmp_path / "nowhere"]).said


class Guarded(BaseHTTPRequestHandler):
    """A server that wants the name and password a:b, and is broken for everybody else's who has any."""

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        self.send_response({None: 401, "Basic YTpi": 200}.get(given, 500))
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def guarded() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_servers_that_answer_refuse_or_are_away(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tracking_uri=guarded)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    assert "refuses" in mlflow(settings).said and "refuses" in prefect(f"{guarded}/api").said
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "a")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "b")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "a:b")
    assert mlflow(settings).level == prefect(f"{guarded}/api").level == "ok"
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "a:c")
    assert "500" in prefect(f"{guarded}/api").said
    (away,) = bounded({"prefect": lambda: prefect("http://127.0.0.1:9/api")}, 30)
    assert away.level == "fault" and "does not answer" in away.said and "ti up" in away.said


def test_without_servers_nothing_is_missing() -> None:
    assert mlflow(Settings(tracking_uri="")).level == prefect("").level == "ok"
