"""How the concepts of a list ended: the rows and the page of a batch. It starts nothing."""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from ti_core.config import base_slug
from ti_core.errors import PausedError, PseudowordError, WithdrawnError
from ti_core.publishing.catalogue import by_earlier_version, manifest_at
from ti_core.records import BatchRow, BatchRows, BatchStatus, batch_page_key, batch_rows_key
from ti_core.reporting.figures import caveats, figures
from ti_core.reporting.pages import page_path, write_batch_page
from ti_core.reporting.report import batch_page
from ti_core.reporting.words import is_toy
from ti_core.settings import Settings
from ti_core.store import Store, get_blob
from ti_core.works import Work


def rows_of(works: Sequence[Work], settings: Settings, store: Store) -> list[BatchRow]:
    """A row for each concept, in the given order."""
    return [_row(work, settings, store) for work in works]


def write_summary(rows: Sequence[BatchRow], title: str, settings: Settings, store: Store, batch: str = "") -> Path:
    """Write the page of a batch on this machine, where it links to the pages of its concepts; of a `batch` with a name
    also in the store, without links. Returns its path."""
    load = cache(partial(get_blob, store))
    if batch:
        store.put(batch_rows_key(batch), BatchRows(rows=tuple(rows)).to_bytes())
        alone = [row.model_copy(update={"page": None}) for row in rows]
        store.put(batch_page_key(batch), batch_page(alone, load, title))
    return write_batch_page(settings, batch_page(rows, load, title))


NAMED = 10
"""At most so many concepts are named in a headline."""


def headline(ended: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """How a batch ended, in a few words and in a sentence with names, from its concepts' names and statuses. A name may
    be there twice, as in a table.

    The first word tells what asks for a hand, the worst first, whatever the counts are: Failed (none came through),
    Partly failed, Paused, Undecided, Rejected, Awaiting-approval, Declined, Started (of an inbox), Published, Nothing
    new.
    """
    names = {status: sorted(name for name, one in ended if one == status) for _, status in ended}
    told = [(status, names[status]) for status in _TOLD if status in names]
    counts = [f"{status} {len(there)}" for status, there in told]
    sentence = ", ".join(counts)
    listed = [f"{status}: {_listed(there)}" for status, there in told if status not in {"published", "skipped"}]
    message = ". ".join([sentence, *listed])
    if failed := len(names.get("failed", ())):
        whole = failed == len(ended)
        return "Failed" if whole else f"Partly failed: {failed} of {len(ended)}", message
    short = ", ".join(count for count in counts if not count.startswith("skipped")) or "nothing new"
    return short[0].upper() + short[1:], message


_TOLD = (
    "failed", "paused", "undecided", "rejected", "awaiting-approval", "declined", "started", "published", "skipped",
)  # fmt: skip


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def reason_of(error: Exception) -> str:
    """Why a concept left the line, in words: ours are sentences, others are named by their kind."""
    return str(error) if isinstance(error, PseudowordError) else f"{type(error).__name__}: {error}"


def status_of(work: Work) -> BatchStatus:
    """How a concept stands at the end of its line, as a `BatchRow` says it."""
    if work.outcome:
        return "skipped" if work.known else work.outcome.status
    if isinstance(work.error, WithdrawnError):  # people have decided so: no hand is asked for
        return "skipped"
    return "paused" if work.error is None or isinstance(work.error, PausedError) else "failed"


def _row(work: Work, settings: Settings, store: Store) -> BatchRow:
    status = status_of(work)
    if work.outcome is None:
        reason = reason_of(work.error or PausedError("It was not gone on with."))
        base = base_slug(work.base_model) if work.base_model else ""
        return BatchRow(
            concept=work.name, status=status, reason=reason, base=base, seconds=work.seconds, cost=work.cost
        )
    outcome = work.outcome
    manifest = manifest_at(store, outcome.manifest)
    earlier = by_earlier_version(work.planned, outcome) if work.known else ""
    page = page_path(settings, outcome.concept, outcome.base, outcome.judge_key)
    return BatchRow(
        concept=work.name,
        status=status,
        seconds=work.seconds,
        cost=work.cost,
        reason=f"{earlier} {outcome.reason}".strip(),
        outcome=outcome.status,
        base=outcome.base,
        step=outcome.step,
        score=outcome.score,
        gain=manifest.report.gain,
        strip=manifest.report.chosen.strip,
        picture=manifest.prepared.squares[0] if manifest.plan.concept.show_pictures else None,
        figures=figures(manifest),
        protocol=manifest.plan.evaluation.protocol,
        toy=is_toy(manifest.plan),
        caveats=tuple(caveats(manifest.plan)),
        page=page.name if page.is_file() else None,
    )
