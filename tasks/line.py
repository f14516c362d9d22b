"""The line as Prefect shows it: a task run for every station, its retries, its artifacts. No logic of its own."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed

from tasks import artifacts
from tasks.asking import CancelledError, ask_for_approval, check_begun, minding_cancellation
from ti_core import outbox, progress
from ti_core.config import EvaluationConfig, Packing, SelectionRule
from ti_core.errors import PausedError, ServiceError
from ti_core.line import Line
from ti_core.pace import Watch, keep_pace
from ti_core.packs import accounted
from ti_core.planning.batch import BatchItem, read_batch
from ti_core.records import BatchRow, Manifest, Outcome, batch_page_key
from ti_core.settings import Settings, load_settings
from ti_core.stations import look
from ti_core.store import open_store
from ti_core.works import Asked, Work

log = logging.getLogger(__name__)
# Prefect keeps with the flow run what the library says; where nobody has set its level, the root's keeps news away.
if (library := logging.getLogger("ti_core")).level == logging.NOTSET:
    library.setLevel(logging.INFO)


def _silent(made: Any) -> list[Exception]:
    """Of what a station returned, the failures that another try may mend: a server that did not answer."""
    return [error for one in made if isinstance(error := getattr(one, "error", None), ServiceError)]


def transient(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a failed station is worth another try: a silent server is, bad input or lack of memory is not."""
    result = state.result(raise_on_failure=False)
    return isinstance(result, ServiceError) or (isinstance(result, list) and bool(_silent(result)))


# Reuse is decided by the keys of ti_core alone, so neither results nor caches of Prefect are kept.
HOW: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [2, 10, 30],
    "retry_condition_fn": transient,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


def as_task(cancelled: Callable[[], bool], name: str, label: str, station: Callable[..., Any], *given: Any) -> Any:
    """Run a station as a task run. It has failed where a server was silent, or where no concept came through.

    Raises CancelledError where the flow run is `cancelled`.
    """
    if cancelled():
        raise CancelledError

    def run(*given: Any) -> Any:
        made = station(*given)
        errors = _silent(made) or [error for one in made if (error := getattr(one, "error", None))]
        if errors and (_silent(made) or len(errors) == len(made)):
            return Failed(message=str(errors[0]), data=made)
        return made

    state = task(run, name=name, task_run_name=label, **HOW)(*given, return_state=True)
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return result


def run_line(items: Sequence[BatchItem], asked: Asked, packing: Packing, batch: str = "") -> list[Work]:
    """Take a list of concepts, a pack, through the line, every station a task run of the present flow run; each work
    comes back with its share of the time."""
    check_begun()
    settings, watch = load_settings(), Watch()
    store, began = open_store(settings), time.monotonic()
    with (
        progress.listening(artifacts.Artifacts()),
        progress.listening(progress.Lines(progress.log.info)),
        progress.listening(watch),
        minding_cancellation() as cancelled,
    ):
        works = Line(settings, store, packing, batch, partial(as_task, cancelled)).run(items, asked)
    if cancelled() and any(isinstance(work.error, PausedError) for work in works):
        raise CancelledError
    keep_pace(watch, [one.plan for one in works if one.plan and not one.known], settings, store)
    works = accounted(works, time.monotonic() - began, settings)
    _tell_time(works, settings)
    ask_for_approval(works)
    return works


def _tell_time(works: Sequence[Work], settings: Settings) -> None:
    """Log what each word took with its tracking run; a silent server goes without."""
    done = [one for one in works if one.run_id and one.outcome and one.seconds is not None]
    if not done:
        return
    from ti_core.registry import Registry

    registry = Registry(settings)
    try:
        for one in done:
            row = {"step": 0, "time": time.time() * 1000, "worker_seconds": one.seconds, "cost": one.cost}
            registry.log_training(one.run_id, [{name: value for name, value in row.items() if value is not None}])
    except ServiceError as error:
        log.warning("%s It is not told what these words took.", error)


def look_at(items: Sequence[BatchItem], asked: Asked) -> list[Work]:
    """What is to be done of a batch: every concept planned, with its outcome where it has one."""
    check_begun()
    settings = load_settings()
    works: list[Work] = as_task(bool, "look", "look", look, items, asked, settings, open_store(settings))
    return works


@task(name="read-batch", task_run_name="read batch", **HOW)
def list_concepts(source: str, class_word: str) -> list[BatchItem]:
    """The concepts at the source."""
    return read_batch(source, class_word, load_settings())


@task(name="summarise", task_run_name="summarise", **HOW)
def summarise(works: list[Work], title: str, batch: str, begun: bool) -> list[BatchRow]:
    """Show the table, write the batch's page, and, where something was `begun`, end its tracking run; returns the
    table's rows."""
    from ti_core.reporting.report import worst_first
    from ti_core.summary import rows_of, write_summary

    settings = load_settings()
    store = open_store(settings)
    rows = rows_of(works, settings, store)
    artifacts.batch_table(worst_first(rows))
    write_summary(rows, f"Batch {title}", settings, store, batch)
    page = store.url(batch_page_key(batch))
    artifacts.batch_link(page, _close_batch(title, settings, page) if begun else None)
    return rows


def open_batch(title: str) -> None:
    """Start the tracking run under which those of a batch's concepts lie; a silent server gets it later."""
    from ti_core.registry import Registry

    try:
        Registry(load_settings()).open_batch(title)
    except ServiceError as error:
        log.warning("%s The batch goes on; its run is made with the first of its concepts.", error)


def _close_batch(title: str, settings: Settings, page: str) -> str | None:
    """End the tracking run of a batch; returns where a browser finds it."""
    from ti_core.registry import Registry

    registry = Registry(settings)
    try:
        link = registry.link_batch(title, page)
        registry.close_batch(title)
    except ServiceError as error:
        log.warning("%s Its run of the batch stays open.", error)
        return None
    return link


def abandon(title: str) -> None:
    """Mark the tracking run of a batch that was stopped."""
    from ti_core.registry import Registry

    try:
        Registry(load_settings()).close_batch(title, "KILLED")
    except ServiceError:
        log.warning("The tracking server cannot be told that this batch was stopped.")


@task(name="find-run", task_run_name="find run", **HOW)
def find_run(concept: str, base_model: str, run: str) -> Manifest:
    """The judged run to judge again."""
    from ti_core.config import check_slug
    from ti_core.publishing.catalogue import base_for, bases_of, find

    settings = load_settings()
    store = open_store(settings)
    return find(concept, base_for(base_model, settings, bases_of(store, check_slug(concept))), run, store)


def judge_again(old: Manifest, evaluation: EvaluationConfig, rule: SelectionRule, clip: str) -> Manifest:
    """Judge the checkpoints of a run in another way; the result lies beside the old one under its own key."""
    from ti_core.planning.plan import replan

    check_begun()
    settings = load_settings()
    with (
        progress.listening(artifacts.Artifacts()),
        progress.listening(progress.Lines(progress.log.info)),
        minding_cancellation() as cancelled,
    ):
        line = Line(settings, open_store(settings), call=partial(as_task, cancelled))
        return line.judge_again(old, replan(old.plan, evaluation, rule, clip, settings))


def publish_approved(waiting: Outcome, step: int, who: str, why: str) -> Outcome:
    """Publish a run that a person has approved, or another step of it; what is to be judged first are task runs."""
    from ti_core.approval import approve

    check_begun()
    settings = load_settings()
    with (
        progress.listening(artifacts.Artifacts()),
        progress.listening(progress.Lines(progress.log.info)),
        minding_cancellation() as cancelled,
    ):
        return approve(waiting, step, who, why, settings, open_store(settings), partial(as_task, cancelled))


def tell_tracking() -> None:
    """Tell the tracking server what lies in the outbox; one that is silent hears of it at a later run."""
    settings = load_settings()
    outbox.tell(settings, open_store(settings))
