"""What Prefect shows and tells of a run beyond its graph: progress, tables, pictures, links, events. No logic of the
line.

An artifact's key joins its kind, the namespace and the concept, so that Prefect keeps the history of one concept
together.
"""

import base64
import logging
import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.events import emit_event

from ti_core import progress
from ti_core.records import BatchRow, Decision, ImageSet, Manifest, Outcome, Plan
from ti_core.settings import load_settings
from ti_core.store import Store, get_blob, open_store

if TYPE_CHECKING:
    from ti_core.reporting.checking import Checked

log = logging.getLogger(__name__)

PROGRESS_SECONDS, PROGRESS_SHARE = 2.0, 0.01
"""A progress artifact is updated at most this often, and for no smaller step: each update is a request and an event,
and those of many workers add up (benchmarks/scale.py)."""


def key_of(kind: str, concept: str) -> str:
    """The key of an artifact, of one concept or of none in particular ("")."""
    return "-".join(part for part in (kind, load_settings().namespace, concept) if part)


def verbatim(text: str) -> str:
    """Text that Markdown shows as it stands: a word in angle brackets would be read as HTML and not be seen."""
    return re.sub(r"([\\`*_\[\]<>#|~])", r"\\\1", text)


class ProgressBar:
    """A Prefect progress artifact that is updated now and then, by a thread of its own: no step waits for a server that
    is slow to answer, or away."""

    def __init__(self, key: str, thread: ThreadPoolExecutor) -> None:
        self._key, self._thread, self._told, self._share = key, thread, 0.0, -1.0
        self._artifact: UUID | None = None
        self._sending: Future[None] | None = None

    def update(self, share: float, text: str, final: bool = False) -> None:
        """Show `share` in [0, 1] and a line of text; `final` shows it even right after the last update."""
        busy = self._sending is not None and not self._sending.done()
        early = time.monotonic() - self._told < PROGRESS_SECONDS or share - self._share < PROGRESS_SHARE
        if not final and (busy or early):
            return
        self._told, self._share = time.monotonic(), share
        self._sending = self._thread.submit(copy_context().run, self._send, share, text)

    def _send(self, share: float, text: str) -> None:
        try:
            if self._artifact is None:
                self._artifact = create_progress_artifact(share * 100, key=self._key, description=text)
            else:
                update_progress_artifact(self._artifact, share * 100, description=text)
        except httpx.HTTPError as error:  # hours of training do not end because nobody can watch them
            log.warning("The progress cannot be shown in Prefect: %r", error)


def scores_table(plan: Plan, decision: Decision) -> None:
    """Table of scores by step, the chosen one marked, under the decision in words."""
    table = [
        {
            "step": candidate.step,
            "CLIP-I": round(candidate.clip_i.value, 4),
            "CLIP-T": round(candidate.clip_t.value, 4),
            "score": round(candidate.score, 4),
            "chosen": "◀" if candidate.step == decision.step else "",
        }
        for candidate in decision.candidates
    ]
    create_table_artifact(table, key=key_of("scores", plan.concept.name), description=verbatim(decision.explanation))


def contact_sheet(plan: Plan, png: bytes) -> None:
    """The contact sheet as a picture."""
    _image(png, key_of("sheet", plan.concept.name), "Step × prompt; the chosen step is framed.")


def judged(manifest: Manifest, store: Store) -> None:
    """What judging has shown of a run: scores and contact sheet."""
    from ti_core.reporting.report import contact_sheet as drawn

    scores_table(manifest.plan, manifest.decision)
    contact_sheet(manifest.plan, drawn(manifest, lambda sha256: get_blob(store, sha256)))


def _image(png: bytes, key: str, text: str) -> None:
    """A picture that travels inside its URI: the browser need not reach the store."""
    create_image_artifact("data:image/png;base64," + base64.b64encode(png).decode(), key=key, description=text)


def page_link(outcome: Outcome, link: str) -> None:
    """Link to the page of a run."""
    text = f"{outcome.concept}: {outcome.status}"
    create_link_artifact(
        link, link_text=text, key=key_of("page", outcome.concept), description=verbatim(outcome.reason)
    )


def tell_of(outcome: Outcome, link: str) -> None:
    """An event of its own for each concept that ended, `pseudoword.concept.rejected` for one, and `pseudoword.champion`
    where readers get a new version: automations hear of it in the same words whichever flow it ran in."""
    namespace, word = load_settings().namespace, f"{outcome.concept}.{outcome.base}"
    resource = {
        "prefect.resource.id": f"pseudoword.concept.{f'{namespace}.' if namespace else ''}{word}",
        "prefect.resource.name": f"{outcome.concept} on {outcome.base}{f' of {namespace}' if namespace else ''}",
    }
    payload = {"reason": outcome.reason, "page": link, "score": outcome.score, "step": outcome.step}
    emit_event(f"pseudoword.concept.{outcome.status}", resource, payload=payload)
    if outcome.champion:
        emit_event("pseudoword.champion", resource, payload=payload | {"version": outcome.version})


class Artifacts:
    """Listens to the line and shows what it tells."""

    def __init__(self) -> None:
        self._bar: ProgressBar | None = None
        """Of all that is trained together."""
        self._thread = ThreadPoolExecutor(1, "progress")

    def __call__(self, event: progress.Event) -> None:
        match event:
            case progress.Looked():
                pictures_table(event.sets)
            case progress.Kept():
                pictures_sheet(event.plan)
            case progress.Trained():
                alone = event.total == event.steps
                key = key_of("training", event.concept if alone else "")
                self._bar = self._bar or ProgressBar(key, self._thread)
                text = f"step {event.step} of {event.steps}, loss {event.loss:.4f}"
                text = text if alone else f"{event.concept}: {text}; {event.done} of {event.total} steps of all"
                self._bar.update(event.done / event.total, text, final=event.done == event.total)
            case progress.Assembled():
                judged(event.manifest, open_store(load_settings()))
            case progress.Ended():
                page_link(event.outcome, event.page)
                tell_of(event.outcome, event.page)


def pictures_table(sets: Sequence[tuple[str, ImageSet]]) -> None:
    """What was found of the pictures, before anything is trained; nothing where there is nothing to say."""
    table = [
        {"concept": concept, "severity": finding.severity, "file": finding.file, "finding": finding.text}
        for concept, images in sets
        for finding in images.findings
    ]
    if table:
        key = key_of("pictures", _slug(sets[0][0]) if len(sets) == 1 else "")
        create_table_artifact(table, key=key, description=f"Found of the pictures of {len(sets)} concepts")
        log.info("%d findings of the pictures of %d concepts: see the artifact %s", len(table), len(sets), key)


def pictures_sheet(plan: Plan) -> None:
    """A concept's pictures as they came and as they are trained on, as a picture; nothing where none is cut and nothing
    was found, or where they are not to be shown."""
    from ti_core.reporting.given import given_of, sheet

    if not plan.concept.show_pictures:
        return
    store = open_store(load_settings())
    squares = [one.square for one in plan.images.pictures]
    given = given_of(plan, lambda sha256: get_blob(store, sha256), squares)
    if any(one.whole or one.findings for one in given):
        text = f"Pictures of {plan.concept.name}: as they came, as they are trained on, what was found."
        _image(sheet(given), key_of("given", plan.concept.name), text)


def checked_sheet(one: "Checked") -> None:
    """What was found at a source, with its pictures as they came and as they would be trained on."""
    from ti_core.reporting.given import sheet

    if one.made:
        _image(
            sheet(one.given),
            key_of("given", _slug(one.name)),
            f"Pictures of {verbatim(one.name)}: as they came, as they are cut.",
        )


def checked(found: "Sequence[Checked]", times: Sequence[str]) -> None:
    """What was found at every source in one table, and how long a word takes, in words."""
    pictures_table([(one.name, one.images) for one in found])
    lines = [
        f"- **{verbatim(one.name)}**: "
        + (verbatim(one.error) or f"{len(one.images.pictures)} usable pictures, {_findings(one)}")
        for one in found
    ]
    create_markdown_artifact(
        "\n".join([*lines, "", *map(verbatim, times)]), key=key_of("check", ""), description="Pictures, before training"
    )


def _findings(one: "Checked") -> str:
    counts = Counter(finding.severity for finding in one.images.findings)
    return ", ".join(f"{counts[kind]} {kind}{'s' * (counts[kind] > 1)}" for kind in counts) or "nothing to say"


def _slug(name: str) -> str:
    """The end of a place as an artifact's key may have it."""
    return re.sub(r"[^a-z0-9]+", "-", name.rstrip("/").rpartition("/")[2].lower()).strip("-") or "pictures"


def inbox_table(rows: Sequence[tuple[str, str, str]]) -> None:
    """What was done about the new folders of the inbox: name, status, reason of each."""
    table = [dict(zip(("folder", "status", "reason"), row, strict=True)) for row in rows]
    create_table_artifact(table, key=key_of("inbox", ""), description=f"{len(rows)} new folders")


def batch_link(page: str, tracked: str | None) -> None:
    """Link to the page of a batch in the store, and to its run in the tracking server."""
    about = f"[The batch in MLflow]({tracked})" if tracked else "Nothing of it was new."
    create_link_artifact(page, link_text="the page of the batch", key=key_of("batch-page", ""), description=about)


def batch_table(rows: list[BatchRow]) -> None:
    """Summary of a batch; `rows` come worst first."""
    from ti_core.reporting.words import namer

    name_of = namer(rows)
    table = [
        {
            "concept": name_of(row),
            "outcome": row.status,
            "step": row.step,
            "score": None if row.score is None else round(row.score, 3),
            "reason": row.reason,
        }
        for row in rows
    ]
    create_table_artifact(table, key=key_of("batch", ""), description=f"{len(rows)} concepts, worst first")
