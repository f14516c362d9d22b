"""What the system says: the small typed records that travel between tasks and lie in the store.

Never tensors, never pictures: those are blobs, named here by their sha256. A `Document` is a record stored on its
own; it carries `schema_version`, and a reader refuses a newer one in a sentence. This module knows no torch.

Grid legend: P prompts, S seeds; `values[p][s]` belongs to one generated picture.
"""

import json
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ti_core.config import BackboneKind, ConceptSpec, EvaluationConfig, Sampler, SelectionRule, TrainingConfig
from ti_core.errors import IntegrityError

Layout = Literal["diffusers", "a1111"]
Split = Literal["select", "report"]
Status = Literal["published", "rejected", "awaiting-approval"]


class Record(BaseModel):
    """An immutable value."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Record):
    """A record that is stored on its own, as JSON."""

    SCHEMA: ClassVar[int] = 1
    schema_version: int = 1

    def to_bytes(self) -> bytes:
        """The stored form: indented UTF-8 JSON with a final newline."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> Self:
        """Read a stored document. `source` says where it came from.

        Raises IntegrityError when it is damaged or was written by a newer version.
        """
        try:
            raw: Any = json.loads(data)
            version = raw.get("schema_version")
            if isinstance(version, int) and version > cls.SCHEMA:
                raise IntegrityError(
                    f"{source} has schema version {version}, newer than {cls.SCHEMA}, the newest one readable here: "
                    "upgrade Pseudoword."
                )
            return cls.model_validate_json(data)
        except (ValidationError, ValueError, AttributeError) as error:
            raise IntegrityError(f"{source} is damaged: it does not read as a {cls.__name__} ({error}).") from None


def now() -> datetime:
    """The time of a record: UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


# --- what goes in ---------------------------------------------------------------------------------------------------


class Picture(Record):
    """One usable input picture; its bytes are the blob `sha256`, unchanged. `mask` is the blob of its mask picture, ""
    where there is none."""

    name: str
    sha256: str
    width: int
    height: int
    mask: str = ""


class ImageSet(Record):
    """The usable pictures of one concept, sorted by digest, no duplicates, and what a person should know."""

    pictures: tuple[Picture, ...]
    warnings: tuple[str, ...] = ()


class PreparedSet(Record):
    """Pictures as training sees them. `squares` are blobs of lossless PNGs, RGB, `resolution` pixels a side;
    `latents` is a safetensors file in this worker's cache: mean and std, each [N, C, h, w], mirrored ones last;
    original, [N, 2], height and width of the crops in pixels; for a masked loss mask, [N, 1, h, w]."""

    key: str
    resolution: int
    squares: tuple[str, ...]
    latents: str
    count: int


class BaseModelInfo(Record):
    """A base model found on disk. `slug` names it in keys, `digest` covers every file of it that is used."""

    name: str
    slug: str
    folder: str
    kind: BackboneKind
    digest: str
    resolution: int


class JudgeInfo(Record):
    """The CLIP that judges. `location` is open_clip's `local-dir:FOLDER`, or ARCHITECTURE/PRETRAINED."""

    name: str
    location: str
    digest: str


class OpinionInfo(Record):
    """A second opinion on likeness: a vision transformer in transformers' folder layout (DINO, DINOv2, any ViT)."""

    name: str
    folder: str
    digest: str


class PromptSet(Record):
    """Prompts and seeds of one judging. Prompts hold one `{}` for the word. Seeds are shared by all prompts."""

    plain: tuple[str, ...]
    edit: tuple[str, ...]
    seeds: tuple[int, ...]


class Protocol(Record):
    """Everything that fixes how judging is done. Scores compare only under one digest (`keys.protocol_digest`)."""

    base_digest: str
    clip: str
    clip_digest: str
    references: tuple[str, ...]
    """sha256 of the reference picture files, sorted, with `preprocessing` the digest of how they were made square."""
    preprocessing: str
    class_word: str
    pairing: Literal["all-pairs"] = "all-pairs"
    placeholder_policy: Literal["class-word", "removed"] = "class-word"
    """What stands in a prompt, where CLIP-T reads it, in place of the new word: the class word, or nothing."""
    sampler: Sampler = "ddim"
    sampler_steps: int
    guidance: float
    resolution: int
    select: PromptSet
    report: PromptSet
    version: int
    """`keys.JUDGING_VERSION`: hand-bumped when judging changes its numbers."""
    dino: str = ""
    """Name and digest of the second opinion, both empty where there is none."""
    dino_digest: str = ""


class Plan(Record):
    """One run, completely decided: what every task of it is told. Defaults are filled in, keys are computed."""

    concept: ConceptSpec
    base: BaseModelInfo
    judge: JudgeInfo
    images: ImageSet
    training: TrainingConfig
    evaluation: EvaluationConfig
    rule: SelectionRule
    protocol: Protocol
    protocol_digest: str
    train_key: str
    judge_key: str
    opinion: OpinionInfo | None = None


# --- what training and judging say ----------------------------------------------------------------------------------


class Checkpoint(Record):
    """Vectors at a step, to be judged: the blob `vectors` is safetensors, one [V, D] fp32 tensor per text encoder."""

    step: int
    vectors: str
    norm: float
    """Mean L2 norm of the vectors."""
    loss: float
    """Mean training loss since the checkpoint before."""


class Trained(Record):
    """How far one concept's training came."""

    concept: str
    step: int
    checkpoints: tuple[Checkpoint, ...]
    """By step."""
    reason: str = ""
    """Why it did not come to its end; empty when it did."""
    paused: bool = False
    """Whether the same work goes on later from `step`."""


class Cells(Record):
    """Cosines on a prompt × seed grid."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]

    @property
    def mean(self) -> float:
        """Mean over all cells."""
        return sum(sum(row) for row in self.values) / (len(self.prompts) * len(self.seeds))


class Scores(Record):
    """What one checkpoint earned under one protocol. Step 0 is the class word alone, without any new vector."""

    step: int
    split: Split
    protocol: str
    clip_i: Cells
    """Plain prompts: mean cosine of each generated picture to all reference pictures."""
    clip_t: Cells
    """Edit prompts: cosine of each generated picture to its prompt with the class word in place of the new word."""
    strip: str
    """Blob of a PNG: one tile per prompt (plain first, then edit), first seed, left to right."""
    clip_i_edit: Cells | None = None
    """CLIP-I on the edit prompts; None in older records. No rule reads this or what follows."""
    clip_t_plain: Cells | None = None
    """CLIP-T on the plain prompts; None in older records."""
    clip_t_of_mean: tuple[float, ...] | None = None
    """Edit prompts: cosine of the mean feature of a prompt's pictures to the prompt (the textual-inversion paper's
    figure); None in older records and where rungs of halving were put together."""
    dino: Cells | None = None
    """All prompts, plain first: mean DINO cosine of each generated picture to all reference pictures. None: no DINO."""


class JudgeRequest(Record):
    """One set of pictures to be made and scored: a checkpoint, or the class word alone, on one split."""

    plan: Plan
    prepared: PreparedSet
    step: int
    vectors: str | None
    """Blob of the checkpoint; None judges the class word alone (step 0)."""
    split: Split
    seeds: tuple[int, ...] = ()
    """Some of the split's seeds; empty means all."""


class KeptScores(Document):
    """Scores in the store, so that the same set of pictures is not judged twice under one protocol."""

    scores: Scores


class Anchors(Record):
    """Where the scales end, measured under the same protocol."""

    class_word: Scores
    """Scale zero of CLIP-I and scale one of CLIP-T."""
    real: float
    """Scale one of CLIP-I: real pictures against real, all pairs without self-pairs (1.0 for a single picture)."""
    real_text: float
    """Scale zero of CLIP-T: the training pictures against the edit prompts."""
    real_dino: float | None = None
    """Real pictures against real in DINO's eyes, as `real`; None where there is no DINO."""


class Interval(Record):
    """A value and its bootstrap interval."""

    value: float
    low: float
    high: float


class Candidate(Record):
    """One judged step in the decision's table. Scaled values lie in [0, 1]."""

    step: int
    clip_i: Interval
    clip_t: Interval
    scaled_i: float
    scaled_t: float
    score: float
    """What the rule ranks by: the balanced score, scaled CLIP-I (`fidelity`) or scaled CLIP-T (`editability`)."""
    behind: float
    """Standard error of this step's distance to the best score, both on the same cells; 0 for the best itself."""
    tied: bool
    """Within one standard error of the best, and on the floor of its rule or above."""
    seeds: int = 0
    """Seeds per prompt that it was judged on: all of the protocol's, or fewer where halving let it go out; 0 in older
    records, which know no halving."""


class Scale(Record):
    """The ends of both scales in cosine units, and whether each is long enough to mean something."""

    image_zero: float
    image_one: float
    text_zero: float
    text_one: float
    image_usable: bool
    text_usable: bool


class Decision(Record):
    """Which step was chosen and why."""

    rule: SelectionRule
    accepted: bool
    step: int
    best_step: int
    """The step with the highest score of those that keep the rule's floor; `step` is the earliest sound one tied with
    it (`selection.choose`)."""
    looks_bad_from: int | None
    gain: Interval
    """CLIP-I of the chosen step over the class word, same prompts and seeds."""
    scale: Scale
    candidates: tuple[Candidate, ...]
    explanation: str
    """One paragraph for a person."""


class Report(Record):
    """The chosen step on the disjoint reporting set: what may be told and compared, since it was not chosen on it."""

    anchors: Anchors
    chosen: Scores
    scaled_i: float
    scaled_t: float
    score: float
    """The balanced score, whatever the rule: champions compare by it."""
    gain: Interval


# --- what is kept ---------------------------------------------------------------------------------------------------


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
    """Blob of a Parquet table with one row per judged picture (`ti_core.evaluation.table`); empty before schema 2."""
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


# --- where it is kept -----------------------------------------------------------------------------------------------


def blob_key(sha256: str) -> str:
    """Key of a content-addressed blob."""
    return f"blobs/sha256/{sha256[:2]}/{sha256}"


def concept_prefix(concept: str, base: str) -> str:
    """Everything about one concept on one base model lies under this prefix."""
    return f"concepts/{concept}/{base}"


def run_prefix(concept: str, base: str, train_key: str) -> str:
    """Everything about one training run lies under this prefix."""
    return f"{concept_prefix(concept, base)}/runs/{train_key}"


def manifest_key(plan: Plan) -> str:
    """Key of a run's manifest."""
    return f"{run_prefix(plan.concept.name, plan.base.slug, plan.train_key)}/manifest-{plan.judge_key}.json"


def outcome_key(plan: Plan) -> str:
    """Key of a run's outcome."""
    return f"{run_prefix(plan.concept.name, plan.base.slug, plan.train_key)}/outcome-{plan.judge_key}.json"


def scores_key(request: JudgeRequest, digest: str) -> str:
    """Key of a request's kept scores; `digest` is `keys.request_digest`. They do not lie with a training run: the class
    word's serve all runs of a concept."""
    return f"{concept_prefix(request.plan.concept.name, request.plan.base.slug)}/scores/{digest}.json"


def champion_key(concept: str, base: str) -> str:
    """Key of the champion pointer."""
    return f"{concept_prefix(concept, base)}/champion.json"


def former_champion_key(concept: str, base: str, judge_key: str) -> str:
    """Key of the copy of a champion that is kept when another takes its place."""
    return f"{concept_prefix(concept, base)}/champions/{judge_key}.json"


# --- what a batch says ----------------------------------------------------------------------------------------------


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
    figures: dict[str, float] = {}
    """What a published protocol averages, by name (`ti_core.protocols`); empty where the run follows none."""
    protocol: str = ""
    """Name of the protocol that it was judged by."""
    caveats: tuple[str, ...] = ()
    """What to know before comparing the figures with published ones."""
    page: str | None = None
    """Where the concept's page lies: a link for a browser, relative to the batch page or absolute."""
