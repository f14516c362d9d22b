"""Progress in lines: what they say, and that there is one in ten seconds at most. A clock that the test moves."""

import subprocess
import sys
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from ti_core.progress import Judged, Lines, Stage, Trained, listening, tell


@dataclass
class Told:
    """Lines with a clock."""

    now: float = 0.0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lines = Lines(self.said.append, lambda: self.now)

    def at(self, now: float, event: Any) -> None:
        self.now = now
        self.lines(event)


def step(step: int, *, concept: str = "fox", done: int | None = None, total: int = 500) -> Trained:
    return Trained(f"key of {concept}", concept, step, 500, 0.1, 0.4, 9.0, step if done is None else done, total)


def judged(done: int, total: int, step: int = 40) -> Judged:
    what = f"step {step}" if step else "“animal”"
    return Judged("fox", what, SimpleNamespace(step=step), done, total)


def test_a_line_says_concept_station_step_share_and_time_left() -> None:
    told = Told()
    told.at(0, Stage("fox", "loading the base model"))
    told.at(20, step(10))
    told.at(30, step(60))
    told.at(130, step(260))
    told.at(200, step(500))
    assert told.said == [
        "fox: loading the base model",
        "fox: training, step 10 of 500 (2%)",
        "fox: training, step 60 of 500 (12%, about 88 s left)",
        "fox: training, step 260 of 500 (52%, about 2 min left)",
        "fox: training, step 500 of 500 (100%)",
    ]


def test_at_most_one_line_in_ten_seconds_whatever_is_told() -> None:
    told, seen = Told(), list[tuple[float, int]]()
    for tenth in range(1000):
        told.at(tenth / 10, step(tenth // 2) if tenth % 3 else Stage("fox", f"stage {tenth}"))
        seen.append((told.now, len(told.said)))
    assert len(told.said) == 10
    assert [now for (now, count), (_, before) in zip(seen[1:], seen, strict=False) if count > before] == [
        10.0 * number for number in range(1, 10)
    ]


def test_a_pack_tells_the_share_of_all_and_the_time_of_all() -> None:
    told = Told()
    told.at(0, step(250, concept="resumed", done=250, total=4000))
    told.at(5, step(10, concept="owl", done=300, total=4000))
    told.at(100, step(100, concept="fox", done=1250, total=4000))
    assert told.said == [
        "resumed: training, step 250 of 500 (6% of all)",
        "fox: training, step 100 of 500 (31% of all, about 5 min left)",  # 1000 steps took 100 s, 2750 are left
    ]


def test_judging_counts_sets_and_a_new_round_begins_anew() -> None:
    told = Told()
    for now, event in [(0, judged(1, 12, 0)), (100, judged(3, 12, 20)), (200, judged(1, 40)), (6000, judged(2, 40))]:
        told.at(now, event)
    assert told.said == [
        "fox: judging “animal”, 1 of 12 (8%)",
        "fox: judging step 20, 3 of 12 (25%, about 8 min left)",
        "fox: judging step 40, 1 of 40 (2%)",
        "fox: judging step 40, 2 of 40 (5%, about 61 h 13 min left)",
    ]


def test_who_listens_is_told_and_who_has_left_is_not() -> None:
    told = Told()
    with listening(told.lines):
        tell(Stage("fox", "choosing"))
    told.now = 100
    tell(Stage("fox", "publishing"))
    assert told.said == ["fox: choosing"]


PIPED = """
import sys, time
from flows.console import live
from ti_core import progress
progress.LINE_SECONDS = 0.3
with live(quiet="--json" in sys.argv):
    for step in range(1, 21):
        progress.tell(progress.Trained("key", "fox", step, 20, 0.1, 0.4, 9.0, step, 20))
        time.sleep(0.1)
        if "close" in sys.argv and step == 1:
            sys.stdin.readline()
print("done", file=sys.stderr)
"""


def piped(*arguments: str, **how: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PIPED, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how
    )


def test_through_a_pipe_lines_come_as_it_happens() -> None:
    process = piped()
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first == "fox: training, step 1 of 20 (5%)\n" and process.poll() is None, "it is still at work"
    began = time.monotonic()
    out, err = process.communicate(timeout=60)
    at_most = (time.monotonic() - began) / 0.3 + 1  # a busy machine sleeps longer, and has time for more lines
    assert 3 <= len(out.splitlines()) <= at_most and all("%" in line for line in out.splitlines())
    assert err == "done\n"


def test_a_reader_that_has_gone_ends_no_work() -> None:
    process = piped("close", stdin=subprocess.PIPE)
    assert process.stdout is not None and process.stdin is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.flush()
    assert "done" in process.stderr.read()
    process.wait(60)


def test_json_stays_one_value() -> None:
    assert piped("--json").communicate(timeout=60) == ("", "done\n")


@pytest.mark.parametrize("pipe", ["stdout", "stderr"])
def test_bars_are_for_terminals_alone(pipe: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """One stream a terminal, the other not: lines, and where nobody watches a bar."""
    from flows.console import live

    monkeypatch.setattr(sys.stdout, "isatty", lambda: pipe == "stderr", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: pipe == "stdout", raising=False)
    with live(quiet=False):
        tell(Stage("fox", "choosing"))
    assert getattr(capsys.readouterr(), {"stdout": "out", "stderr": "err"}[pipe]) == "fox: choosing\n"


def test_bars_show_all_concepts_in_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.console import Console
    from rich.progress import Progress

    from flows.console import _Bars

    bars = Progress(console=Console(file=io.StringIO()))
    shown = _Bars(bars)
    shown(Stage("fox", "training"))
    for done in range(1, 9):
        shown(step(done, concept="fox" if done % 2 else "owl", done=done, total=8))
    assert len(bars.tasks) == 2
    assert bars.tasks[1].completed == bars.tasks[1].total == 8
