"""The line as Prefect shows it: a task run for every station, its retries, its artifacts. No logic of its own."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed

from tasks import artifacts
from ti_core import progress
from ti_core.config import EvaluationConfig, Packing, SelectionRule
from ti_core.errors import ServiceError
from ti_core.line import Line
from ti_core.planning.batch import BatchItem, read_batch
from ti_core.records import BatchRow, Manifest
from ti_core.settings import load_settings
from ti_core.store import open_store
from ti_core.works import Asked, Work

log = logging.getLogger(__name__)


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


def as_task(name: str, label: str, station: Callable[..., Any], *given: Any) -> Any:
    """Run a station as a task run. It has failed where a server was silent, or where no concept came through."""

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
    """Take a list of concepts through the line, every station a task run of the present flow run."""
    settings = load_settings()
    line = Line(settings, open_store(settings), packing, batch, as_task)
    with progress.listening(artifacts.Artifacts()), progress.listening(progress.Lines(progress.log.info)):
        return line.run(items, asked)


@task(name="read-batch", task_run_name="read batch", **HOW)
def list_concepts(source: str, class_word: str) -> list[BatchItem]:
    """The concepts at the source."""
    return read_batch(source, class_word, load_settings())


@task(name="summarise", task_run_name="summarise", **HOW)
def summarise(works: list[Work], batch: str) -> list[BatchRow]:
    """Show the table, write the batch's page, end its tracking run; returns the table's rows."""
    from ti_core.reporting.report import worst_first
    from ti_core.summary import rows_of, write_summary

    settings = load_settings()
    store = open_store(settings)
    rows = rows_of(works, settings, store)
    artifacts.batch_table(worst_first(rows))
    if any(work.run_id for work in works):
        from ti_core.registry import Registry

        Registry(settings).close_batch(batch)
    write_summary(rows, f"Batch {batch}", settings, store)
    return rows


def abandon(batch: str) -> None:
    """Mark the tracking run of a batch that was stopped."""
    from ti_core.registry import Registry

    try:
        Registry(load_settings()).close_batch(batch, "KILLED")
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

    settings = load_settings()
    line = Line(settings, open_store(settings), call=as_task)
    with progress.listening(artifacts.Artifacts()), progress.listening(progress.Lines(progress.log.info)):
        return line.judge_again(old, replan(old.plan, evaluation, rule, clip, settings))
