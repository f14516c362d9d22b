"""What a run is decided to be: pictures, base model, judges, protocol, plan; and what training makes of it."""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import model_validator

from ti_core.config import BackboneKind, ConceptSpec, EvaluationConfig, Sampler, SelectionRule, TrainingConfig
from ti_core.records.base import Record

Split = Literal["select", "report"]


class Picture(Record):
    """One usable input picture. `sha256` is the digest of its file as it was given, by which it is known, and `mask`
    that of its mask picture, "" where there is none.

    What the store keeps carries no metadata: the blobs `square` (PNG, RGB, as training sees it) and `shown` (PNG, 8-bit
    grey: what a mask or the alpha channel shows of it; "" where all of it shows). Both are "" in manifests up to schema
    3, whose stores keep the files. `whole` (WebP) is the whole picture, small, for pages; "" where the square is all of
    it, or where pictures are not to be shown.
    """

    name: str
    """Relative to the source, as it may be shown."""
    sha256: str
    width: int
    height: int
    mask: str = ""
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Left, top, right, bottom of the square in pixels of the upright file; it may reach beyond the picture."""
    square: str = ""
    shown: str = ""
    whole: str = ""

    @property
    def outside(self) -> float:
        """Which share of the picture lies outside of its square."""
        return 1 - self._inside / (self.width * self.height)

    @property
    def bands(self) -> float:
        """Which share of the square lies outside of the picture."""
        return 1 - self._inside / ((self.crop[2] - self.crop[0]) * (self.crop[3] - self.crop[1]))

    @property
    def _inside(self) -> int:
        """Pixels that picture and square have in common."""
        left, top, right, bottom = self.crop
        return (min(right, self.width) - max(left, 0)) * (min(bottom, self.height) - max(top, 0))


class Finding(Record):
    """Something a person should know of the pictures before they are trained on."""

    severity: Literal["problem", "warning", "hint"]
    """problem: a picture is left out; warning: the word will likely suffer; hint: look at it."""
    kind: str
    """What it is about, in one word: the same for all findings of a kind."""
    file: str
    """The picture's name, "" for the set as a whole."""
    text: str
    """A whole sentence, with what to do."""


class ImageSet(Record):
    """The usable pictures of one concept, sorted by digest, no duplicates, and what a person should know."""

    pictures: tuple[Picture, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The findings as sentences."""
        return tuple(finding.text for finding in self.findings)

    def findings_of(self, picture: Picture) -> list[Finding]:
        """What was found of one picture."""
        return [one for one in self.findings if one.file == picture.name]

    @property
    def other_findings(self) -> list[Finding]:
        """What was found of the set as a whole, and of files that are left out."""
        used = {picture.name for picture in self.pictures}
        return [one for one in self.findings if one.file not in used]

    def with_findings(self, more: Sequence[Finding]) -> Self:
        """The set with further findings, each once."""
        return self.model_copy(update={"findings": tuple(dict.fromkeys([*self.findings, *more]))})

    def hidden(self) -> Self:
        """The set without what is kept for showing alone."""
        return self.model_copy(
            update={"pictures": tuple(one.model_copy(update={"whole": ""}) for one in self.pictures)}
        )

    @model_validator(mode="before")
    @classmethod
    def _from_warnings(cls, fields: Any) -> Any:
        """Manifests up to schema 3 have sentences alone."""
        if not isinstance(fields, dict) or "warnings" not in fields:
            return fields
        said = [{"severity": "warning", "kind": "earlier", "file": "", "text": text} for text in fields["warnings"]]
        return {name: value for name, value in fields.items() if name != "warnings"} | {"findings": said}


class PreparedSet(Record):
    """Pictures as training sees them. `squares` are blobs of lossless PNGs, RGB, `resolution` pixels a side;
    `latents` is a safetensors file in this worker's cache: mean and std, each [N, C, h, w], mirrored ones last;
    original, [N, 2], height and width of the crops in pixels; for a masked loss mask, [N, 1, h, w]."""

    key: str
    resolution: int
    squares: tuple[str, ...]
    latents: str

    @model_validator(mode="before")
    @classmethod
    def _without_count(cls, fields: Any) -> Any:
        """Manifests up to schema 3 may count the latents, which nothing reads."""
        return (
            {name: value for name, value in fields.items() if name != "count"} if isinstance(fields, dict) else fields
        )


class BaseModelInfo(Record):
    """A base model found on disk. `slug` names it in keys, `digest` covers every file of it that is used; `variant` is
    "fp16" where a stock pipeline must be told to load that variant; `prediction` what its U-Net says by its
    scheduler's configuration, "" in older manifests."""

    name: str
    slug: str
    folder: str
    kind: BackboneKind
    digest: str
    resolution: int
    variant: str = ""
    prediction: Literal["", "epsilon", "v_prediction"] = ""


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


class Given(Record):
    """Vectors that were there before: of a file from elsewhere, or of a published word. A training starts from them, or
    an import takes them as they are."""

    source: str
    """The file's name without its folder, or the published word with its version."""
    layout: str
    """What the file is, in words: whose layout. Empty for a published word."""
    sha256: str
    """Of the file; of a published word that of its vectors."""
    vectors: str
    """The blob, as `Checkpoint.vectors`: the same vectors have the same one, whichever layout they came in."""
    count: int
    norm: float
    """Mean L2 norm of the vectors."""
    step: int = 0
    """Steps that it was trained for; 0 where the file does not say."""

    def told(self) -> str:
        """For a person: from what it came."""
        return f"{self.source} ({self.layout}, sha256 {self.sha256[:12]})" if self.layout else self.source


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
    given: Given | None = None
    """What the training starts from in place of a phrase, or what is imported."""

    @property
    def started_from(self) -> str:
        """For a person: the phrase, word or file that the vectors started from."""
        return self.given.told() if self.given else self.concept.start_phrase


class Checkpoint(Record):
    """Vectors at a step, to be judged: the blob `vectors` is safetensors, one [V, D] fp32 tensor per text encoder."""

    step: int
    vectors: str
    norm: float
    """Mean L2 norm of the vectors."""
    loss: float
    """Mean training loss since the checkpoint before."""
    device: str = ""
    """Where it was trained (`cpu`, or `cuda` with the card's name); empty in manifests before schema 4."""
    dtype: str = ""
    """Number type of the U-Net there."""


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
    unkept: bool = False
    """Whether the store did not take all of it: another try goes on from the last state that it has."""
