"""The stations of one concept as Prefect tasks: retries, names, artifacts. They have no logic of their own.

Torch is imported inside the tasks that need it, so that a run whose outcome is known ends in seconds.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import artifacts, progress
from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.errors import PausedError, ServiceError, TrainingError
from ti_core.records import Champion, Checkpoint, Decision, Outcome, Plan, PreparedSet, Record, Scores, Split, Trained
from ti_core.settings import load_settings
from ti_core.store import open_store

log = logging.getLogger(__name__)


def transient(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a failed task is worth another try: a silent server is, bad input or lack of memory is not."""
    try:
        state.result()
    except ServiceError:
        return True
    except Exception:
        return False
    return False


# Reuse is decided by the keys of ti_core alone, so neither results nor caches of Prefect are kept.
station = {
    "retries": 3,
    "retry_delay_seconds": [2, 10, 30],
    "retry_condition_fn": transient,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


class Training(Record):
    """What the train task hands on."""

    run_id: str
    checkpoints: tuple[Checkpoint, ...]


@task(name="ingest", task_run_name="ingest", **station)
def ingest(
    concept: ConceptSpec, training: TrainingConfig, evaluation: EvaluationConfig, rule: SelectionRule, base_model: str
) -> Plan:
    """Check the request, take in the pictures, decide the run."""
    from ti_core.planning.plan import make_plan

    progress.tell(progress.Stage(concept.name, "reading pictures"))
    settings = load_settings()
    return make_plan(concept, training, evaluation, rule, base_model, settings, open_store(settings))


@task(name="recall", task_run_name="recall outcome", **station)
def recall(plan: Plan) -> Outcome | None:
    """The outcome of the same work, if it has one."""
    from ti_core.publishing.catalogue import outcome_of

    return outcome_of(open_store(load_settings()), plan)


@task(name="preprocess", task_run_name="preprocess", **station)
def preprocess(plan: Plan) -> PreparedSet:
    """Squares and latents."""
    progress.tell(progress.Stage(plan.concept.name, "loading the base model"))
    from ti_core.training.running import prepare

    settings = load_settings()
    return prepare(plan, settings, open_store(settings))


@task(name="train", task_run_name="train", **station)
def train(plan: Plan, prepared: PreparedSet, packing: Packing, batch: str) -> Training:
    """Train and keep checkpoints; metrics go to the tracking run, progress to the Prefect UI."""
    from ti_core.registry import Registry

    name = plan.concept.name
    progress.tell(progress.Stage(name, "training"))
    run_id = Registry(load_settings()).open_run(plan, batch)
    try:
        (trained,) = train_together([(plan, prepared)], packing, {name: run_id})
    except BaseException:
        close_failed(run_id)
        raise
    if trained.reason:
        close_failed(run_id)
        raise PausedError(trained.reason) if trained.paused else TrainingError(trained.reason)
    return Training(run_id=run_id, checkpoints=trained.checkpoints)


def train_together(
    work: Sequence[tuple[Plan, PreparedSet]], packing: Packing, run_ids: Mapping[str, str]
) -> list[Trained]:
    """Train the concepts of `work` in one pack; metrics go to each one's tracking run, progress to whoever listens."""
    from ti_core.registry import Registry
    from ti_core.training.events import Progress
    from ti_core.training.running import run_training

    settings = load_settings()
    bars = {name: artifacts.ProgressBar(f"training-{name}") for name in run_ids}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in run_ids}

    def on_progress(event: Progress) -> None:
        name = event.concept
        progress.tell(progress.Trained(name, event.step, event.steps, event.loss, event.norm, event.samples_per_second))
        told = ("step", "loss", "norm", "samples_per_second")
        rows[name].append({field: getattr(event, field) for field in told})
        bars[name].update(event.step / event.steps, f"step {event.step} of {event.steps}, loss {event.loss:.4f}")

    def say(text: str) -> None:
        log.info("%s", text)
        progress.tell(progress.Stage(work[0][0].concept.name, text))

    made = run_training(work, packing, settings, open_store(settings), on_progress, say)
    registry = Registry(settings)
    for one in made:
        registry.log_training(run_ids[one.concept], rows[one.concept])
        text = one.reason or f"{one.step} steps, {len(one.checkpoints)} checkpoints"
        bars[one.concept].update(1.0 if not one.reason else 0.0, text, final=True)
    return made


@task(name="evaluate", task_run_name="evaluate {label}", **station)
def evaluate(
    plan: Plan,
    prepared: PreparedSet,
    training: Training,
    step: int,
    vectors: str,
    split: Split,
    label: str,
    seeds: tuple[int, ...] = (),
) -> Scores:
    """Generate and score the pictures of one checkpoint; `vectors` "" judges the class word alone. `seeds` are some of
    the split's, all if empty.

    `training` is only told so that the flow's graph shows what this follows.
    """
    progress.tell(progress.Stage(plan.concept.name, f"judging {label}"))
    from ti_core.judging.scoring import judge

    settings = load_settings()
    scores = judge(plan, prepared, step, vectors or None, split, settings, open_store(settings), seeds)
    progress.tell(progress.Judged(plan.concept.name, scores))
    return scores


@task(name="halve", task_run_name="halve after {label}", **station)
def halve(
    plan: Plan, prepared: PreparedSet, class_word: Scores, scores: list[Scores], keep: int, label: str
) -> list[int]:
    """The steps that go on to the next rung."""
    from ti_core.choosing.selection import survivors
    from ti_core.judging.scoring import anchors

    settings = load_settings()
    return survivors(scores, anchors(plan, prepared, class_word, settings, open_store(settings)), plan.rule, keep)


def evaluate_steps(plan: Plan, prepared: PreparedSet, training: Training, class_word: Scores) -> list[Scores]:
    """Judge all checkpoints on the choosing set, in the order of training: a task run for each, or, with successive
    halving, one for each that is still in a rung."""
    from ti_core.choosing.halving import Rung, ladder, merged

    checkpoints = list(training.checkpoints)
    rungs = ladder(plan.protocol.select.seeds, len(checkpoints)) if plan.evaluation.halving else (Rung((), 0),)
    judged: dict[int, Scores] = {}
    for number, rung in enumerate(rungs):
        more = f", rung {number + 1}" if len(rungs) > 1 else ""
        for one in checkpoints:
            label = f"step {one.step}{more}"
            scores = evaluate(plan, prepared, training, one.step, one.vectors, "select", label, rung.seeds)
            judged[one.step] = merged(judged[one.step], scores) if one.step in judged else scores
        if rung.keep:
            still = [judged[one.step] for one in checkpoints]
            stay = halve(plan, prepared, class_word, still, rung.keep, more.removeprefix(", "))
            checkpoints = [one for one in checkpoints if one.step in stay]
    return list(judged.values())


@task(name="select", task_run_name="select", **station)
def select(plan: Plan, prepared: PreparedSet, class_word: Scores, scores: list[Scores]) -> Decision:
    """Choose the step and say why."""
    from ti_core.choosing.selection import choose
    from ti_core.judging.scoring import anchors

    progress.tell(progress.Stage(plan.concept.name, "choosing"))
    settings = load_settings()
    decision = choose(scores, anchors(plan, prepared, class_word, settings, open_store(settings)), plan.rule)
    artifacts.scores_table(plan, decision)
    return decision


@task(name="rival", task_run_name="look up champion", **station)
def rival(plan: Plan, decision: Decision) -> Champion | None:
    """The present champion if it must be judged again to be compared: it was judged under another protocol."""
    from ti_core.publishing.catalogue import champion_of

    champion = champion_of(open_store(load_settings()), plan.concept.name, plan.base.slug)
    comparable = champion is None or champion.protocol == plan.protocol_digest
    return None if comparable or not decision.accepted else champion


@task(name="register", task_run_name="register", **station)
def register(
    plan: Plan,
    prepared: PreparedSet,
    training: Training,
    class_word: Scores,
    scores: list[Scores],
    decision: Decision,
    reported_class_word: Scores,
    reported_chosen: Scores,
    champion: Champion | None,
    reported_rival: Scores | None,
) -> Outcome:
    """Report on the disjoint set, assemble the manifest, publish. `champion` was judged again as `reported_rival`."""
    from ti_core.choosing.selection import balanced, report
    from ti_core.judging.scoring import anchors
    from ti_core.publishing.assembly import assemble
    from ti_core.publishing.transaction import publish
    from ti_core.registry import Registry
    from ti_core.reporting.pages import write_page
    from ti_core.reporting.report import contact_sheet
    from ti_core.store import get_blob

    progress.tell(progress.Stage(plan.concept.name, "publishing"))
    settings = load_settings()
    store = open_store(settings)
    ends = anchors(plan, prepared, reported_class_word, settings, store)
    manifest = assemble(
        plan,
        prepared,
        training.checkpoints,
        anchors(plan, prepared, class_word, settings, store),
        tuple(scores),
        decision,
        report(reported_chosen, ends, plan.rule),
        store,
    )
    read = partial(get_blob, store)
    artifacts.contact_sheet(plan, contact_sheet(manifest, read))
    rejudged = {}
    if champion and reported_rival:
        rejudged[champion.judge_key] = balanced(reported_rival, ends, plan.rule)
    registry = Registry(settings)
    outcome = publish(store, registry, manifest, training.run_id, rejudged)
    registry.close_run(training.run_id, "FINISHED")
    page = write_page(settings, plan.concept.name, plan.base.slug, read(manifest.page))
    artifacts.page_link(plan, outcome, registry.run_url(training.run_id) or page.as_uri())
    return outcome


def abandon(training: Training) -> None:
    """Mark the tracking run of a failed flow run as failed; a later attempt takes it up again."""
    close_failed(training.run_id)


def close_failed(run_id: str) -> None:
    """Mark a tracking run as failed. A silent server only warns: what failed before is what a person must hear of."""
    from ti_core.registry import Registry

    try:
        Registry(load_settings()).close_run(run_id, "FAILED")
    except ServiceError:
        log.warning("The tracking server cannot be told that this run failed.")
