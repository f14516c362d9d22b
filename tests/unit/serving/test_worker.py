"""A worker that is stopped ends its runs before it ends itself; the worker and its run are played by small scripts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

RUN = """
import signal, sys, time
deaf = sys.argv[1] == "deaf"
def end(*_):
    global deaf
    if deaf:
        deaf = False
        return
    time.sleep(0 if sys.argv[1] == "deaf" else float(sys.argv[1]))
    open("told", "a").write("told\\n")
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
open("begun", "w").close()
time.sleep(60)
"""
WORKER = """
import signal, subprocess, sys, time
run = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]])
def stop(*_):
    open("killed" if run.poll() is None else "ended", "w").close()
    run.kill()
    sys.exit(7)
signal.signal(signal.SIGINT, stop)
while True:
    time.sleep(0.05)
    run.poll()
"""
"""As Prefect's: what it still runs when it is interrupted is killed."""
PARENT = """
import sys
from flows.serving import worker
worker.GRACE_SECONDS, worker.AGAIN_SECONDS = float(sys.argv[1]), 1.5
sys.exit(worker.serve([sys.executable, "-c", *sys.argv[2:]]))
"""


class Parent:
    """The process under test, with a run that takes `seconds` to end, or is "deaf" to the first that it is told."""

    def __init__(self, folder: Path, grace: float, seconds: float | str) -> None:
        self.folder = folder
        words = [sys.executable, "-c", PARENT, str(grace), WORKER, RUN, str(seconds)]
        self.process = psutil.Popen(
            words, cwd=folder, process_group=0, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
        )
        self.wait_for("begun")

    def wait_for(self, name: str) -> None:
        until = time.monotonic() + 60
        while not (self.folder / name).exists():
            assert time.monotonic() < until
            time.sleep(0.02)

    def seen(self) -> set[str]:
        return {one.name for one in self.folder.iterdir()}


@pytest.fixture
def parents() -> Iterator[list[Parent]]:
    made: list[Parent] = []
    yield made
    for one in made:
        for process in [one.process, *one.process.children(recursive=True)] if one.process.is_running() else []:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_runs_end_first(parents: list[Parent], tmp_path: Path, number: signal.Signals) -> None:
    parents.append(parent := Parent(tmp_path, 50, 0.3))
    os.killpg(parent.process.pid, number)  # as a terminal does
    assert parent.process.wait(60) == 7
    assert parent.seen() == {"begun", "told", "ended"}
    assert (tmp_path / "told").read_text() == "told\n", "it is told once"


def test_a_run_that_does_not_end_is_not_waited_for_for_ever(parents: list[Parent], tmp_path: Path) -> None:
    parents.append(parent := Parent(tmp_path, 0.5, 60))
    parent.process.terminate()
    assert parent.process.wait(60) == 7
    assert parent.seen() == {"begun", "killed"}


def test_a_run_that_missed_it_is_told_again(parents: list[Parent], tmp_path: Path) -> None:
    parents.append(parent := Parent(tmp_path, 50, "deaf"))
    parent.process.terminate()
    assert parent.process.wait(60) == 7
    assert parent.seen() == {"begun", "told", "ended"}


def test_who_says_it_twice_does_not_want_to_wait(parents: list[Parent], tmp_path: Path) -> None:
    parents.append(parent := Parent(tmp_path, 50, 60))
    parent.process.terminate()
    time.sleep(0.5)
    parent.process.terminate()
    assert parent.process.wait(20) == 7
    assert parent.seen() == {"begun", "killed"}


def test_a_worker_that_ends_by_itself_ends_its_parent(tmp_path: Path) -> None:
    words = [sys.executable, "-c", PARENT, "50", "raise SystemExit(3)"]
    done = subprocess.run(words, cwd=Path(__file__).parents[3], check=False, timeout=60)
    assert done.returncode == 3


@pytest.mark.parametrize(("words", "said"), [([], "the following arguments are required"), (["disk", "x"], "disk")])
def test_a_wrong_command_line_is_told_in_a_sentence(words: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.serving.worker", *words], capture_output=True, text=True, check=False, timeout=60,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
