"""Approval in Prefect, on a real API: the run is suspended while it waits, asks again where an answer cannot be done,
and hands on what needs a card; and the command that judges another step."""

import html
import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from markdown_it import MarkdownIt
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.flow_runs import resume_flow_run
from prefect.states import Pending, State

from flows import approve as module
from flows.approve import approve
from flows.cli import app, ending
from tasks.asking import ask_for_approval
from tests.flows.moss import Run
from ti_core.publishing.approving import awaiting, decline
from ti_core.publishing.catalogue import champion_of, manifest_at, outcome_of
from ti_core.publishing.pointer import champion_from
from ti_core.publishing.transaction import publish
from ti_core.records import Manifest, Outcome, champion_key, manifest_key, outcome_key
from ti_core.settings import Settings
from ti_core.store import Store, open_store
from ti_core.works import Work


@pytest.fixture
def store(moss: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The moss' store as it was before it was published, in a copy."""
    home = tmp_path / "home"
    shutil.copytree(moss.home, home)
    monkeypatch.setenv("PSEUDOWORD_HOME", str(home))
    store = open_store(Settings(home=home))
    plan = manifest_at(store, moss.outcome.manifest).plan
    store.delete(outcome_key(plan))
    if moss.outcome.champion:
        store.delete(champion_key("moss", "miniature"))
    return store


@pytest.fixture
def waiting(store: Store, moss: Run) -> Outcome:
    """The moss, accepted by the reporting set, awaits approval."""
    manifest = manifest_at(store, moss.outcome.manifest)
    accepted = manifest.model_copy(update={"report": manifest.report.model_copy(update={"verdict": "accepted"})})
    store.put(manifest_key(manifest.plan), accepted.to_bytes())
    return publish(store, accepted, moss.outcome.run_id, {}, asks=True)


@pytest.fixture
def begun(prefect_api: None, waiting: Outcome) -> Callable[[], State]:
    """Runs the flow as a worker would: a call begins it, and the next ones go on with it."""
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(approve)
        deployment = client.create_deployment(flow_id, f"approve-{uuid4()}")
        given = {"concept": "moss", "run": waiting.judge_key}
        made = client.create_flow_run_from_deployment(deployment, parameters=given)

    def begin() -> State:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(made.id, Pending())
            try:
                run_flow(approve, flow_run=client.read_flow_run(made.id), return_type="state")
            except Pause:
                pass
            return client.read_flow_run(made.id).state

    begin.run_id = made.id
    return begin


def answer(run_id: UUID, **given: object) -> None:
    resume_flow_run(run_id, run_input={"who": "ann", **given})


def test_it_waits_suspended_and_does_what_is_answered(begun, store: Store, waiting: Outcome) -> None:
    state = begun()
    assert state.name == "Suspended"
    one = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[begun.run_id]))
    with get_client(sync_client=True) as client:
        keys = {str(found.key) for found in client.read_artifacts(artifact_filter=one)}
        keyset = state.state_details.run_input_keyset
        asked = client.read_flow_run_input(begun.run_id, keyset["description"])
    assert {"sheet-moss", "scores-moss", "page-moss"} <= keys
    seen = html.unescape(re.sub("<[^>]*>", "", MarkdownIt().render(json.loads(asked))))
    assert "<moss> for miniature" in seen and waiting.reason in seen and "/store/blobs/" in seen
    with pytest.raises(Exception, match="decision"):
        resume_flow_run(begun.run_id, run_input={"who": "ann"})

    answer(begun.run_id, decision="take another step", step=7)
    assert begun().name == "Suspended", "it asks again"
    answer(begun.run_id, decision="approve", reason="as it should be")
    state = begun()
    assert (state.name, state.is_completed()) == ("Completed", True)
    assert "by ann: as it should be" in str(state.message)
    champion = champion_of(store, "moss", "miniature")
    assert champion and champion.judge_key == waiting.judge_key


def test_what_is_declined_or_decided_elsewhere_ends_it(begun, store: Store, waiting: Outcome) -> None:
    assert begun().name == "Suspended"
    answer(begun.run_id, decision="decline", reason="no")
    assert (state := begun()).name == "Declined" and "by ann: no" in str(state.message)
    assert outcome_of(store, manifest_at(store, waiting.manifest).plan).status == "declined"


def test_it_ends_where_somebody_has_decided_meanwhile(begun, store: Store, waiting: Outcome) -> None:
    assert begun().name == "Suspended"
    decline(store, waiting, "ben", "by the command")
    answer(begun.run_id, decision="approve")
    assert (state := begun()).name == "Nothing to approve" and "by ben: by the command" in str(state.message)


def test_another_step_is_a_run_of_its_own_on_a_card(begun, waiting: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(module, "started", lambda name, **how: asked.update(how, name=name))
    other = next(step for step in (10, 20) if step != waiting.step)
    begun()
    answer(begun.run_id, decision="take another step", step=other)
    assert begun().name == "Handed on"
    assert asked["name"] == "publish-approved/publish-approved"
    assert asked["parameters"]["step"] == other and asked["parameters"]["run"] == waiting.judge_key


def test_a_champion_that_came_meanwhile_is_met_on_a_card(
    begun, store: Store, waiting: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}
    monkeypatch.setattr(module, "started", lambda name, **how: asked.update(how, name=name))
    begun()
    other = champion_from(manifest_at(store, waiting.manifest), 1).model_copy(update={"judge_key": "0" * 32})
    store.create(champion_key("moss", "miniature"), other.to_bytes())
    answer(begun.run_id, decision="approve")
    state = begun()
    assert state.name == "Handed on" and "It meets version 1 first, which came meanwhile" in str(state.message)
    assert asked["parameters"] == {
        "concept": "moss", "base_model": "miniature", "run": waiting.judge_key, "step": 0, "who": "ann", "reason": "",
    }  # fmt: skip


def test_a_run_asks_once_for_each_word_where_there_is_a_deployment(prefect_api: None, waiting: Outcome) -> None:
    twin = waiting.model_copy(update={"concept": "twin"})
    works = [Work(0, "moss", outcome=waiting), Work(1, "dog"), Work(2, "twin", outcome=twin)]
    ask_for_approval(works)  # no deployment, and no fault
    with get_client(sync_client=True) as client:
        client.create_deployment(client.create_flow(approve), "approve")

    @flow(persist_result=False)
    def line() -> None:
        ask_for_approval(works)
        ask_for_approval(works)

    line()
    with get_client(sync_client=True) as client:
        made = [run for run in client.read_flow_runs() if run.name.endswith(" on miniature")]
    assert sorted(run.parameters["concept"] for run in made) == ["moss", "twin"]
    assert all(run.parameters["run"] == waiting.judge_key and run.parent_task_run_id is None for run in made)


def test_another_step_is_judged_and_told_honestly(
    store: Store, waiting: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    def ti(*words: str) -> tuple[int, dict[str, object]]:
        code = ending.ended(partial(app, [*words, "--json"], standalone_mode=False), True)
        return code, json.loads(capsys.readouterr().out)

    other = next(step for step in (10, 20) if step != waiting.step)
    code, told = ti("approve", "moss", "--step", "7")
    assert code == 1 and "no checkpoint of step 7: there are 10, 20" in told["error"]["message"]
    code, told = ti("approve", "moss", "--step", str(other), "--who", "ann")
    made = Outcome.model_validate(told)
    kept: Manifest = manifest_at(store, made.manifest)
    assert (made.step, kept.decision.step, kept.plan.rule.step) == (other, other, other)
    assert made.judge_key != waiting.judge_key and "was asked for" in kept.decision.explanation
    champion = champion_of(store, "moss", "miniature")
    if kept.verdict == "accepted":
        assert code == 0 and champion and champion.judge_key == made.judge_key and awaiting(store) == []
    else:
        assert code in {3, 4} and made.status == kept.verdict and champion is None and awaiting(store) == [waiting]
