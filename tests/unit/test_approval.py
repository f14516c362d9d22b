"""What an approval sets going: the champion that came meanwhile is met, and what comes of it is told."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.builders import done, duel, judged
from ti_core.approval import approve
from ti_core.errors import InputError, ServiceError
from ti_core.progress import Ended, Event, listening
from ti_core.publishing.approving import awaiting
from ti_core.publishing.catalogue import champion_of
from ti_core.publishing.transaction import publish
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
