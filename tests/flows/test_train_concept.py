"""The flow of one concept on the miniature: its graph, its outcome, what it retries, how it goes on."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
)
from prefect.states import State

from flows.approve import approve, publish_approved
from flows.options import asked_of
from flows.reevaluate import reevaluate
from flows.train_batch import train_batch
from flows.train_concept import train_concept
from tests.flows.moss import EVALUATION, TRAINING, Run, task_runs
from ti_core import stations
from ti_core.config import SelectionRule
from ti_core.errors import InputError, ServiceError
from ti_core.progress import Event, Trained, listening
from ti_core.publishing.catalogue import known, manifest_of, outcomes_of
from ti_core.records import Manifest, Outcome, Plan, blob_key
from ti_core.settings import Settings
from ti_core.store import Store, open_store

GRAPH = {
    "ingest", "preprocess", "train", "evaluate class word", "evaluate step 10", "evaluate step 20", "select",
    "evaluate for the report", "evaluate the champions", "register",
}  # fmt: skip


def manifest(settings: Settings, outcome: Outcome) -> Manifest:
    """The manifest that an outcome names."""
    return Manifest.from_bytes(open_store(settings).get(outcome.manifest).data, outcome.manifest)


def again(run: Run, **changes: object) -> State:
    """Run the flow for the same concept with some of its fields changed."""
    concept = run.concept.model_copy(update=changes)
    return train_concept(**asked_of(concept), training=TRAINING, evaluation=EVALUATION, return_state=True)


# --- one run ----------------------------------------------------------------------------------------------------------


def test_the_graph_has_a_task_run_for_every_station_and_every_checkpoint(at_home: Run) -> None:
    found = task_runs(at_home.flow_run.id, len(GRAPH))
    assert set(found) == GRAPH
    assert all(run.state is not None and run.state.is_completed() for run in found.values())
    assert at_home.flow_run.name == "moss"


def test_the_graph_shows_what_follows_what(at_home: Run) -> None:
    found = task_runs(at_home.flow_run.id, len(GRAPH))

    def inputs(name: str) -> set[UUID]:
        return {one.id for many in found[name].task_inputs.values() for one in many if one.input_type == "task_run"}

    assert found["ingest"].id in inputs("preprocess")
    assert found["preprocess"].id in inputs("train")
    assert found["train"].id in inputs("evaluate class word") & inputs("evaluate step 10") & inputs("evaluate step 20")
    assert {found["evaluate step 10"].id, found["evaluate step 20"].id} <= inputs("select")
    assert found["select"].id in inputs("evaluate for the report")
    assert found["evaluate the champions"].id in inputs("register")


def test_the_outcome_is_recorded_with_all_that_it_names(at_home: Run) -> None:
    store = open_store(at_home.settings)
    assert outcomes_of(store, "moss", "miniature") == [at_home.outcome]
    kept = manifest(at_home.settings, at_home.outcome)
    assert kept == manifest_of(store, kept.plan)
    assert [one.step for one in kept.checkpoints] == [one.step for one in kept.scores] == [10, 20]
    assert kept.decision.step == at_home.outcome.step in (10, 20)
    assert kept.report.score == at_home.outcome.score
    assert len(kept.scores[0].clip_i.seeds) == 2
    for sha256 in (*(file.sha256 for file in kept.files), kept.page, *(s.strip for s in kept.scores)):
        assert store.exists(blob_key(sha256))
    page = at_home.home / f"pages/moss.miniature.{at_home.outcome.judge_key[:12]}.html"
    assert page.read_bytes() == store.get(blob_key(kept.page)).data


def test_training_moved_the_word_towards_its_pictures(at_home: Run) -> None:
    """Real learning, even in 20 steps: on both prompt sets the new word looks more like the pictures than the class."""
    kept = manifest(at_home.settings, at_home.outcome)
    assert kept.scores[-1].clip_i.mean > kept.anchors.class_word.clip_i.mean
    assert kept.report.chosen.clip_i.mean > kept.report.anchors.class_word.clip_i.mean


def test_artifacts_show_progress_scores_pictures_and_the_page(at_home: Run) -> None:
    own = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[at_home.flow_run.id]))
    with get_client(sync_client=True) as client:
        found = {one.key: one for one in client.read_artifacts(artifact_filter=own)}
    assert set(found) == {"training-moss", "scores-moss", "sheet-moss", "page-moss"}
    assert found["training-moss"].type == "progress" and float(found["training-moss"].data) == 100.0
    assert found["scores-moss"].type == "table"
    chosen = [row["step"] for row in json.loads(found["scores-moss"].data) if row["chosen"]]
    assert chosen == [at_home.outcome.step]
    assert found["sheet-moss"].type == "image" and "data:image/png;base64," in str(found["sheet-moss"].data)
    assert f"moss.miniature.{at_home.outcome.judge_key[:12]}.html" in str(found["page-moss"].data)


def test_the_tracking_server_has_the_run_and_a_model_per_checkpoint(at_home: Run) -> None:
    import mlflow

    mlflow.set_tracking_uri(at_home.settings.mlflow_uri)
    client = mlflow.MlflowClient(at_home.settings.mlflow_uri)
    run = client.get_run(at_home.outcome.run_id)
    assert run.info.status == "FINISHED" and run.data.tags["outcome"] == at_home.outcome.status
    assert sorted(output.step for output in run.outputs.model_outputs) == [10, 20]
    assert {metric.step for metric in client.get_metric_history(at_home.outcome.run_id, "loss")} >= {10, 20}


# --- the same work again ----------------------------------------------------------------------------------------------


def test_the_same_work_is_not_done_again(at_home: Run, caplog: pytest.LogCaptureFixture) -> None:
    events: list[Event] = []
    with listening(events.append), caplog.at_level(logging.INFO, "ti_core.progress"):
        state = again(at_home)
    assert "moss: reading pictures" in caplog.messages, "progress is in the log too"
    assert state.name == "Known" and state.is_completed()
    assert state.result() == at_home.outcome
    assert not [event for event in events if isinstance(event, Trained)]
    assert set(task_runs(state.state_details.flow_run_id, 1)) == {"ingest"}


def test_pictures_of_another_place_are_the_same_work(at_home: Run, tmp_path: Path) -> None:
    for number, picture in enumerate(sorted(Path(at_home.concept.pictures).glob("*.png"), reverse=True)):
        (tmp_path / f"other-{number}.png").write_bytes(picture.read_bytes())
    assert again(at_home, pictures=str(tmp_path)).result() == at_home.outcome


def test_judging_again_leaves_the_outcome_as_it_is(at_home: Run) -> None:
    state = reevaluate("moss", "miniature", rule=SelectionRule(name="fidelity", floor=0.0), return_state=True)
    made = state.result()
    first = manifest(at_home.settings, at_home.outcome)
    assert made.scores == first.scores and made.plan.judge_key != first.plan.judge_key
    assert made.decision.rule.name == "fidelity" and state.message == made.report.reason
    judged = {"evaluate class word", "evaluate step 10", "evaluate step 20", "select", "evaluate for the report"}
    assert set(task_runs(state.state_details.flow_run_id, 8)) == {"find run", "recall", "keep"} | judged
    assert at_home.outcome in outcomes_of(open_store(at_home.settings), "moss", "miniature")
    page = at_home.home / f"pages/moss.miniature.{made.plan.judge_key[:12]}.html"
    assert b"moss" in page.read_bytes()


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_failing_ingest_fails_the_flow_with_its_sentence_and_is_not_tried_again(at_home: Run, tmp_path: Path) -> None:
    state = again(at_home, name="nothing", pictures=str(tmp_path))
    assert state.is_failed()
    with pytest.raises(InputError, match=f"No usable picture in {tmp_path}"):
        state.result()
    (ingest,) = task_runs(state.state_details.flow_run_id, 1).values()
    assert (ingest.name, ingest.run_count) == ("ingest", 1)
    assert ingest.state is not None and "No usable picture" in str(ingest.state.message)
    assert list(open_store(at_home.settings).keys("concepts/nothing")) == []


def failing(error: Exception, times: int) -> Callable[[Store, Sequence[Plan], bool], list[Outcome | None]]:
    """Looks for what is known, but fails at first."""
    left = [error] * times

    def looked(store: Store, plans: Sequence[Plan], renew: bool) -> list[Outcome | None]:
        if left:
            raise left.pop()
        return known(store, plans, renew)

    return looked


def test_a_service_that_is_silent_once_is_tried_again(at_home: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stations, "known", failing(ServiceError("The store does not answer."), times=1))
    state = again(at_home)
    assert state.result() == at_home.outcome
    assert task_runs(state.state_details.flow_run_id, 1)["ingest"].run_count == 2


def test_bad_input_is_not_tried_again(at_home: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stations, "known", failing(InputError("The store is misspelt."), times=1))
    state = again(at_home)
    assert state.is_failed()
    with pytest.raises(InputError, match="misspelt"):
        state.result()


def test_a_stopped_training_goes_on_from_its_last_checkpoint(prefect_api: None, moss: Run) -> None:
    """Stopped by Ctrl-C just before the second checkpoint; the next run begins where the first one was kept."""

    def stop(event: Event) -> None:
        if isinstance(event, Trained) and event.step == 20:
            raise KeyboardInterrupt

    told: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, Trained):
            told.append(event.step)

    with listening(listen), listening(stop), pytest.raises(KeyboardInterrupt):
        train_concept(**asked_of(moss.concept), training=TRAINING, evaluation=EVALUATION)
    assert told == [10, 20]
    told.clear()
    with listening(listen):
        outcome = train_concept(**asked_of(moss.concept), training=TRAINING, evaluation=EVALUATION)
    assert told == [20]
    fresh, first = manifest(Settings(), outcome), manifest(moss.settings, moss.outcome)
    assert fresh.plan.train_key == first.plan.train_key
    assert [one.vectors for one in fresh.checkpoints] == [one.vectors for one in first.checkpoints]


# --- the form ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", [train_concept, train_batch, reevaluate, approve, publish_approved])
def test_every_parameter_of_the_form_has_a_title_a_description_and_its_own_place(flow: object) -> None:
    schema = flow.parameters.model_dump()
    for properties in (schema["properties"], *(one["properties"] for one in schema["definitions"].values())):
        for name, shown in properties.items():
            # What a form says of a nested model, it takes from the model where the parameter says nothing else.
            model = schema["definitions"].get(str(shown.get("$ref")).rpartition("/")[2], {})
            assert (model | shown)["title"] not in ("", name), name
            assert (model | shown)["description"], name
            # No form shows "this or nothing" well; a constant or a group it does.
            assert "anyOf" not in shown or shown["anyOf"][0]["const"] == shown["default"], name
        places = [shown["position"] for shown in properties.values()]
        assert places == sorted(set(places))
