"""What is refused before anything is started or kept, and what a stack that runs allows."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.serving.life import alive, end, leftovers
from flows.serving.programs import Program, configuration, programs
from flows.serving.running import bring_up, take_down
from flows.serving.stack import STACK, Options, Stack, keep
from flows.serving.supervising import CONFIGURATION, Supervisor
from ti_core.errors import InputError, NotFoundError, ServiceError
from ti_core.settings import starting

OWN = Stack(store="s3://team/words", mlflow_port=31_950, prefect_port=31_951)
"""A stack that needs no SeaweedFS."""


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a card, whose environment is put back."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    nobody = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    monkeypatch.setattr(
        os, "environ", kept | nobody | {"CUDA_VISIBLE_DEVICES": "", "AWS_EC2_METADATA_DISABLED": "true"}
    )


@pytest.fixture
def busy() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listening:
        for port in range(31_000, 31_900):
            try:
                listening.bind(("127.0.0.1", port))
                break
            except OSError:
                continue
        listening.listen()
        yield port


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """The folder of a stack whose supervisor runs over a worker that only waits, and nothing else."""
    home = tmp_path / "running"
    (home / "logs").mkdir(parents=True)
    keep(OWN, home)
    (home / CONFIGURATION).write_text(configuration([Program("gpu-0", ["sleep", "600"])]))
    supervisor = Supervisor(home)
    supervisor.launch()
    supervisor.start("gpu-0")
    while "gpu-0" not in alive(str(home)):  # it is started, but on a busy machine not yet there
        time.sleep(0.05)
    yield home
    end(list(leftovers(str(home))))


@pytest.mark.parametrize("option", ["mlflow_port", "prefect_port"])
def test_a_taken_port_is_told_before_anything_is_kept(option: str, busy: int, tmp_path: Path) -> None:
    home, told = tmp_path / "servers", list[str]()
    asked = Options.model_validate(
        {"store": "s3://team/words", "mlflow_port": 31_950, "prefect_port": 31_951} | {option: busy}
    )
    with pytest.raises(InputError, match=f"Port {busy}, which .* needs, is taken by .*--{option.replace('_', '-')}"):
        bring_up(home, asked, told.append)
    assert not (home / STACK).exists()
    assert told == []


@pytest.mark.parametrize("host", ["::1", "192.0.2.7", "no-such-host.invalid", ".."])
def test_a_host_on_which_nothing_can_listen_is_told_before_anything_is_kept(host: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Nothing can listen on --host .*name an IPv4 address of this machine"):
        bring_up(tmp_path, Options(store="s3://team/words", host=host, auth=True), print)
    assert not (tmp_path / STACK).exists()


def test_a_store_of_one_s_own_is_looked_at_before_anything_is_kept(tmp_path: Path) -> None:
    asked = Options(store="s3://team/words", mlflow_port=31_950, prefect_port=31_951)
    with pytest.raises(ServiceError, match="no credentials for the store s3://team/words"):
        bring_up(tmp_path, asked, print)
    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
                   "PSEUDOWORD_S3_ENDPOINT_URL": "http://127.0.0.1:9"}  # fmt: skip
    with pytest.raises(ServiceError, match="s3://team/words does not answer"):
        bring_up(tmp_path, asked, print)
    assert not (tmp_path / STACK).exists()


def test_of_two_at_once_the_second_sees_what_the_first_has_kept(tmp_path: Path, busy: int) -> None:
    """The port that it is told to need is the first one's."""
    told = list[str]()

    def second() -> None:
        try:
            bring_up(tmp_path, Options(), told.append)
        except InputError as error:
            told.append(str(error))

    thread = threading.Thread(target=second)
    with starting(tmp_path):
        thread.start()
        time.sleep(0.5)
        keep(OWN.model_copy(update={"mlflow_port": busy}), tmp_path)
    thread.join(60)
    assert [f"Port {busy}" in words for words in told] == [True]


def test_other_options_than_those_that_run_are_refused_and_change_nothing(running: Path) -> None:
    before = (running / STACK).read_text()
    for asked, option in [(Options(mlflow_port=31_960), "--mlflow-port"), (Options(auth=True), "--auth"),
                          (Options(postgres="postgresql://db", workers=1), "--postgres, --workers"),
                          (Options(store="s3://other"), "--store")]:  # fmt: skip
        with pytest.raises(InputError, match=f"are up with another {option}: run ti down, then this command again"):
            bring_up(running, asked, print)
    assert (running / STACK).read_text() == before
    assert alive(str(running)) == {"gpu-0"}


def test_other_programs_than_those_that_run_are_refused(running: Path) -> None:
    with pytest.raises(InputError, match="other cards, or from another installation: run ti down, then ti up"):
        bring_up(running, Options(), print)
    (running / CONFIGURATION).write_text(configuration(programs(OWN, [""])))
    with pytest.raises(ServiceError, match="no credentials"):  # so the programs were those
        bring_up(running, Options(), print)


def test_servers_whose_stack_is_gone_are_not_taken_for_another_and_can_be_stopped(running: Path) -> None:
    (running / STACK).unlink()
    with pytest.raises(InputError, match=r"stack\.json is gone: run ti down"):
        bring_up(running, Options(store="s3://team/words"), print)
    assert take_down(running, False, print)
    assert alive(str(running)) == set()


def test_a_drain_stops_nothing_where_nobody_knows_what_workers_do(running: Path) -> None:
    with pytest.raises(ServiceError, match=r"nothing was stopped: start it with ti up, or stop all at once"):
        take_down(running, True, print)
    assert alive(str(running)) == {"gpu-0"}
    assert take_down(running, False, print)
    assert not take_down(running, True, print)


def test_a_database_that_cannot_be_entered_is_told_before_anything_is_kept(tmp_path: Path) -> None:
    home = tmp_path / "servers"
    asked = Options(
        store="s3://team/words", mlflow_port=31_950, prefect_port=31_951, postgres="postgresql://u:secret@127.0.0.1:9"
    )
    with pytest.raises(InputError, match="The database mlflow of --postgres cannot be used") as told:
        bring_up(home, asked, print)
    assert "secret" not in str(told.value)
    assert not (home / STACK).exists()


def test_down_where_nothing_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"There are no servers in .*--home"):
        take_down(tmp_path / "servers", False, print)
