"""A supervisor that is being stopped, and what a killed one leaves behind. Real ones, over programs that only wait."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from flows.serving.life import alive, end, leftovers
from flows.serving.programs import Program, configuration
from flows.serving.supervising import CONFIGURATION, GoingDownError, Supervisor

SLOW = ["sh", "-c", "trap 'sleep 2; exit' TERM; echo up > up; while :; do sleep 0.1; done"]
"""Takes its time to stop."""


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The folder of a supervisor whose one program is up."""
    (tmp_path / "logs").mkdir()
    (tmp_path / CONFIGURATION).write_text(configuration([Program("gpu-0", SLOW)]))
    supervisor = Supervisor(tmp_path)
    supervisor.launch()
    supervisor.start("gpu-0")
    wait((tmp_path / "up").exists)
    yield tmp_path
    end(list(leftovers(str(tmp_path))))


def test_while_it_is_being_stopped_everything_is_told_in_a_sentence_and_stopping_waits(home: Path) -> None:
    supervisor = Supervisor(home)
    first = threading.Thread(target=supervisor.stop)
    first.start()
    wait(lambda: going_down(supervisor))
    for call in (supervisor.states, supervisor.pids, lambda: supervisor.start("gpu-0")):
        with pytest.raises(GoingDownError, match=r"are being stopped: wait until they are .*then try again\.$"):
            call()
    assert supervisor.stop()
    assert list(leftovers(str(home))) == []
    first.join()
    assert not supervisor.stop()


def going_down(supervisor: Supervisor) -> bool:
    try:
        return supervisor.states() == {}
    except GoingDownError:
        return True


def test_what_a_killed_supervisor_leaves_is_seen_and_stopped(home: Path) -> None:
    pid = int((home / "supervisor.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not psutil.pid_exists(pid))
    supervisor = Supervisor(home)
    assert supervisor.states() == {}
    supervisor.start("gpu-0")
    assert alive(str(home)) == {"gpu-0"}
    assert supervisor.stop()
    assert alive(str(home)) == set()
