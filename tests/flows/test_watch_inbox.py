"""The look at the inbox: what it starts, what it tells once, and what it leaves alone."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.states import State

from flows.train_concept import train_concept
from flows.watch_inbox import watch_inbox
from tests.flows.moss import MOSS, TRAINING, Run
from ti_core import inbox
from ti_core.errors import ServiceError


@pytest.fixture
def dropped(at_home: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An inbox with the moss, a concept of its own words, a bad name, a folder without a picture, and a loose file. Two
    looks are enough."""
    folder = at_home.home / "store/inbox"
    for one in (folder, at_home.home / "store/looks"):
        shutil.rmtree(one, ignore_errors=True)
    shutil.copytree(MOSS, folder / "moss")
    (folder / "moss/concept.toml").unlink()
    shutil.copytree(MOSS.parent / "ninja", folder / "ninja")
    (folder / "ninja/concept.toml").write_text('class_word = "person"\nsteps = 40\ntags = "small"\n')
    shutil.copytree(MOSS, folder / "Bad Name")
    (folder / "text").mkdir()
    (folder / "text/1.png").write_text("words")
    (folder / "lost.png").write_text("words")
    monkeypatch.setattr(inbox, "SETTLED", timedelta(0))
    return folder


def look(**given: str) -> State:
    return watch_inbox(**given, return_state=True)


def started() -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=["inbox"])))


def test_a_new_folder_starts_a_run_once_and_what_cannot_be_trained_is_told_once(
    at_home: Run, dropped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_concept.to_deployment(name="train-concept").apply()
    assert look(class_word="monster").name == "Nothing new", "one look cannot tell whether all of it is there"
    state = look(class_word="monster", preset="quick")
    assert state.is_failed() and state.name == "Partly failed: 3 of 5"
    assert str(state.message) == ("failed 3, started 2. failed: Bad Name, files, text. started: moss, ninja")
    rows = {name: reason for name, _, reason in state.result(raise_on_failure=False)}
    assert "cannot name a concept" in rows["Bad Name"] and "No usable picture" in rows["text"]
    runs = {run.parameters["name"]: run for run in started()}
    assert runs["moss"].parameters == {
        "name": "moss", "pictures": str(dropped / "moss"), "class_word": "monster", "preset": "quick"
    }  # fmt: skip
    ninja = runs["ninja"].parameters
    assert (ninja["class_word"], ninja["training"], ninja["details"]) == ("person", {"steps": 40}, {"tags": "small"})
    assert runs["ninja"].deployment_id and runs["ninja"].state is not None and runs["ninja"].state.is_scheduled()
    state = look(class_word="monster")
    assert state.is_completed() and state.name == "Nothing new" and len(started()) == 2


def test_a_team_s_inbox_starts_runs_of_that_team(at_home: Run, dropped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_concept.to_deployment(name="train-concept").apply()
    look(class_word="monster")
    look(class_word="monster")
    before = {run.id for run in started()}
    monkeypatch.setenv("PSEUDOWORD_NAMESPACE", "team-a")
    shutil.copytree(dropped, at_home.home / "store/namespaces/team-a/inbox")
    look(class_word="monster")
    look(class_word="monster")
    runs = [run for run in started() if run.id not in before]
    assert {run.parameters["name"] for run in runs} == {"moss", "ninja"}
    assert all(run.job_variables == {"env": {"PSEUDOWORD_NAMESPACE": "team-a"}} for run in runs)


def test_what_was_taken_down_may_be_lost_and_nothing_is_started_twice(at_home: Run, dropped: Path) -> None:
    """As when a look dies between starting a run and noting it."""
    train_concept.to_deployment(name="train-concept").apply()
    shutil.rmtree(dropped / "text")
    look()
    before = look().result(raise_on_failure=False)
    shutil.rmtree(at_home.home / "store/looks/taken")
    again = look().result(raise_on_failure=False)
    assert [row for row in again if row[1] == "started"] == [row for row in before if row[1] == "started"] != []


def test_what_has_an_outcome_is_not_started(at_home: Run, dropped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ninja", "Bad Name", "text"):
        shutil.rmtree(dropped / name)
    (dropped / "lost.png").unlink()
    (dropped / "moss/concept.toml").write_text(f'class_word = "monster"\nsteps = {TRAINING.steps}\n')
    # The rest of how the moss was trained and judged is no business of a folder's.
    monkeypatch.setattr("ti_core.stations.known", lambda *_: [at_home.outcome])
    count = len(started())
    look()
    state = look()
    assert (state.name, state.is_completed()) == ("Nothing new", True) and len(started()) == count
    (row,) = state.result()
    assert row[:2] == ("moss", "skipped") and row[2].startswith("Known: ")


def test_while_the_store_is_away_nothing_is_looked_at_and_nothing_is_lost(
    at_home: Run, dropped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look()

    def away(*_: object) -> None:
        raise ServiceError("The store does not answer.")

    monkeypatch.setattr("flows.watch_inbox.look_at", away)
    state = look()
    assert (state.name, state.is_failed(), str(state.message)) == ("Not looked", True, "The store does not answer.")
    assert not (at_home.home / "store/looks/taken").exists()
