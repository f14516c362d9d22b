"""The embedded start in processes of its own: awkward folders, proxies, company, a busy machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.starting import settings_of
from flows.embedded import LOOPBACK, check_tracking, named_server, spare_loopback
from ti_core.errors import InputError, ServiceError
from ti_core.settings import starting

ROOT = Path(__file__).parents[2]
START = """
import json, os
from flows.cli.starting import settings_of, start_services
from ti_core.errors import PseudowordError
settings = settings_of(None)
try:
    start_services(settings)
except PseudowordError as error:
    print(error)
    raise SystemExit(1)
from prefect import flow
from ti_core.registry import Registry
@flow
def three():
    return 3
print(json.dumps({"three": three(), "proxies": [name for name in os.environ if name.lower().endswith("_proxy")]}))
"""
# Nothing listens on the discard port, so whatever goes there fails at once.
PROXIES = {"ALL_PROXY": "socks5://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "127.0.0.1:9"}


def start(home: Path, **environment: str) -> subprocess.Popen[str]:
    given = {
        "PATH": os.environ["PATH"], "HOME": str(home.parent), "PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "true",
        "PSEUDOWORD_HOME": str(home),
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", START], text=True, cwd=home.parent, env=given | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("start") / "my data 100%20 %x #1?" / "home"


@pytest.fixture(scope="module")
def two(awkward: Path) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of two processes that start on one new folder together, behind dead proxies."""
    awkward.parent.mkdir()
    processes = [start(awkward, **PROXIES) for _ in range(2)]
    ended = [process.communicate(timeout=240) for process in processes]
    return [(process.returncode, *texts) for process, texts in zip(processes, ended, strict=True)]


def test_two_start_on_one_new_folder_behind_proxies(two: list[tuple[int, str, str]]) -> None:
    for code, out, err in two:
        assert (code, err) == (0, "")
        told = json.loads(out.splitlines()[-1])
        assert told["three"] == 3
        assert sorted(told["proxies"]) == ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "no_proxy"]


def test_both_databases_lie_in_the_folder_whatever_its_name(two: list[tuple[int, str, str]], awkward: Path) -> None:
    assert two
    assert (awkward / "mlflow.db").is_file()
    assert (awkward / "prefect/prefect.db").is_file()


def test_an_api_that_takes_too_long_is_told_with_the_variable_that_helps(tmp_path: Path) -> None:
    process = start(tmp_path / "home", PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="1")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (1, "")
    (line,) = out.splitlines()
    assert line.startswith("Prefect's own API did not answer within 1 seconds: on a busy machine")
    assert "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS" in line


def test_a_far_server_behind_a_proxy_that_prefect_cannot_use(tmp_path: Path) -> None:
    process = start(tmp_path / "home", ALL_PROXY="socks://127.0.0.1:9", PREFECT_API_URL="http://far.invalid/api")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (1, "")
    assert out.startswith("Prefect's client cannot use the proxy in ALL_PROXY to reach http://far.invalid/api")


@pytest.mark.parametrize(("given", "kept"), [({}, ""), ({"NO_PROXY": "a.b, localhost"}, "a.b,localhost,")])
def test_loopback_is_spared_once(given: dict[str, str], kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    spare_loopback()
    spare_loopback()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"]
    assert os.environ["no_proxy"].startswith(kept)
    assert sorted(set(os.environ["no_proxy"].split(",")) - {"a.b"}) == sorted(LOOPBACK)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made or written"), starting(tmp_path / "file/home"):
        pass


def test_no_library_reports_usage_unless_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "")  # so that it is put back afterwards
    monkeypatch.delenv("DO_NOT_TRACK")
    settings_of(None)
    assert os.environ["DO_NOT_TRACK"] == "true", "the one word that MLflow accepts"
    monkeypatch.setenv("DO_NOT_TRACK", "false")
    settings_of(None)
    assert os.environ["DO_NOT_TRACK"] == "false"


@pytest.mark.parametrize("address", ["http://[bad", "http://127.0.0.1:port"])
def test_what_is_no_address_is_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", address)
    with pytest.raises(ServiceError, match="PREFECT_API_URL is"):
        named_server()
    with pytest.raises(ServiceError, match="correct PSEUDOWORD_TRACKING_URI"):
        check_tracking(address)
