"""How the concepts of a list ended: the rows and the page of a batch. It starts nothing."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ti_core.errors import PausedError, PseudowordError, WithdrawnError
from ti_core.publishing.catalogue import by_earlier_version, manifest_at
from ti_core.records import BatchRow
from ti_core.reporting.figures import caveats, figures
from ti_core.reporting.pages import page_path, write_batch_page
from ti_core.reporting.report import batch_page
from ti_core.settings import Settings
from ti_core.store import Store, get_blob
from ti_core.works import Work


def rows_of(works: Sequence[Work], settings: Settings, store: Store) -> list[BatchRow]:
    """A row for each concept, in the given order."""
    return [_row(work, settings, store) for work in works]


def write_summary(rows: Sequence[BatchRow], title: str, settings: Settings, store: Store) -> Path:
    """Write the page of a batch; returns its path."""
    return write_batch_page(settings, batch_page(rows, partial(get_blob, store), title))


def reason_of(error: Exception) -> str:
    """Why a concept left the line, in words: ours are sentences, others are named by their kind."""
    return str(error) if isinstance(error, PseudowordError) else f"{type(error).__name__}: {error}"


def _row(work: Work, settings: Settings, store: Store) -> BatchRow:
    if work.outcome is None:
        error = work.error or PausedError("It was not gone on with.")
        status = "paused" if isinstance(error, PausedError) else "failed"
        if isinstance(error, WithdrawnError):  # people have decided so: no hand is asked for
            status = "skipped"
        return BatchRow.model_validate({"concept": work.name, "status": status, "reason": reason_of(error)})
    outcome = work.outcome
    manifest = manifest_at(store, outcome.manifest)
    earlier = by_earlier_version(work.planned, outcome) if work.known else ""
    page = page_path(settings, outcome.concept, outcome.base, outcome.judge_key)
    return BatchRow(
        concept=work.name,
        status="skipped" if work.known else outcome.status,
        reason=f"{earlier} {outcome.reason}".strip(),
        outcome=outcome.status,
        step=outcome.step,
        score=outcome.score,
        gain=manifest.report.gain,
        strip=manifest.report.chosen.strip,
        picture=manifest.prepared.squares[0] if manifest.plan.concept.show_pictures else None,
        figures=figures(manifest),
        protocol=manifest.plan.evaluation.protocol,
        toy=manifest.plan.base.kind == "miniature",
        caveats=tuple(caveats(manifest.plan)),
        page=page.name if page.is_file() else None,
    )
