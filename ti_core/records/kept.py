"""What is kept and published: manifest, outcome, version, duel, champion; and how a concept of a batch ended."""

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from ti_core.config import ImportSpec
from ti_core.quoting import escaped
from ti_core.records.base import Document, Record, now
from ti_core.records.decisions import Decision, Interval, Report, Verdict
from ti_core.records.planning import BaseModelInfo, Checkpoint, Given, Plan, PreparedSet
from ti_core.records.scores import Anchors, Scores

Layout = Literal["diffusers", "a1111"]
"""Of the files that are published."""
Format = Literal["diffusers", "a1111", "kohya", "onetrainer"]
"""Of the files that readers are given: a published one, or made of one while it is fetched."""
Status = Literal["published", "rejected", "undecided", "awaiting-approval", "declined", "imported"]
"""`rejected` is what judging says, `declined` what a person says."""
AWAITS: Status = "awaiting-approval"
BatchStatus = Status | Literal["failed", "paused", "skipped"]

Line = Annotated[str, AfterValidator(lambda text: escaped(" ".join(text.split())))]
"""What a person has said, as it may stand in a line of a page or a terminal."""


class PublishedFile(Record):
    """One file readers can fetch; its bytes are the blob `sha256`."""

    layout: Layout
    filename: str
    sha256: str
    size: int


class Manifest(Document):
    """All there is to know of one judged run. Written after every blob it names.

    Schema 2 added the table, per-picture scores and second opinions; schema 3 the report's verdict, device and number
    type; schema 4 those of every checkpoint, findings in place of warnings, and squares in place of picture files.
    Manifests of earlier schemas read on without them.
    """

    SCHEMA: ClassVar[int] = 4
    schema_version: int = 4
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
    device: str = ""
    """Where it was judged last (`cpu`, or `cuda` with the card's name); empty before schema 3."""
    dtype: str = ""
    """Number type of the U-Net there. Neither is in a key: the same work on another device is the same work
    (docs/decisions/0013)."""
    created: datetime = Field(default_factory=now)

    @property
    def trained_on(self) -> str:
        """Devices and number types of the checkpoints, each once; empty before schema 4. A run may go on elsewhere."""
        return "; ".join(dict.fromkeys(f"{one.device}, {one.dtype}" for one in self.checkpoints if one.device))

    @property
    def verdict(self) -> Verdict:
        """Whether the word is worth having, by the reporting set; before schema 3 by the choosing set."""
        if self.report.verdict:
            return self.report.verdict
        return "accepted" if self.decision.accepted else "rejected"


class Imported(Document):
    """A word from elsewhere that nobody judged: what it came from, and its files. Written after every blob it names."""

    concept: ImportSpec
    """`file` is its name alone."""
    base: BaseModelInfo
    given: Given
    train_key: str
    judge_key: str
    files: tuple[PublishedFile, ...] = ()
    created: datetime = Field(default_factory=now)


class Change(Record):
    """What a person has decided about a word: what, of which version, who, when and why."""

    action: Literal["rollback", "pin", "unpin", "withdraw", "forget", "allow", "approve", "decline"]
    """To approve and to decline are about a run that has no version yet; outcomes tell of them, not the pointer."""
    judge_key: str
    version: int
    """The version it is about, 0 where it has none; "" and 0 with a word that is forgotten, or allowed again."""
    who: Line
    why: Line
    when: datetime = Field(default_factory=lambda: datetime.now(UTC))
    """To the microsecond: two decisions within a second keep their order, and a record each."""
    gone: str = ""
    """Blob of the vectors that readers no longer get by it: those that were withdrawn, or gone back from; empty in
    older decisions. Judged anew they are another run, and are still these."""

    def told(self) -> str:
        """When, by whom and why, for a person."""
        return f"on {self.when:%Y-%m-%d} by {self.who}" + (f": {self.why}" if self.why else "")


class Outcome(Document):
    """How a run ended, recorded under its judge_key. Work that has an outcome is not done again; one that awaits
    approval gets another when a person has spoken.

    Schema 2 added the status `undecided`; schema 3 added `imported`, of a version that is not judged, and `declined`,
    and only those have it.
    """

    SCHEMA: ClassVar[int] = 3
    schema_version: int = 2
    judge_key: str
    train_key: str
    concept: str
    base: str
    status: Status
    reason: str
    step: int
    score: float
    """Balanced score on the reporting set, in [0, 1]; 0 of what is not judged."""
    version: int | None
    """The store's number of this version of the word; None for what is not published."""
    champion: bool
    """Whether this run became what readers get."""
    run_id: str
    """The tracking run; empty where the tracking server had none yet."""
    manifest: str
    """Key of the manifest in the store."""
    approval: Change | None = None
    """Who approved or declined it; None where nobody was asked, or has not answered."""
    ended: datetime = Field(default_factory=now)


class Version(Document):
    """The number of a published run, which is in the object's name: taken once, by create-if-absent."""

    judge_key: str


class Duel(Document):
    """Champion and newcomer judged side by side: same prompts, seeds and references. Recorded once for each pair, so
    that every rerun finds the same winner."""

    newcomer: str
    rival: str
    """judge_keys."""
    protocol: str
    """Digest of the protocol that both were judged under."""
    references: tuple[str, ...]
    """sha256 of the reference pictures."""
    newcomer_score: float
    rival_score: float
    """Balanced scores on the reporting set."""
    difference: Interval
    """Newcomer less rival, over the same pictures."""
    won: bool
    """Whether the newcomer is surely better; else the champion stays."""
    ended: datetime = Field(default_factory=now)


class Untold(Document):
    """An entry of the outbox: a run that ended, of which the tracking server does not know yet. Or one of the list of
    runs that await approval."""

    concept: str
    base: str
    manifest: str
    outcome: str
    """Keys in the store."""


class Decided(Document):
    """The record of a person's decision, beside the pointer that it moved."""

    change: Change


class Champion(Document):
    """What readers of a concept get: the one authority, moved by compare-and-swap alone, and what people have decided.

    It names a run also where readers get none: one that was withdrawn and had nothing before it. Of a word that was
    forgotten it holds the name and that decision, nothing else. Schema 2 added `changes`.
    """

    SCHEMA: ClassVar[int] = 2
    schema_version: int = 2
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
    """judge_key of the champion before this one, which readers get where this one's files are damaged."""
    promoted: datetime = Field(default_factory=now)
    tags: str = ""
    """Words to find it by, separated by commas (`ConceptSpec.tags`); empty in older pointers."""
    judged: bool = True
    """False of a word that was imported without pictures: `manifest` is then the key of an `Imported`."""
    changes: tuple[Change, ...] = ()
    """Every decision of a person, oldest first; whoever moves the pointer carries them on."""

    def withdrawal(self, judge_key: str, vectors: str = "") -> Change | None:
        """The decision that withdrew a run, or the very vectors under another run's name; None for what stands."""
        gone = [one for one in self.changes if one.action == "withdraw"]
        return next((one for one in gone if one.judge_key == judge_key or (vectors and one.gone == vectors)), None)

    def went_back(self, vectors: str) -> Change | None:
        """The decision to go back from these vectors, None where nobody did or readers get them again."""
        if vectors == self.vectors:
            return None
        return next((one for one in self.changes if (one.action, one.gone) == ("rollback", vectors)), None)

    @property
    def withdrawn(self) -> Change | None:
        """The decision that withdrew the very run that is named, so that readers get nothing."""
        return self.withdrawal(self.judge_key, self.vectors)

    @property
    def pin(self) -> Change | None:
        """The decision that holds this run in its place; going back ends it, also when the run returns later."""
        last = next((one for one in reversed(self.changes) if one.action in {"pin", "unpin", "rollback"}), None)
        return last if last and (last.action, last.judge_key) == ("pin", self.judge_key) else None

    @property
    def forgotten(self) -> Change | None:
        """The decision to forget the word, None where it stands or may be trained again."""
        return self.changes[-1] if self.changes and self.changes[-1].action == "forget" else None

    @property
    def vacant(self) -> bool:
        """Whether readers get nothing, so that any newcomer may take the place."""
        return not self.judge_key or self.withdrawn is not None


class Row(Record):
    """A published word in the index: what a list shows, and what a reader needs to fetch it."""

    concept: str
    base: str
    base_digest: str
    placeholder: str
    judge_key: str
    version: int
    step: int
    score: float
    files: tuple[PublishedFile, ...]
    promoted: datetime
    tags: str = ""
    judged: bool = True

    def has_tag(self, tag: str) -> bool:
        """Whether the word has this tag, in capitals or not."""
        return tag.strip().lower() in (one.strip().lower() for one in self.tags.split(","))


class Shard(Document):
    """A part of the index: the published words of one base model whose names fall into it, by name."""

    words: dict[str, Row]


class Copy(Document):
    """What lies beside a reader's copy of a word: which version of which word it is, and of which namespace."""

    word: Row
    namespace: str = ""


class Fault(Record):
    """Something that an audit found not to be as it should be."""

    kind: Literal["damaged", "missing", "pointer", "interrupted", "index", "untold", "unnamed", "mirror"]
    what: str
    """A sentence: what is wrong, where, and what to do."""
    repaired: bool = False


class BatchRow(Record):
    """How one concept of a batch ended, as the batch page tells it. What a failed concept never got is None."""

    concept: str
    status: BatchStatus
    """`skipped`: the work had an outcome already and was not done again. `paused`: its time was spent; the next run of
    the batch goes on with it."""
    reason: str
    outcome: Status | None = None
    """How it ended for good, also where that was known before; None where it has not."""
    base: str = ""
    """The base model's slug; "" where none was named and it has no outcome."""
    step: int | None = None
    """The chosen step."""
    score: float | None = None
    """Balanced score on the reporting set, in [0, 1]."""
    gain: Interval | None = None
    """CLIP-I over the class word on the reporting set."""
    strip: str | None = None
    """Blob of the chosen step's strip (`Scores.strip`)."""
    picture: str | None = None
    """Blob of a training picture to compare it with; None where the concept does not show them."""
    figures: dict[str, float] = Field(default_factory=dict)
    """What a published protocol averages, by name (`ti_core.planning.protocols`); empty where the run follows none."""
    protocol: str = ""
    """Name of the protocol that it was judged by."""
    caveats: tuple[str, ...] = ()
    """What to know before comparing the figures with published ones."""
    toy: bool = False
    """Whether the base model is the miniature."""
    page: str | None = None
    """Where the concept's page lies: a link for a browser, relative to the batch page or absolute."""
    seconds: float | None = None
    """Its share of the time of the pack that made it; None where nothing was done."""
    cost: float | None = None
    """What that time cost; None where no price is set."""


class BatchRows(Document):
    """How a batch ended, beside its page: who is on it."""

    rows: tuple[BatchRow, ...]


class Packs(Document):
    """Into which packs a batch was split when it began: names of concepts, and the base model of each pack as it was
    named."""

    packs: tuple[tuple[str, ...], ...]
    base_models: tuple[str, ...]


class Came(Record):
    """What came of one concept of a pack: its outcome, or why there is none."""

    name: str
    kind: Literal["done", "known", "failed", "paused", "withdrawn"]
    reason: str = ""
    outcome: Outcome | None = None
    seconds: float | None = None
    cost: float | None = None


class PackReport(Document):
    """What came of a pack, written when its run ends: a run that leaves none has died."""

    came: tuple[Came, ...]


class Pace(Document):
    """How fast a machine was at its last run on a base model, in passes of the U-Net; loading, preparing and publishing
    are not in it."""

    device: str
    dtype: str
    training: float
    """Passes a second, forward ones and those back counted alike."""
    judging: float
    """Passes a second, with what else judging does."""
    concepts: int
    """How many were in the run: together they are faster than one alone."""
    when: datetime


class Taken(Document):
    """A look at the inbox has dealt with a folder as it was then. Nothing of the folder is in it but its key."""

    run: str
    """The flow run that it started; "" for none."""
    when: datetime
