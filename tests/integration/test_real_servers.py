"""The line as a team runs it: a bucket, a Prefect server with a coordinator and two workers, an MLflow server, readers
with S3 alone.

Everything is real and small: few steps, few pictures to judge. The first batch is run once; each test looks at one side
of what it left behind, and the last ones run work again that has an outcome.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import mlflow
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import Artifact, FlowRun

from tests.servers import S3Server, mlflow_server, plain_environment, prefect_server, prefect_worker, seaweedfs
from ti_core.publishing.catalogue import champion_of
from ti_core.records import Champion
from ti_core.settings import load_settings
from ti_core.store import open_store

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
CONCEPTS = {"goldie", "hook", "sparky"}
BROKEN = "zz-unreadable"
QUEUES = ["gpu-interactive", "gpu-batch"]
SMALL: dict[str, Any] = {
    "packing": {"pack_size": 2},
    "training": {"steps": 30, "checkpoint_every": 15, "batch_size": 8},
    "evaluation": {"seeds": 2, "sampler_steps": 4},
}
"""The least that gives words which are surely closer to their pictures than the class word is: the gains of these three
begin at 0.22, 0.38 and 0.46."""
PATIENCE = 600.0
"""Seconds until a flow run counts as stuck. An idle machine with two cores needs a fifth of it."""


@dataclass(frozen=True)
class Team:
    """What is running, seen through its public doors."""

    prefect: SyncPrefectClient
    mlflow: MlflowClient
    reader: Mapping[str, str]
    """The environment of somebody who only fetches words: the bucket and its key."""
    worker_logs: list[Path]

    def run(self, deployment: str, parameters: dict[str, Any]) -> FlowRun:
        """Start a flow run of a deployment, as the UI does, and wait until it has ended."""
        found = self.prefect.read_deployment_by_name(deployment)
        run = self.prefect.create_flow_run_from_deployment(found.id, parameters=parameters)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            run = self.prefect.read_flow_run(run.id)
            if run.state and run.state.is_final():
                return run
            time.sleep(1)
        raise TimeoutError(f"{deployment} is {run.state}; the ends of the workers' logs:\n{self._log_tail()}")

    def artifacts(self, run: UUID) -> list[Artifact]:
        """What a flow run shows in the UI."""
        return self.prefect.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        )

    def rows(self, batch: FlowRun) -> dict[str, dict[str, Any]]:
        """The batch's table by concept."""
        (table,) = [one for one in self.artifacts(batch.id) if one.key == "batch"]
        return {row["concept"]: row for row in json.loads(str(table.data))}

    def task_names(self, run: UUID) -> list[str]:
        """The names of a flow run's task runs."""
        one = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
        return sorted(task.name for task in self.prefect.read_task_runs(flow_run_filter=one))

    def packs(self, batch: UUID) -> list[FlowRun]:
        """The runs of a batch's packs, by name."""
        flow = FlowFilter(name=FlowFilterName(any_=["train-pack"]))
        parent = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[batch]))
        return sorted(self.prefect.read_flow_runs(flow_filter=flow, flow_run_filter=parent), key=lambda one: one.name)

    def _log_tail(self) -> str:
        return "\n".join(
            line for log in self.worker_logs for line in log.read_text(errors="replace").splitlines()[-20:]
        )


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    with ExitStack() as running:
        s3 = running.enter_context(seaweedfs(folder / "s3"))
        api = running.enter_context(prefect_server(folder / "prefect"))
        tracking = running.enter_context(mlflow_server(folder / "mlflow"))
        _upload_pictures(s3)
        reader = s3.environment | {"PSEUDOWORD_STORE": f"s3://{s3.bucket}/store"}
        people = plain_environment(folder) | {"PREFECT_API_URL": api, "PREFECT_HOME": str(folder / "prefect-client")}
        people["PATH"] = f"{Path(sys.executable).parent}:{people['PATH']}"
        setup = people | {"PSEUDOWORD_SOURCE": f"s3://{s3.bucket}/pictures"}
        subprocess.run([ROOT / "deployments" / "setup.sh"], env=setup, cwd=folder, check=True, timeout=300)
        work = people | reader | {
            "PSEUDOWORD_TRACKING_URI": tracking,
            "PSEUDOWORD_PRICE_PER_HOUR": "2",
            "HF_HUB_OFFLINE": "1",
            "OMP_WAIT_POLICY": os.environ["OMP_WAIT_POLICY"],
        }  # fmt: skip
        logs = []
        for name, queues, limit in [("coordinators", ["cpu"], 4), ("one", QUEUES, 1), ("two", QUEUES, 1)]:
            own = work | {"PSEUDOWORD_HOME": str(folder / name / "home")}  # as on machines of their own
            logs.append(running.enter_context(prefect_worker(folder / name, api, "pseudoword", own, queues, limit)))
        mlflow.set_tracking_uri(tracking)
        yield Team(SyncPrefectClient(api), MlflowClient(tracking), reader, logs)
    mlflow.set_tracking_uri(None)


def _upload_pictures(s3: S3Server) -> None:
    client = s3.client()
    for name in CONCEPTS:
        for file in (ROOT / "examples" / "concepts" / name).iterdir():
            client.put_object(Bucket=s3.bucket, Key=f"pictures/{name}/{file.name}", Body=file.read_bytes())
    client.put_object(Bucket=s3.bucket, Key=f"pictures/{BROKEN}/01.png", Body=b"not a picture")


@pytest.fixture(scope="module")
def first(team: Team) -> FlowRun:
    """The first batch, ended."""
    return team.run("train-batch/train-batch", SMALL)


@pytest.fixture
def champions(team: Team, first: FlowRun, monkeypatch: pytest.MonkeyPatch) -> dict[str, Champion]:
    """What the store says readers get."""
    for name, value in team.reader.items():
        monkeypatch.setenv(name, value)
    store = open_store(load_settings())
    found = {name: champion_of(store, name, "miniature") for name in CONCEPTS}
    return {name: champion for name, champion in found.items() if champion}


def test_one_broken_concept_is_named_and_stops_nobody(team: Team, first: FlowRun) -> None:
    assert first.state is not None
    assert (first.state.name, first.state.is_failed()) == ("Partly failed: 1 of 4", True)
    assert first.state.message == f"failed 1, published 3. failed: {BROKEN}"
    rows = team.rows(first)
    assert {name: row["outcome"] for name, row in rows.items()} == {BROKEN: "failed"} | dict.fromkeys(
        CONCEPTS, "published"
    )
    assert "01.png" in rows[BROKEN]["reason"]
    scores = [row["score"] for row in rows.values() if row["outcome"] == "published"]
    assert next(iter(rows)) == BROKEN  # worst first, though last in the bucket
    assert scores == sorted(scores)


def test_packs_go_to_both_workers_with_a_task_for_every_station_and_step(team: Team, first: FlowRun) -> None:
    packs = team.packs(first.id)
    assert [pack.name for pack in packs] == [f"{first.name} pack 1", f"{first.name} pack 2"]
    texts = [log.read_text(errors="replace") for log in team.worker_logs]
    assert {tuple(str(pack.id) in text for pack in packs) for text in texts[1:]} == {(True, False), (False, True)}
    assert first.work_queue_name == "cpu" and str(first.id) in texts[0]
    for pack in packs:
        judged = [task for task in team.task_names(pack.id) if task.startswith("evaluate step")]
        assert judged == ["evaluate step 15", "evaluate step 30"]
        assert len(team.task_names(pack.id)) == 10
        assert any(tag.startswith("batch:") and tag.endswith(str(first.id)[:8]) for tag in pack.tags)


def test_each_pack_and_concept_shows_its_work_in_prefect(team: Team, first: FlowRun) -> None:
    each = [team.artifacts(pack.id) for pack in team.packs(first.id)]
    there = [artifact for shown in each for artifact in shown]
    for shown in each:
        (bar,) = (artifact for artifact in shown if artifact.type == "progress")
        assert bar.data == 100 and str(bar.key).startswith("training")
    for name in CONCEPTS:
        shown = {one.key: one for one in there if str(one.key).endswith(f"-{name}") and one.type != "progress"}
        assert {key: artifact.type for key, artifact in shown.items()} == {
            f"scores-{name}": "table",
            f"sheet-{name}": "image",
            f"page-{name}": "markdown",
        }
        table = json.loads(str(shown[f"scores-{name}"].data))
        assert [row["step"] for row in table] == [15, 30]
        assert sum(row["chosen"] != "" for row in table) == 1


def test_mlflow_mirrors_the_batch(team: Team, first: FlowRun, champions: dict[str, Champion]) -> None:
    experiment = team.mlflow.get_experiment_by_name("pseudoword").experiment_id
    (parent,) = team.mlflow.search_runs([experiment], f"attributes.run_name LIKE '{first.name} %'")
    assert parent.info.status == "FINISHED"
    children = team.mlflow.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {run.info.run_name: run.info.status for run in children} == dict.fromkeys(CONCEPTS, "FINISHED")
    for run in children:
        name, run_id = run.info.run_name, run.info.run_id
        models = team.mlflow.search_logged_models([experiment], f"source_run_id = '{run_id}'")
        by_id = {model.model_id: int(model.params["step"]) for model in models}
        assert sorted(by_id.values()) == [15, 30]
        version = team.mlflow.get_model_version_by_alias(f"{name}.miniature", "champion")
        assert (int(version.version), version.run_id) == (champions[name].version, run_id)
        assert by_id[version.source.removeprefix("models:/")] == champions[name].step
        assert len(team.mlflow.get_metric_history(run_id, "loss")) > 0
        assert "page.html" in {artifact.path for artifact in team.mlflow.list_artifacts(run_id)}
        assert run.data.metrics["cost"] == pytest.approx(run.data.metrics["worker_seconds"] / 1800)
    (link,) = [one for one in team.artifacts(first.id) if one.key == "batch-page"]
    assert parent.data.tags["page"] in str(link.data) and parent.info.run_id in str(link.description)
    assert {model.name for model in team.mlflow.search_registered_models()} == {f"{n}.miniature" for n in CONCEPTS}


@pytest.mark.parametrize("layout", ["diffusers", "a1111"])
def test_reader_with_the_bucket_alone_gets_the_champion(
    team: Team, champions: dict[str, Champion], tmp_path: Path, layout: str
) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | team.reader
    done = subprocess.run(
        [Path(sys.executable).with_name("ti"), "fetch", "hook", "--format", layout, "--out", tmp_path, "--json"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    fetched = Path(json.loads(done.stdout)["path"])
    (wanted,) = [file for file in champions["hook"].files if file.layout == layout]
    assert hashlib.sha256(fetched.read_bytes()).hexdigest() == wanted.sha256
    assert fetched.name == wanted.filename


def test_second_batch_does_nothing(team: Team, first: FlowRun, champions: dict[str, Champion]) -> None:
    experiment = team.mlflow.get_experiment_by_name("pseudoword").experiment_id
    before = len(team.mlflow.search_runs([experiment]))
    second = team.run("train-batch/train-batch", SMALL)
    assert second.state is not None
    assert second.state.message == f"failed 1, skipped 3. failed: {BROKEN}"
    rows = team.rows(second)
    assert {name for name, row in rows.items() if row["outcome"] == "skipped"} == CONCEPTS
    assert team.task_names(second.id) == ["look", "read batch", "summarise"] and not team.packs(second.id)
    assert all(rows[name]["step"] == champions[name].step for name in CONCEPTS)
    assert second.total_run_time < timedelta(seconds=60)
    assert len(team.mlflow.search_runs([experiment])) == before


def test_form_of_one_concept_knows_the_batch_s_outcome(team: Team, champions: dict[str, Champion]) -> None:
    """The same work asked for through the other deployment, whose queue goes first."""
    source = str(team.prefect.read_deployment_by_name("train-batch/train-batch").parameters["source"])
    concept = {"name": "hook", "pictures": f"{source}/hook", "class_word": "robot"}
    run = team.run("train-concept/train-concept", {**concept, **SMALL})
    assert run.state is not None
    assert (run.name, run.state.name, run.work_queue_name) == ("hook", "Known", "gpu-interactive")
    assert "train" not in team.task_names(run.id)
