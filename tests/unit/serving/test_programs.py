"""The programs of a stack: what is started, in which order, with which ports, environments and cards."""

import configparser
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flows.serving import programs as module
from flows.serving.programs import cards_of, configuration, programs
from flows.serving.stack import Stack
from flows.serving.supervising import taken
from ti_core.errors import InputError


def test_servers_come_before_workers_and_one_worker_has_one_card() -> None:
    them = programs(Stack(postgres="postgresql://u:p%40@db:5433"), ["0", "3"])
    assert [one.name for one in them][:5] == ["store", "mlflow", "prefect", "gpu-0", "gpu-1"]
    gpus = [one for one in them if one.name.startswith("gpu")]
    assert [one.environment["CUDA_VISIBLE_DEVICES"] for one in gpus] == ["0", "3"]
    assert all(one.worker for one in gpus)
    by_name = {one.name: one.environment for one in them}
    assert by_name["mlflow"]["MLFLOW_BACKEND_STORE_URI"] == "postgresql://u:p%40@db:5433/mlflow"
    assert by_name["prefect"]["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == "postgresql+asyncpg://u:p%40@db:5433/prefect"


def test_a_bucket_of_one_s_own_starts_no_store() -> None:
    assert "store" not in [one.name for one in programs(Stack(store="s3://team/words"), [""])]


def test_no_secret_stands_on_a_command_line() -> None:
    stack = Stack(auth=True, postgres="postgresql://u:pass-word@db")
    for one in programs(stack, [""]):
        words = " ".join(one.command)
        assert not any(secret in words for secret in (stack.secret_key, stack.password, "pass-word")), one.name


REFUSED = """
import httpx, logging
from prefect.logging.configuration import setup_logging
setup_logging()
request = httpx.Request("POST", "https://user:first@hooks.example.com/services/second?key=third")
try:
    httpx.Response(500, request=request).raise_for_status()
except httpx.HTTPStatusError as error:
    logging.getLogger("prefect.server.utilities.messaging.memory").exception("Failed: %s", error)
"""


def test_prefect_s_log_keeps_the_addresses_of_alerts_to_itself(tmp_path: Path) -> None:
    (server,) = [one for one in programs(Stack(), [""]) if one.name == "prefect"]
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", REFUSED], env=kept | server.environment | {"PREFECT_HOME": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Traceback" in done.stderr and "hooks.example.com/…" in done.stderr
    assert not any(secret in done.stderr for secret in ("first", "second", "third"))


def test_what_is_not_installed_is_told_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"SeaweedFS is not installed here: .*--store s3://bucket/prefix"):
        programs(Stack(), [""])


def test_the_supervisor_reads_back_what_was_meant() -> None:
    """A percent sign is special to it."""
    them = programs(Stack(postgres="postgresql://u:p%40@db"), ["0"])
    read = configparser.ConfigParser()
    read.read_string(configuration(them))
    for place, one in enumerate(them):
        section = read[f"program:{one.name}"]
        assert shlex.split(section["command"])[3:] == one.command
        assert section.getint("priority") == place
        for name, value in one.environment.items():
            assert f'{name}="{value}"' in section["environment"]


@pytest.mark.parametrize(
    ("visible", "stack", "cards"),
    [
        ("", Stack(), [""]),
        ("0,1,2", Stack(), ["0"]),
        ("0,1,2", Stack(postgres="postgresql://db"), ["0", "1", "2"]),
        ("0,1,2", Stack(postgres="postgresql://db", workers=2), ["0", "1"]),
    ],
)
def test_one_worker_for_each_card_and_one_alone_on_sqlite(
    visible: str, stack: Stack, cards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cards_of(stack) == cards


def test_more_workers_than_cards_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(InputError, match="2 GPU workers need 2 cards, and there are 1"):
        cards_of(Stack(postgres="postgresql://db", workers=2))


def test_who_has_a_port_is_named() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert "process" in taken("127.0.0.1", port) or taken("127.0.0.1", port) == "another program"
    assert taken("127.0.0.1", port) == ""
