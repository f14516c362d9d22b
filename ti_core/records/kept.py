"""What is kept and published: manifest, outcome, champion; and how a concept of a batch ended."""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from ti_core.records.base import Document, Record, now
from ti_core.records.decisions import Decision, Interval, Report
from ti_core.records.planning import Checkpoint, Plan, PreparedSet
from ti_core.records.scores import Anchors, Scores

Layout = Literal["diffusers", "a1111"]
Status = Literal["published", "rejected", "awaiting-approval"]


class PublishedFile(Record):
    """One file readers can fetch; its bytes are the blob `sha256`."""

    layout: Layout
    filename: str
    sha256: str
    size: int


class Manifest(Document):
    """All there is to know of one judged run. Written after every blob it names.

    Schema 2 added the table, per-picture scores and second opinions; manifests of schema 1 read on without them.
    """

    SCHEMA: ClassVar[int] = 2
    schema_version: int = 2
    plan: Plan
    prepared: PreparedSet
    checkpoints: tuple[Checkpoint, ...]
    anchors: Anchors
    scores: tuple[Scores, ...]
    decision: Decision
    report: Report
    files: tuple[PublishedFile, ...]
    page: str
    """Blob of the HTML page."""
    table: str = ""
    """Blob of a Parquet table with one row per judged picture (`ti_core.reporting.table`); empty before schema 2."""
    created: datetime = Field(default_factory=now)


class Outcome(Document):
    """How a run ended for good, recorded under its judge_key. Work that has an outcome is not done again."""

    judge_key: str
    train_key: str
    concept: str
    base: str
    status: Status
    reason: str
    step: int
    score: float
    """Balanced score on the reporting set, in [0, 1]."""
    version: int | None
    """Version in the model registry; None when nothing was registered."""
    champion: bool
    """Whether this run became what readers get."""
    run_id: str
    """The tracking run."""
    manifest: str
    """Key of the manifest in the store."""
    ended: datetime = Field(default_factory=now)


class Champion(Document):
    """What readers of a concept get: the one authority. Moved by compare-and-swap."""

    concept: str
    base: str
    base_digest: str
    placeholder: str
    judge_key: str
    train_key: str
    version: int
    step: int
    vectors: str
    """Blob of the chosen checkpoint's vectors."""
    files: tuple[PublishedFile, ...]
    protocol: str
    score: float
    manifest: str
    previous: str | None
    """judge_key of the champion before this one."""
    promoted: datetime = Field(default_factory=now)


class BatchRow(Record):
    """How one concept of a batch ended, as the batch page tells it. What a failed concept never got is None."""

    concept: str
    status: Status | Literal["failed", "paused", "skipped"]
    """`skipped`: the work had an outcome already and was not done again. `paused`: its time was spent; the next run of
    the batch goes on with it."""
    reason: str
    step: int | None = None
    """The chosen step."""
    score: float | None = None
    """Balanced score on the reporting set, in [0, 1]."""
    gain: Interval | None = None
    """CLIP-I over the class word on the reporting set."""
    strip: str | None = None
    """Blob of the chosen step's strip (`Scores.strip`)."""
    figures: dict[str, float] = Field(default_factory=dict)
    """What a published protocol averages, by name (`ti_core.planning.protocols`); empty where the run follows none."""
    protocol: str = ""
    """Name of the protocol that it was judged by."""
    caveats: tuple[str, ...] = ()
    """What to know before comparing the figures with published ones."""
    page: str | None = None
    """Where the concept's page lies: a link for a browser, relative to the batch page or absolute."""
