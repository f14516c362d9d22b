"""kill -9 in the middle of training costs seconds and changes nothing: the next run ends with the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.exact.test_running import Line, line

STEPS = {"steps": 40, "checkpoint_every": 20, "batch_size": 8}
SCRIPT = f"""
import sys
from pathlib import Path
from tests.exact.test_running import line
from ti_core.training import keeping
keeping.STATE_SECONDS = 0.0
run = line(Path(sys.argv[1]), **{STEPS})
prepared = run.prepare()
print("ready", flush=True)
run.train(prepared)
"""


def newest_step(run: Line) -> int:
    names = [run.store.get(key).data for key in run.state_keys()]
    return max((int(data.split(b'"step":"')[1].split(b'"')[0]) for data in names), default=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    run = line(tmp_path_factory.mktemp("whole"), **STEPS)
    return run.train(run.prepare())


@pytest.mark.parametrize("least", [10, 20, 30])
def test_killed_at_any_time_it_goes_on_to_the_same_bits(
    least: int, whole: list[tuple[int, str]], tmp_path: Path
) -> None:
    run = line(tmp_path, **STEPS)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": "."},
    )
    until = time.monotonic() + 120
    while newest_step(run) < least:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert run.train(run.prepare()) == whole
    assert run.progress[0].step > least, "it did not begin anew"
