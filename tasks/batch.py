"""The stations of a batch as Prefect tasks: list the concepts, tell how each ended, summarise."""

import logging
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import artifacts
from tasks.concept import station
from ti_core.config import EvaluationConfig
from ti_core.errors import PausedError, PseudowordError, ServiceError
from ti_core.planning.batch import BatchItem, read_batch
from ti_core.planning.protocols import caveats, figures, with_data
from ti_core.records import BatchRow, Manifest, Outcome
from ti_core.settings import load_settings
from ti_core.store import get_blob, open_store

log = logging.getLogger(__name__)


@task(name="read-batch", task_run_name="read batch", **station)
def list_concepts(source: str, class_word: str) -> list[BatchItem]:
    """The concepts at the source."""
    return read_batch(source, class_word, load_settings())


def judged_as(evaluation: EvaluationConfig, source: str) -> EvaluationConfig:
    """How the concepts of a batch are judged."""
    return with_data(evaluation, source, load_settings())


def row_of(name: str, state: Any) -> BatchRow:
    """How a concept's flow run ended, as a line of the summary."""
    result = state.result(raise_on_failure=False)
    if not isinstance(result, Outcome):
        known = isinstance(result, PseudowordError)
        reason = str(result) if known else f"{type(result).__name__}: {result}" if result else str(state.message)
        status = "paused" if isinstance(result, PausedError) else "failed"
        return BatchRow(concept=name, status=status, reason=reason)
    settings = load_settings()
    manifest = Manifest.from_bytes(open_store(settings).get(result.manifest).data, result.manifest)
    page = f"{result.concept}.{result.base}.html"
    return BatchRow(
        concept=name,
        status="skipped" if state.name == "Known" else result.status,
        reason=result.reason,
        step=result.step,
        score=result.score,
        gain=manifest.report.gain,
        strip=manifest.report.chosen.strip,
        figures=figures(manifest),
        protocol=manifest.plan.evaluation.protocol,
        caveats=tuple(caveats(manifest.plan)),
        page=page if Path(settings.home, "pages", page).is_file() else None,
    )


@task(name="summarise", task_run_name="summarise", cache_policy=NO_CACHE, persist_result=False)
def summarise(rows: list[BatchRow], batch: str) -> str:
    """Show the table, write the batch's page, end its tracking run; returns the page's path."""
    from ti_core.reporting.pages import write_batch_page
    from ti_core.reporting.report import batch_page, worst_first

    settings = load_settings()
    store = open_store(settings)
    artifacts.batch_table(worst_first(rows))
    if any(row.status != "skipped" for row in rows):
        from ti_core.registry import Registry

        Registry(settings).close_batch(batch)
    return str(write_batch_page(settings, batch_page(rows, lambda sha256: get_blob(store, sha256), f"Batch {batch}")))


def abandon(batch: str) -> None:
    """Mark the tracking run of a batch that was stopped."""
    from ti_core.registry import Registry

    try:
        Registry(load_settings()).close_batch(batch, "KILLED")
    except ServiceError:
        log.warning("The tracking server cannot be told that this batch was stopped.")
