"""`ti up` in an empty folder: everything answers, what is killed comes back, and `ti down` leaves no process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from flows.serving.life import end, leftovers
from flows.serving.programs import GRPC
from flows.serving.stack import Stack, kept
from flows.serving.supervising import Supervisor, answers, taken
from tests.servers import free_ports, plain_environment

pytestmark = pytest.mark.integration

TI = Path(sys.executable).with_name("ti")
PATIENCE = 1200.0
"""Seconds until a command counts as stuck. An idle machine needs a tenth of it."""


def store_port() -> int:
    """The first of five ports in a row that are free, as those of their second kind are."""

    def free(port: int) -> bool:
        return not any(taken("127.0.0.1", port + n + also) for n in range(5) for also in (0, GRPC))

    return next(port for port in range(23_000, 29_000, 5) if free(port))


def ti(folder: Path, *words: str | Path) -> str:
    """What the command says, in a terminal that has read env.sh if it is there."""
    script = '[ ! -f servers/env.sh ] || . servers/env.sh; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", TI, *words], cwd=folder, check=False, capture_output=True, text=True,
        timeout=PATIENCE, env=plain_environment(folder) | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose servers were started, from nothing."""
    # The path of a socket in it is longer than a socket's may be.
    folder = tmp_path_factory.mktemp("up") / "a name that is longer than it has to be, by far" / "and another one"
    folder.mkdir(parents=True)
    mlflow, prefect = free_ports(2)
    said = ti(
        folder, "up", "--s3-port", str(store_port()), "--mlflow-port", str(mlflow), "--prefect-port", str(prefect)
    )
    assert ". servers/env.sh" in said and f"http://127.0.0.1:{prefect}" in said
    yield folder
    end(list(leftovers(str(folder / "servers"))))


def stack_of(folder: Path) -> Stack:
    stack = kept(folder / "servers")
    assert stack is not None
    return stack


def test_again_is_told_and_starts_nothing(folder: Path) -> None:
    before = Supervisor(folder / "servers").pids()
    assert "up already" in ti(folder, "up")
    assert Supervisor(folder / "servers").pids() == before


def test_the_doctor_finds_nothing_wrong(folder: Path) -> None:
    found = {one["name"]: one for one in json.loads(ti(folder, "doctor", "--json"))}
    assert [one for one in found.values() if one["level"] == "fault"] == []
    assert {found[name]["level"] for name in ("store", "clock", "mlflow", "prefect", "workers")} == {"ok"}
    assert "gpu-0" in found["workers"]["said"]


def test_the_reader_s_key_reads_and_does_not_write(folder: Path) -> None:
    stack = stack_of(folder)
    client = boto3.session.Session().client(
        "s3", endpoint_url=stack.s3_url, region_name="us-east-1", aws_access_key_id=stack.reader_access_key,
        aws_secret_access_key=stack.reader_secret_key, config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    client.list_objects_v2(Bucket="words")
    with pytest.raises(ClientError, match="AccessDenied"):
        client.put_object(Bucket="words", Key="store/concepts/cat/champion.json", Body=b"{}")
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket="words", Key="store/concepts/cat/champion.json")


def test_a_server_that_is_killed_comes_back(folder: Path) -> None:
    """MLflow's own child outlives it and holds the port."""
    supervisor, url = Supervisor(folder / "servers"), f"{stack_of(folder).mlflow_url}/health"
    before = supervisor.pids()["mlflow"]
    os.kill(before, signal.SIGKILL)
    wait(lambda: supervisor.pids().get("mlflow", before) != before)
    wait(lambda: answers(url) and supervisor.states()["mlflow"] == "RUNNING")


def test_down_leaves_nothing_but_data(folder: Path) -> None:
    ti(folder, "down", "--drain")
    stack = stack_of(folder)
    assert list(leftovers(str(folder / "servers"))) == []
    assert not any(taken("127.0.0.1", port) for port in (stack.s3_port, stack.mlflow_port, stack.prefect_port))
    assert "were not running" in ti(folder, "down")
    assert (folder / "servers/prefect/prefect.db").is_file()
    assert stack_of(folder) == stack
