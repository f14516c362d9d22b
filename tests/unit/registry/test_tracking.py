"""The registry against a real MLflow on one SQLite file. What it promises is read back with MLflow's own client."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel

from tests.builders import STEPS, judged
from ti_core import formats
from ti_core.errors import InputError, NotFoundError, ServiceError
from ti_core.records import Manifest, Outcome
from ti_core.registry import Registry
from ti_core.registry.tracking import PICTURES_TABLE
from ti_core.reporting.table import per_picture
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store

FIRST_USE = """
import sys
from pathlib import Path
from ti_core.registry import Registry
from ti_core.settings import Settings
registry = Registry(Settings(home=Path(sys.argv[1])))
registry.check()
registry.close_batch("night")
"""


@pytest.fixture(scope="module")
def first_use(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A fresh process makes the database. Returns the home, the working folder and what a terminal would show."""
    folder = tmp_path_factory.mktemp("first use")
    home, cwd = folder / "data", folder / "cwd"
    cwd.mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [sys.executable, "-c", FIRST_USE, str(home)],
        cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return home, cwd, done.stdout


@pytest.fixture(scope="module")
def settings(first_use: tuple[Path, Path, str]) -> Iterator[Settings]:
    yield Settings(home=first_use[0], store=str(first_use[0] / "store"))
    mlflow.set_tracking_uri(None)


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return Registry(settings)


@pytest.fixture(scope="module")
def store(settings: Settings) -> Store:
    return open_store(settings)


@pytest.fixture(scope="module")
def read(store: Store) -> Callable[[str], bytes]:
    return partial(get_blob, store)


@pytest.fixture
def client(settings: Settings) -> MlflowClient:
    mlflow.set_tracking_uri(settings.mlflow_uri)
    return MlflowClient(settings.mlflow_uri)


def models_of(client: MlflowClient, run_id: str) -> list[LoggedModel]:
    """The run's logged models, best score first."""
    experiment = client.get_run(run_id).info.experiment_id
    best_first = [{"field_name": "metrics.score", "ascending": False}]
    return list(client.search_logged_models([experiment], f"source_run_id = '{run_id}'", order_by=best_first))


def test_first_use_is_silent_and_keeps_to_the_data_folder(first_use: tuple[Path, Path, str]) -> None:
    home, cwd, shown = first_use
    assert shown == ""
    assert list(cwd.iterdir()) == []
    assert (home / "mlflow.db").is_file()


def test_run_tells_its_work_and_its_batch(registry: Registry, client: MlflowClient, store: Store) -> None:
    plan = judged(store, name="told").plan
    run = client.get_run(registry.open_run(plan, 'Monday\'s "night"'))
    assert run.info.run_name == "told"
    batch = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert (batch.info.run_name, batch.info.status) == ('Monday\'s "night"', "RUNNING")
    registry.close_batch('Monday\'s "night"')
    assert client.get_run(batch.info.run_id).info.status == "FINISHED"
    assert {run.data.tags[name] for name in ("judge_key", "train_key", "protocol", "concept", "base")} == {
        plan.judge_key, plan.train_key, plan.protocol_digest, "told", "miniature",
    }  # fmt: skip
    assert run.data.params["concept.class_word"] == "toy"
    assert run.data.params["training.learning_rate"] == str(plan.training.learning_rate)
    assert run.data.params["rule.confidence"] == "0.95"


def test_runs_of_one_batch_share_its_run(registry: Registry, client: MlflowClient, store: Store) -> None:
    plans = [judged(store, name=f"shared-{number}").plan for number in range(3)]
    runs = [client.get_run(registry.open_run(plan, "shared")) for plan in plans]
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs}) == 1


def test_idle_batch_has_no_run(registry: Registry, client: MlflowClient, store: Store) -> None:
    everything = [experiment.experiment_id for experiment in client.search_experiments()]
    registry.close_batch("idle")
    assert client.search_runs(everything, "attributes.run_name = 'idle'") == []

    run = client.get_run(registry.open_run(judged(store, name="stopped").plan, "idle"))
    registry.close_batch("idle", "KILLED")
    assert client.get_run(run.data.tags["mlflow.parentRunId"]).info.status == "KILLED"


def test_retry_takes_up_the_unfinished_run_and_no_other(registry: Registry, client: MlflowClient, store: Store) -> None:
    plan = judged(store, name="retried").plan
    run_id = registry.open_run(plan)
    registry.close_run(run_id, "FAILED")
    elsewhere = plan.model_copy(update={"concept": plan.concept.model_copy(update={"pictures": "another/folder"})})
    assert registry.open_run(elsewhere, "second night") == run_id
    run = client.get_run(run_id)
    assert run.info.status == "RUNNING"
    assert client.get_run(run.data.tags["mlflow.parentRunId"]).info.run_name == "second night"

    renamed = plan.model_copy(update={"concept": plan.concept.model_copy(update={"name": "other-name"})})
    assert registry.open_run(renamed) != run_id
    assert registry.open_run(judged(store, name="retried", seed=1).plan) != run_id
    registry.close_run(run_id, "FINISHED")
    assert registry.open_run(plan) != run_id


def test_training_rows_become_metrics_by_step(registry: Registry, client: MlflowClient, store: Store) -> None:
    run_id = registry.open_run(judged(store, name="trained").plan)
    registry.log_training(run_id, [{"step": n, "time": n, "loss": 1 / n, "norm": 0.4} for n in range(1, 701)])
    losses = {metric.step: metric.value for metric in client.get_metric_history(run_id, "loss")}
    assert losses == {step: 1 / step for step in range(1, 701)}
    assert [metric.timestamp for metric in client.get_metric_history(run_id, "norm")] == list(range(1, 701))


def test_mirror_logs_one_ranked_model_per_checkpoint(
    registry: Registry, client: MlflowClient, store: Store, read: Callable[[str], bytes]
) -> None:
    manifest = judged(store, name="mirrored").model_copy(update={"device": "cuda", "dtype": "bfloat16"})
    first, second = manifest.checkpoints
    elsewhere = {"device": "cuda (Tesla T4)", "dtype": "float16"}
    checkpoints = (first.model_copy(update=elsewhere), second.model_copy(update={"device": "cpu", "dtype": "float32"}))
    manifest = manifest.model_copy(update={"checkpoints": checkpoints})
    run_id = registry.open_run(manifest.plan)
    models = registry.mirror(run_id, manifest, read)

    ranked = models_of(client, run_id)
    assert [model.params["step"] for model in ranked] == ["20", "40"]  # 20 is the chosen step
    assert [model.model_id for model in ranked] == [models[20], models[40]]
    assert {str(model.status) for model in ranked} == {"READY"}
    assert {model.model_type for model in ranked} == {"textual_inversion"}
    first = {metric.key: (metric.value, metric.step) for metric in ranked[0].metrics}
    wanted = manifest.decision.candidates[0]
    assert first["clip_i"] == (wanted.clip_i.value, 20)
    assert first["clip_t"] == (wanted.clip_t.value, 20)
    assert first["score"] == (wanted.score, 20)
    files = {artifact.path for artifact in client.list_logged_model_artifacts(models[40])}
    assert files == {"MLmodel", "diffusers", "a1111", "vectors.safetensors"}

    run = client.get_run(run_id)
    assert {(output.model_id, output.step) for output in run.outputs.model_outputs} == {
        (models[20], 20), (models[40], 40),
    }  # fmt: skip
    assert run.data.metrics["reported_score"] == 0.6
    assert run.data.metrics["reported_gain"] == 0.21
    assert [metric.step for metric in client.get_metric_history(run_id, "clip_t")] == [20, 40]
    assert run.data.tags["mlflow.note.content"] == manifest.report.reason
    assert (run.data.tags["device"], run.data.tags["dtype"]) == ("cuda", "bfloat16")
    assert run.data.tags["trained_on"] == "cuda (Tesla T4), float16; cpu, float32"
    assert {"page.html", "contact-sheet.png", "decision.json", "scores.csv"} <= {
        artifact.path for artifact in client.list_artifacts(run_id)
    }
    table = Path(client.download_artifacts(run_id, "scores.csv")).read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["step", "20", "40"]
    decision = json.loads(Path(client.download_artifacts(run_id, "decision.json")).read_text())
    assert decision["step"] == 20


def test_published_bytes_are_the_logged_ones(
    registry: Registry, settings: Settings, store: Store, read: Callable[[str], bytes]
) -> None:
    manifest = judged(store, name="same-bytes")
    models = registry.mirror(registry.open_run(manifest.plan), manifest, read)
    logged = Path(mlflow.artifacts.download_artifacts(f"models:/{models[20]}", tracking_uri=settings.mlflow_uri))
    for file in manifest.files:
        assert (logged / file.layout / file.filename).read_bytes() == read(file.sha256)


Everything = tuple[dict[str, int], dict[str, int], list[str], int, dict[str, str]]


def everything(client: MlflowClient, run_id: str) -> Everything:
    """Rows by metric, metrics by model, images, linked models and tags of a run."""
    run = client.get_run(run_id)
    metrics = {name: len(client.get_metric_history(run_id, name)) for name in run.data.metrics}
    models = {model.model_id: len(model.metrics or ()) for model in models_of(client, run_id)}
    images = sorted(artifact.path for artifact in client.list_artifacts(run_id, "images"))
    return metrics, models, images, len(run.outputs.model_outputs), run.data.tags


def test_mirror_again_adds_nothing(
    registry: Registry, client: MlflowClient, store: Store, read: Callable[[str], bytes]
) -> None:
    manifest = judged(store, name="again")
    run_id = registry.open_run(manifest.plan)
    models = registry.mirror(run_id, manifest, read)
    before = everything(client, run_id)
    assert registry.mirror(run_id, manifest, read) == models
    assert everything(client, run_id) == before
    pictures = client.load_table(store_experiment(client, run_id), PICTURES_TABLE, [run_id])
    assert len(pictures) == len(per_picture(manifest)) > 0
    assert list(pictures.clip_i.dropna()) == pytest.approx(list(per_picture(manifest).clip_i.dropna()))


def store_experiment(client: MlflowClient, run_id: str) -> str:
    return str(client.get_run(run_id).info.experiment_id)


@pytest.mark.parametrize("failing", ["checkpoint", "strip", "page"])
def test_mirror_completes_a_broken_attempt(
    registry: Registry, client: MlflowClient, store: Store, read: Callable[[str], bytes], failing: str
) -> None:
    manifest = judged(store, name=f"broken-{failing}")
    broken = {
        "checkpoint": manifest.checkpoints[1].vectors,
        "strip": manifest.report.chosen.strip,
        "page": manifest.page,
    }[failing]

    def fails(sha256: str) -> bytes:
        if sha256 == broken:
            raise ServiceError("The store is away.")
        return read(sha256)

    run_id = registry.open_run(manifest.plan)
    with pytest.raises(ServiceError, match="The store is away"):
        registry.mirror(run_id, manifest, fails)
    registry.mirror(run_id, manifest, read)
    assert {str(model.status) for model in models_of(client, run_id)} == {"READY"}
    metrics, models, images, outputs, _ = everything(client, run_id)
    once = {"chosen_step": 1, "chosen_score": 1, "reported_score": 1, "reported_gain": 1}
    assert metrics == {"clip_i": 2, "clip_t": 2, "score": 2} | once
    assert sorted(models.values()) == [3, 7]  # the chosen one has the result too
    assert len(images) == 2 * 4  # a picture and its thumbnail for class word, two steps, and the reported step
    assert outputs == 2


def register(registry: Registry, manifest: Manifest, read: Callable[[str], bytes]) -> tuple[str, int]:
    run_id = registry.open_run(manifest.plan)
    models = registry.mirror(run_id, manifest, read)
    return run_id, registry.register(run_id, manifest, models[20], 7)


def test_one_version_per_judge_key(
    registry: Registry, client: MlflowClient, store: Store, read: Callable[[str], bytes]
) -> None:
    first, second = judged(store, name="versioned"), judged(store, name="versioned", seed=1)
    run_id, number = register(registry, first, read)
    assert number == 1
    assert register(registry, second, read)[1] == 2
    assert register(registry, first, read) == (run_id, 1)
    version = client.get_model_version("versioned.miniature", "1")
    assert version.tags["judge_key"] == first.plan.judge_key
    assert version.run_id == run_id
    assert version.tags["store_version"] == "7"
    assert version.description == f"Step 20, score 0.600 on the reporting set. {first.report.reason}"
    assert registry.number_of("versioned", "miniature", first.plan.judge_key) == 1
    assert registry.number_of("versioned", "miniature", "0" * 32) is None
    assert len(client.search_model_versions("name = 'versioned.miniature'")) == 2


def test_two_namespaces_have_models_and_runs_of_their_own(
    settings: Settings, client: MlflowClient, store: Store, read: Callable[[str], bytes]
) -> None:
    manifest = judged(store, name="spaced")
    teams = [Registry(Settings(home=settings.home, namespace=name)) for name in ("team-a", "team-b")]
    runs = [register(team, manifest, read)[0] for team in teams]
    assert len({client.get_run(run).info.experiment_id for run in runs}) == 2
    assert [team.number_of("spaced", "miniature", manifest.plan.judge_key) for team in teams] == [1, 1]
    teams[0].forget("spaced", "miniature")
    assert [team.number_of("spaced", "miniature", manifest.plan.judge_key) for team in teams] == [None, 1]
    assert client.get_registered_model("team-b.spaced.miniature").name and teams[1].has_run(runs[1])
    assert not teams[0].has_run(runs[0])


def test_alias_moves_and_its_model_loads(
    registry: Registry, client: MlflowClient, store: Store, read: Callable[[str], bytes]
) -> None:
    first, second = judged(store, name="aliased"), judged(store, name="aliased", seed=1)
    for manifest in (first, second):
        registry.set_alias("aliased", "miniature", "champion", register(registry, manifest, read)[1])
    assert registry.alias_of("aliased", "miniature", "champion") == 2
    assert registry.alias_of("aliased", "miniature", "challenger") is None
    table = mlflow.pyfunc.load_model("models:/aliased.miniature@champion").predict(None)
    stored = formats.read_checkpoint(read(second.checkpoints[0].vectors), "a checkpoint")
    assert list(table["encoder"]) == ["clip_l", "clip_l"]
    assert np.array_equal(np.array(table["vector"].tolist(), np.float32), stored["clip_l"])
    registry.drop_alias("aliased", "miniature", "champion")
    registry.drop_alias("nothing", "miniature", "champion")
    assert registry.alias_of("aliased", "miniature", "champion") is None


def test_what_is_there_twice_is_told_and_deleted(
    registry: Registry, client: MlflowClient, store: Store, read: Callable[[str], bytes]
) -> None:
    manifest = judged(store, name="twice")
    ours, _ = register(registry, manifest, read)
    registry.close_run(ours, "FINISHED")
    other, _ = register(registry, manifest, read)  # what is finished is not taken up: as a race leaves it
    name, key = "twice.miniature", manifest.plan.judge_key
    source = f"models:/{models_of(client, other)[0].model_id}"
    client.create_model_version(name, source=source, run_id=other, tags={"judge_key": key})
    ended = {key: other}
    told = registry.doubled("twice", "miniature", ended, repair=False)
    assert [one.split(" of twice")[0] for one in told] == [
        "MLflow has a run",
        f"MLflow's run {other}",
        "MLflow has a run",
    ]
    assert registry.doubled("twice", "miniature", ended, repair=True) == told
    assert registry.doubled("twice", "miniature", ended, repair=True) == []
    assert registry.has_run(other) and not registry.has_run(ours)
    assert len(client.search_model_versions(f"name = '{name}'")) == 1


def test_a_run_that_was_left_open_is_closed(registry: Registry, client: MlflowClient, store: Store) -> None:
    plan = judged(store, name="left").plan
    fresh = registry.open_run(plan)
    experiment = client.get_run(fresh).info.experiment_id
    tags = {"concept": "left", "base": "miniature", "judge_key": "0" * 32}
    old = client.create_run(experiment, start_time=int((time.time() - 8 * 86_400) * 1000), tags=tags).info.run_id
    (told,) = registry.doubled("left", "miniature", {}, repair=True)
    assert old in told and client.get_run(old).info.status == "KILLED"
    assert client.get_run(fresh).info.status == "RUNNING"
    assert registry.doubled("left", "miniature", {}, repair=True) == []


def test_a_forgotten_word_is_nowhere(
    registry: Registry, client: MlflowClient, store: Store, read: Callable[[str], bytes]
) -> None:
    manifest, other = judged(store, name="forgotten"), judged(store, name="kept")
    run_id, _ = register(registry, manifest, read)
    stays, _ = register(registry, other, read)
    for _ in range(2):
        registry.forget("forgotten", "miniature")
    assert not registry.has_run(run_id) and models_of(client, run_id) == []
    assert client.search_registered_models("name = 'forgotten.miniature'") == []
    assert registry.has_run(stays) and len(models_of(client, stays)) == 2


def test_outcome_is_told_on_the_run(registry: Registry, client: MlflowClient, store: Store) -> None:
    plan = judged(store, name="ended").plan
    run_id = registry.open_run(plan)
    registry.record(
        run_id,
        Outcome(
            judge_key=plan.judge_key, train_key=plan.train_key, concept="ended", base="miniature", status="rejected",
            reason="It is no better than the class word.", step=STEPS[0], score=0.1, version=None, champion=False,
            run_id=run_id, manifest="m",
        ),
    )  # fmt: skip
    tags = client.get_run(run_id).data.tags
    assert (tags["outcome"], tags["champion"]) == ("rejected", "false")
    assert tags["reason"] == "It is no better than the class word."
    assert "version" not in tags


def test_known_runs_are_told_from_unknown_and_deleted_ones(
    registry: Registry, client: MlflowClient, store: Store
) -> None:
    run_id = registry.open_run(judged(store, name="deleted").plan)
    assert registry.has_run(run_id)
    client.delete_run(run_id)
    assert not registry.has_run(run_id) and not registry.has_run("0" * 32)


def test_unknown_run_and_version_are_not_found(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="0" * 32):
        registry.log_training("0" * 32, [{"step": 1, "time": 1, "loss": 1.0}])
    with pytest.raises(NotFoundError, match="nowhere"):
        registry.set_alias("nowhere", "miniature", "champion", 1)


def test_unreachable_server_is_told_soon_and_without_its_password(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], settings: Settings
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    registry = Registry(Settings(home=tmp_path, tracking_uri=f"http://somebody:secret@{address}"))
    start = time.monotonic()
    with pytest.raises(ServiceError) as raised:
        registry.check()
    assert time.monotonic() - start < 15
    assert str(raised.value) == (
        f"The tracking server http://{address} cannot be reached: start it, or correct PSEUDOWORD_TRACKING_URI."
    )
    assert capfd.readouterr() == ("", "")


def test_data_folder_that_cannot_be_made_is_told(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"data folder .* cannot be made"):
        Registry(Settings(home=tmp_path / "file" / "data")).check()
