"""What an approval sets going: the champion that came meanwhile is met, and what comes of it is told."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.builders import done, duel, judged
from ti_core import approval
from ti_core.approval import approve
from ti_core.config import EvaluationConfig, SelectionRule
from ti_core.errors import InputError, ServiceError
from ti_core.line import Line
from ti_core.progress import Ended, Event, listening
from ti_core.publishing.approving import awaiting, decline
from ti_core.publishing.catalogue import champion_of, outcome_of
from ti_core.publishing.transaction import publish
from ti_core.records import Manifest, Plan
from ti_core.settings import Settings
from ti_core.stations import Stations
from ti_core.store import open_store
from ti_core.works import Work


@pytest.mark.parametrize("won", [True, False])
def test_a_champion_that_came_meanwhile_is_met_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, won: bool
) -> None:
    settings = Settings(home=tmp_path)
    store = open_store(settings)
    mine, came = judged(store), judged(store, seed=1)
    waiting = publish(store, mine, "run", {}, asks=True)
    done(store, came)

    def meet(_: Stations, works: list[Work]) -> list[Work]:
        (work,) = works
        assert (work.planned, work.chosen, work.ready) == (mine.plan, mine.checkpoints[0], mine.prepared)
        return [replace(work, duels={came.plan.judge_key: duel(mine, came.plan.judge_key, 0.1 if won else -0.1)})]

    monkeypatch.setattr(Stations, "evaluate_rivals", meet)
    told: list[Event] = []
    with listening(told.append):
        ended = approve(waiting, 0, "ann", "good", settings, store)
    assert (ended.status, ended.version, ended.champion) == ("published", 2, won)
    assert "judged on the same pictures they score" in ended.reason and "by ann: good" in ended.reason
    assert champion_of(store, "cat-toy", "miniature").judge_key == (mine if won else came).plan.judge_key
    assert [one.outcome for one in told if isinstance(one, Ended)] == [ended]


def test_what_cannot_be_judged_leaves_it_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path)
    store = open_store(settings)
    waiting = publish(store, judged(store), "run", {}, asks=True)
    done(store, judged(store, seed=1))
    fault = ServiceError("no card")
    monkeypatch.setattr(Stations, "evaluate_rivals", lambda _, works: [replace(works[0], error=fault)])
    with pytest.raises(ServiceError, match="no card"):
        approve(waiting, 0, "ann", "", settings, store)
    with pytest.raises(InputError, match="no checkpoint of step 7: there are 20, 40"):
        approve(waiting, 7, "ann", "", settings, store)
    assert awaiting(store) == [waiting]


@pytest.mark.parametrize("meanwhile", [False, True])
def test_another_step_that_is_accepted_is_published_and_the_run_that_waited_is_declined_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: bool
) -> None:
    """Whether or not somebody else has declined it `meanwhile`."""
    settings = Settings(home=tmp_path)
    store = open_store(settings)
    mine, other = judged(store), judged(store, seed=1)
    waiting = publish(store, mine, "run", {}, asks=True)
    step = next(one.step for one in mine.checkpoints if one.step != mine.decision.step)

    def judge_again(_: Line, old: Manifest, plan: Plan) -> Manifest:
        assert (old, plan) == (mine, other.plan)
        if meanwhile:
            decline(store, waiting, "ben", "no")
        return other

    def planned(plan: Plan, evaluation: EvaluationConfig, rule: SelectionRule, clip: str, _: Settings) -> Plan:
        assert (plan, rule, clip) == (mine.plan, SelectionRule(step=step), "")
        return other.plan

    monkeypatch.setattr(approval, "replan", planned)
    monkeypatch.setattr(Line, "judge_again", judge_again)
    ended = approve(waiting, step, "ann", "nicer", settings, store)
    assert (ended.status, ended.champion, ended.judge_key) == ("published", True, other.plan.judge_key)
    declined = outcome_of(store, mine.plan)
    assert declined.status == "declined" and awaiting(store) == []
    assert ("by ben: no" if meanwhile else f"by ann: nicer; step {step} was taken in its place") in declined.reason
