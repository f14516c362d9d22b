"""How the run of one concept ends in Prefect: a state of its own for each way, with the reason as its message; and what
reaches the work of a flow's parameters."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows import reevaluate as again
from flows import train_concept as module
from flows.train_concept import train_concept
from tasks.asking import CancelledError
from tests.builders import judged
from ti_core.config import EvaluationConfig, SelectionRule
from ti_core.errors import InputError, PausedError
from ti_core.records import Manifest, Outcome
from ti_core.store.folder import FolderStore
from ti_core.works import Work

CONCEPT = {"name": "cat-toy", "pictures": "pictures", "class_word": "toy"}


@pytest.fixture
def work(tmp_path: Path) -> Work:
    plan = judged(FolderStore(tmp_path)).plan
    outcome = Outcome(
        judge_key=plan.judge_key, train_key=plan.train_key, concept="cat-toy", base="miniature", status="published",
        reason="Why.", step=20, score=0.5, version=None, champion=False, run_id="", manifest="m",
    )  # fmt: skip
    return Work(0, "cat-toy", plan, outcome=outcome)


def ended(work: Work, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, str]:
    """Name, type and message of the final state when the line returns `work`."""
    monkeypatch.setattr(module, "run_line", lambda *_: [work])
    state = train_concept.fn(**CONCEPT)
    return str(state.name), state.type.value, str(state.message)


@pytest.mark.parametrize(
    ("status", "name"), [("published", "Completed"), ("rejected", "Rejected"), ("undecided", "Undecided")]
)
def test_the_state_tells_the_verdict(work: Work, monkeypatch: pytest.MonkeyPatch, status: str, name: str) -> None:
    assert work.outcome
    work = replace(work, outcome=work.outcome.model_copy(update={"status": status}))
    assert ended(work, monkeypatch) == (name, "COMPLETED", "Why.")
    assert ended(replace(work, known=True), monkeypatch)[0] == "Known"  # its alert was given then


def test_what_an_earlier_version_did_is_known_and_said_to_be(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    known = replace(work, known=True, plan=work.planned.model_copy(update={"judge_key": "0" * 32}))
    name, _, message = ended(known, monkeypatch)
    assert name == "Known" and message.startswith("An earlier version of Pseudoword did this on")


def test_spent_time_is_no_failure_to_be_alerted_of(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    paused = replace(work, outcome=None, error=PausedError("It is paused at step 3."))
    assert ended(paused, monkeypatch) == ("Paused", "FAILED", "It is paused at step 3.")
    failed = replace(work, outcome=None, error=InputError("No usable picture."))
    with pytest.raises(InputError, match="No usable picture"):
        ended(failed, monkeypatch)


def test_what_was_cancelled_says_so_and_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def cancelled(*_: object) -> list[Work]:
        raise CancelledError

    monkeypatch.setattr(module, "run_line", cancelled)
    state = train_concept.fn(**CONCEPT)
    assert (state.name, state.type.value) == ("Cancelled", "CANCELLED") and "goes on from its state" in str(
        state.message
    )


def test_what_was_not_given_to_judging_again_stays_ungiven(
    prefect_api: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect checks parameters, and must not make defaults of them: what is given replaces what the run had."""
    given: list[set[str]] = []

    def judge_again(old: Manifest, evaluation: EvaluationConfig, rule: SelectionRule, _clip: str) -> Manifest:
        given.extend([evaluation.model_fields_set, rule.model_fields_set])
        return old

    monkeypatch.setattr(again, "find_run", lambda *_: judged(FolderStore(tmp_path)))
    monkeypatch.setattr(again, "judge_again", judge_again)
    again.reevaluate("cat-toy", evaluation=EvaluationConfig(halving=False), rule=SelectionRule(confidence=0.95))
    again.reevaluate("cat-toy")
    assert given == [{"halving"}, {"confidence"}, set(), set()]
