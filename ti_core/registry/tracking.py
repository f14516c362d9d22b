"""Runs, logged models, versions and aliases in MLflow: a mirror of what the store decides.

One parent run per batch, one run per concept, one logged model per checkpoint with its metrics, one registered model
`<concept>.<base>`, behind the name of its namespace where there is one. Everything can be said again: what is there
already is not logged a second time, so a retry or an audit completes the mirror. This module does not know the store;
blobs come through a `read` function.
"""

import csv
import io
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from PIL import Image

from ti_core.keys import digest
from ti_core.records import Manifest, Outcome, Plan, Scores
from ti_core.registry import upkeep
from ti_core.registry.flavor import MODEL_TYPE, write_model
from ti_core.registry.server import Server
from ti_core.registry.upkeep import models_of, versions
from ti_core.reporting.report import contact_sheet
from ti_core.reporting.table import per_picture
from ti_core.settings import Settings

Read = Callable[[str], bytes]
"""sha256 → the blob's bytes."""

PICTURES_TABLE = "pictures.json"
"""Artifact with the per-picture table."""
_BATCH = 1000  # metrics in one call, MLflow's own limit


class Registry:
    """The tracking server and model registry of the settings. Safe to share between threads.

    All methods raise ServiceError when the server cannot be reached or fails, NotFoundError for a run or a model that
    it does not know.
    """

    def __init__(self, settings: Settings) -> None:
        self._server = Server(settings)

    # --- runs -------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Reach the server, or make the embedded database, now."""
        with self._server.client():
            pass

    def open_batch(self, batch: str) -> None:
        """Start the parent run of a batch, or find it: made once, before workers ask for it at the same time."""
        with self._server.client() as client:
            self._batch_run(client, batch)

    def link_batch(self, batch: str, page: str) -> str | None:
        """Tell with a batch's run where its page lies; the page stays there, so that what is forgotten is gone from one
        place. Returns the run's own page in a browser; None where there is none."""
        with self._server.client() as client:
            run_id = self._find_batch_run(client, batch)
            if not run_id:
                return None
            tags = {"page": page, "mlflow.note.content": f"Page of the batch: {page}"}
            client.log_batch(run_id, tags=[RunTag(*tag) for tag in tags.items()])
        return self.run_url(run_id)

    def close_batch(self, batch: str, status: Literal["FINISHED", "KILLED"] = "FINISHED") -> None:
        """End the parent run of a batch, if it has one: a batch in which nothing was trained has none."""
        with self._server.client() as client:
            run_id = self._find_batch_run(client, batch)
            if run_id:
                client.set_terminated(run_id, status)

    def run_url(self, run_id: str) -> str | None:
        """The run's page in a browser, or None where the tracking database has no server in front."""
        return self._server.run_url(run_id)

    def open_run(self, plan: Plan, batch: str = "") -> str:
        """Start the run of one concept, or take up the one that an earlier attempt at the same judge_key left
        unfinished. Returns its run id. With a `batch`, the run lies under that batch's own run, made when first asked
        for."""
        tags = {
            "judge_key": plan.judge_key,
            "train_key": plan.train_key,
            "protocol": plan.protocol_digest,
            "concept": plan.concept.name,
            "base": plan.base.slug,
        }
        # The name and the base are asked for too: two names for the same pictures share a judge_key.
        same = " and ".join(f"tags.{name} = '{tags[name]}'" for name in ("judge_key", "concept", "base"))
        with self._server.client() as client:
            if batch:
                tags["mlflow.parentRunId"] = self._batch_run(client, batch)
            left = client.search_runs(
                [self._server.experiment], f"{same} and attributes.status != 'FINISHED'", max_results=1
            )
            if left:
                run = left[0]
                client.update_run(run.info.run_id, status="RUNNING")
            else:
                run = client.create_run(self._server.experiment, run_name=plan.concept.name, tags=tags)
            # A parameter can be set only once, and a retry may have other words for the same work (another folder).
            params = [Param(k, v) for k, v in _params(plan).items() if v and k not in run.data.params]
            client.log_batch(run.info.run_id, params=params, tags=[RunTag(*tag) for tag in tags.items()])
            return str(run.info.run_id)

    def _batch_run(self, client: MlflowClient, batch: str) -> str:
        found = self._find_batch_run(client, batch)
        if found:
            return found
        run = client.create_run(self._server.experiment, run_name=batch, tags={"batch": digest(batch)})
        return str(run.info.run_id)

    def _find_batch_run(self, client: MlflowClient, batch: str) -> str | None:
        # A name may hold quotes, which a filter cannot; its digest does not.
        key, oldest = digest(batch), ["attributes.start_time ASC"]
        found = client.search_runs([self._server.experiment], f"tags.batch = '{key}'", max_results=1, order_by=oldest)
        return str(found[0].info.run_id) if found else None

    def close_run(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End a run of either kind. Only a FINISHED one is not taken up again."""
        with self._server.client() as client:
            client.set_terminated(run_id, status)

    def has_run(self, run_id: str) -> bool:
        """Whether the server knows this run and it was not deleted."""
        with self._server.client() as client:
            try:
                return bool(client.get_run(run_id).info.lifecycle_stage == "active")
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return False
                raise

    def log_training(self, run_id: str, rows: Iterable[Mapping[str, float]]) -> None:
        """Log training metrics. Each row holds `step`, `time` (when it was measured, in ms since 1970) and any number
        of metrics by name (loss, norm, …). Equal rows are kept once."""
        metrics = [
            Metric(name, value, int(row["time"]), int(row["step"]))
            for row in rows
            for name, value in row.items()
            if name not in {"step", "time"}
        ]
        with self._server.client() as client:
            for start in range(0, len(metrics), _BATCH):
                client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    # --- a judged run -----------------------------------------------------------------------------------------------

    def mirror(self, run_id: str, manifest: Manifest, read: Read) -> dict[int, str]:
        """Log a judged run: a logged model with its scores per checkpoint, the reported result, the page, the contact
        sheet, the picture grid (a strip per step), the decision and its table.

        `read` brings a blob by its sha256. Returns the id of the logged model of every step.
        """
        with self._server.client() as client:
            models = self._log_models(client, run_id, manifest, read)
            _log_metrics(client, run_id, manifest, models)
            _log_pictures(client, run_id, manifest, read)
            client.log_text(run_id, read(manifest.page).decode(), "page.html")
            client.log_text(run_id, manifest.decision.model_dump_json(indent=1), "decision.json")
            client.log_text(run_id, _table(manifest), "scores.csv")
            _log_pictures_table(client, run_id, manifest)
            where = {"device": manifest.device, "dtype": manifest.dtype, "trained_on": manifest.trained_on}
            client.log_batch(run_id, tags=[RunTag(*tag) for tag in where.items() if tag[1]])
            client.set_tag(run_id, "mlflow.note.content", manifest.report.reason or manifest.decision.explanation)
        return models

    def _log_models(self, client: MlflowClient, run_id: str, manifest: Manifest, read: Read) -> dict[int, str]:
        plan = manifest.plan
        models = {int(model.params["step"]): model for model in models_of(client, self._server.experiment, run_id)}
        for checkpoint in manifest.checkpoints:
            model = models.get(checkpoint.step)
            if model is None:
                model = client.create_logged_model(
                    self._server.experiment,
                    name=f"{plan.concept.name}-step-{checkpoint.step}",
                    source_run_id=run_id,
                    tags={"judge_key": plan.judge_key, "concept": plan.concept.name, "base": plan.base.slug},
                    params={"step": str(checkpoint.step), "vectors_sha256": checkpoint.vectors},
                    model_type=MODEL_TYPE,
                )
                models[checkpoint.step] = model
            if model.status != LoggedModelStatus.READY:
                with tempfile.TemporaryDirectory() as folder:
                    write_model(Path(folder), manifest, checkpoint, read, model.model_id)
                    client.log_model_artifacts(model.model_id, folder)
                client.finalize_logged_model(model.model_id, "READY")
        linked = {output.model_id for output in client.get_run(run_id).outputs.model_outputs}
        missing = [LoggedModelOutput(m.model_id, step) for step, m in models.items() if m.model_id not in linked]
        if missing:
            client.log_outputs(run_id, missing)
        return {step: str(model.model_id) for step, model in models.items()}

    def record(self, run_id: str, outcome: Outcome, withdrawn: str = "") -> None:
        """Tag a run with how it ended and why, and when, by whom and why it was `withdrawn`."""
        tags = {
            "outcome": outcome.status,
            "reason": outcome.reason,
            "champion": str(outcome.champion).lower(),
            "version": "" if outcome.version is None else str(outcome.version),
            "withdrawn": withdrawn,
        }
        with self._server.client() as client:
            client.log_batch(run_id, tags=[RunTag(*tag) for tag in tags.items() if tag[1]])

    # --- versions ---------------------------------------------------------------------------------------------------

    def register(self, run_id: str, manifest: Manifest, model_id: str, store_version: int) -> int:
        """Make a version of the logged model `model_id`, tagged with the judge_key and the store's number of it, or
        find the one that has the judge_key.

        MLflow gladly makes two versions of one model: hold a lease. Returns MLflow's own number, which only aliases
        need: it counts what MLflow was told, the store's counts what was published.
        """
        plan, concept, base = manifest.plan, manifest.plan.concept, manifest.plan.base
        name = self._server.model(concept.name, base.slug)
        with self._server.client() as client:
            try:
                client.create_registered_model(
                    name,
                    tags={"concept": concept.name, "base": base.slug},
                    description=f"The word `{concept.placeholder}` ({concept.class_word}) for {base.name}.",
                )
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = versions(client, name, plan.judge_key)
            if found:
                return min(found)
            made = client.create_model_version(
                name,
                source=f"models:/{model_id}",
                run_id=run_id,
                model_id=model_id,
                tags={
                    "judge_key": plan.judge_key,
                    "train_key": plan.train_key,
                    "protocol": plan.protocol_digest,
                    "store_version": str(store_version),
                },
                description=f"Step {manifest.decision.step}, score {manifest.report.score:.3f} on the reporting set. "
                f"{manifest.report.reason or manifest.decision.explanation}",
            )
            return int(made.version)

    def number_of(self, concept: str, base: str, judge_key: str) -> int | None:
        """MLflow's own number of a judge_key's version, None where it has none."""
        with self._server.client() as client:
            return min(versions(client, self._server.model(concept, base), judge_key), default=None)

    def set_alias(self, concept: str, base: str, alias: Literal["champion", "challenger"], version: int) -> None:
        """Let `alias` name a version, by MLflow's own number; it names no other then."""
        with self._server.client() as client:
            client.set_registered_model_alias(self._server.model(concept, base), alias, str(version))

    def drop_alias(self, concept: str, base: str, alias: Literal["champion", "challenger"]) -> None:
        """Let `alias` name no version."""
        with self._server.client() as client:
            try:
                client.delete_registered_model_alias(self._server.model(concept, base), alias)
            except MlflowException as error:
                if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                    raise

    def alias_of(self, concept: str, base: str, alias: Literal["champion", "challenger"]) -> int | None:
        """The version that an alias names, by MLflow's own number; None where it names none."""
        with self._server.client() as client:
            try:
                return int(client.get_model_version_by_alias(self._server.model(concept, base), alias).version)
            except MlflowException as error:
                if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                    raise
                return None

    def doubled(self, concept: str, base: str, ended: Mapping[str, str], repair: bool) -> list[str]:
        """What is there of a word twice, or open although it `ended` (tracking run by judge_key), a sentence each. With
        `repair` the surplus is deleted and what is open is closed."""
        with self._server.client() as client:
            where = self._server.experiment, self._server.model(concept, base)
            return upkeep.doubled(client, *where, concept, base, ended, repair)

    def forget(self, concept: str, base: str) -> None:
        """Delete all runs, logged models and versions of a word; their files go with `mlflow gc`."""
        with self._server.client() as client:
            where = self._server.experiment, self._server.model(concept, base)
            upkeep.forget(client, *where, concept, base)


def _params(plan: Plan) -> dict[str, str]:
    """The plan as MLflow parameters, `part.field`."""
    parts: dict[str, Mapping[str, Any]] = {
        "concept": plan.concept.model_dump(),
        "training": plan.training.model_dump(),
        "evaluation": plan.evaluation.model_dump(),
        "rule": plan.rule.model_dump(),
        "base": {"name": plan.base.name, "digest": plan.base.digest},
        "judge": {"name": plan.judge.name, "digest": plan.judge.digest},
        "given": plan.given.model_dump() if plan.given else {},
    }
    return {f"{part}.{field}": str(value) for part, fields in parts.items() for field, value in fields.items()}


def _log_metrics(client: MlflowClient, run_id: str, manifest: Manifest, models: Mapping[int, str]) -> None:
    """Scores by step, on the run and on each step's model; the reported result on the run and on the chosen model.

    MLflow ranks models by their latest row and keeps equal rows once, so with the manifest's own time each score is
    one row however often it is logged.
    """
    then = int(manifest.created.timestamp() * 1000)
    decision, report = manifest.decision, manifest.report
    rows = [
        (c.step, {"clip_i": c.clip_i.value, "clip_t": c.clip_t.value, "score": c.score}) for c in decision.candidates
    ]
    # Under keys of their own: of one key MLflow shows the highest step, and the chosen one is seldom that.
    chosen = next(one for one in decision.candidates if one.step == decision.step)
    result = {"chosen_step": float(decision.step), "chosen_score": chosen.score}
    rows.append((decision.step, result | {"reported_score": report.score, "reported_gain": report.gain.value}))
    metrics = [
        Metric(name, value, then, step, model_id=models.get(step), run_id=run_id)
        for step, values in rows
        for name, value in values.items()
    ]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])


def _log_pictures(client: MlflowClient, run_id: str, manifest: Manifest, read: Read) -> None:
    """The contact sheet as a file, and each step's strip in MLflow's picture grid, which has a slider for the step."""
    client.log_image(run_id, _open(contact_sheet(manifest, read)), artifact_file="contact-sheet.png")
    there = [Path(artifact.path).name for artifact in client.list_artifacts(run_id, "images")]
    strips: list[Scores] = [manifest.anchors.class_word, *manifest.scores, manifest.report.chosen]
    for scores in strips:
        # MLflow's own naming: <key>+step+<step>+timestamp+….
        own = [name for name in there if name.startswith(f"{scores.split}+step+{scores.step}+")]
        # A picture is two files there, itself and a small one, and a stopped worker may have left only the first.
        if not {".png", ".webp"} <= {Path(name).suffix for name in own}:
            client.log_image(run_id, _open(read(scores.strip)), key=scores.split, step=scores.step)


def _log_pictures_table(client: MlflowClient, run_id: str, manifest: Manifest) -> None:
    """One row per judged picture, as a table that MLflow's evaluation view shows and `mlflow.load_table` reads."""
    if not any(artifact.path == PICTURES_TABLE for artifact in client.list_artifacts(run_id)):  # it would append
        client.log_table(run_id, per_picture(manifest), PICTURES_TABLE)


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def _table(manifest: Manifest) -> str:
    """The decision's table as CSV, one line per judged step."""
    text = io.StringIO()
    fields = ["step", "clip_i", "clip_i_low", "clip_i_high", "clip_t", "clip_t_low", "clip_t_high"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*fields, "scaled_i", "scaled_t", "score", "behind", "tied", "chosen"])
    for c in manifest.decision.candidates:
        intervals = [number for score in (c.clip_i, c.clip_t) for number in (score.value, score.low, score.high)]
        chosen = c.step == manifest.decision.step
        writer.writerow([c.step, *intervals, c.scaled_i, c.scaled_t, c.score, c.behind, c.tied, chosen])
    return text.getvalue()
