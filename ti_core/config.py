"""What a user says: the concept, how to train it, how to judge it, how to choose.

These models are also the parameters of the Prefect flows, so every field has a title, a description and a place in
the form, and none is optional-by-None: a number 0 means "the default of this kind of base model" and `resolved`
puts the real number there before anything is keyed or run. This module knows no torch, no Prefect and no files.
"""

import re
from math import ceil
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, field_validator, model_validator

from ti_core.errors import InputError

BackboneKind = Literal["miniature", "sd1", "sd2", "sdxl"]
Sampler = Literal["ddim", "dpmsolver++"]
Precision = Literal["", "bf16", "fp16", "fp32"]
ProtocolName = Literal["standard", "quick", "textual-inversion-paper", "dreambench"]
PresetName = Literal["quick", "standard", "careful"]

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SLUG_LENGTH = 64
WORD_FILES = (".safetensors", ".pt", ".bin")
"""How the names of words' files end."""
MOST_VECTORS = 64
"""Of a word: a prompt has 75 places, and the word should not be all of it."""


def check_slug(name: str) -> str:
    """Return `name` unchanged if it can name a concept.

    Raises InputError otherwise. A slug is 1–64 lower-case letters and digits in groups joined by single hyphens, so
    that it is safe in object keys, file names, prompts (`<slug>`) and URLs alike.
    """
    if not isinstance(name, str) or len(name) > _SLUG_LENGTH or not _SLUG.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a concept: use up to {_SLUG_LENGTH} lower-case letters, digits and single hyphens, "
            "for example cat-toy."
        )
    return name


def placeholder(name: str) -> str:
    """The word of this name as it is written in prompts."""
    return f"<{name}>"


def base_slug(name: str) -> str:
    """Return the slug of the base model `name` (`miniature`, a folder, file or hub name), made of its last part.

    The revision of a hub name (`owner/model@revision`) is no part of it: readers ask for the model. Raises InputError
    when nothing is left of it.
    """
    model, at, _ = name.partition("@")
    if not (at and re.fullmatch(r"\w[\w.-]*/[\w.-]+", model)):
        model = name
    last = model.rstrip("/").rpartition("/")[2].lower().removesuffix(".safetensors")
    return check_slug(re.sub(r"[^a-z0-9]+", "-", last).strip("-"))


def _slug_field(value: Any) -> Any:
    try:
        return check_slug(value)
    except InputError as error:
        raise ValueError(str(error)) from None


Slug = Annotated[str, BeforeValidator(_slug_field)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


def _field(default: Any, title: str, description: str, position: int, **limits: Any) -> Any:
    return Field(default, title=title, description=description, json_schema_extra={"position": position}, **limits)


class ConceptSpec(_Config):
    """One thing to be learned."""

    name: Slug = _field(
        ...,
        "Name",
        "Lower-case letters, digits and hyphens. In prompts the word is the name in angle brackets.",
        0,
        examples=["cat-toy"],
    )
    pictures: str = _field(
        ...,
        "Pictures",
        "A folder, a .zip or .tar file, its http(s) address, or an s3://bucket/prefix with three to five pictures.",
        1,
        min_length=1,
    )
    class_word: str = _field(
        ..., "Class word", "What kind of thing it is, in one or two everyday words: toy, dog, vase.", 2, min_length=1
    )
    kind: Literal["object", "style"] = _field(
        "object", "Kind", "An object (what is in the picture) or a style (how it is drawn).", 3
    )
    initializer: str = _field(
        "",
        "Start from",
        "What the vectors start from: a word or phrase, a published word as <name>, or a word's file (.safetensors, "
        ".pt, .bin); empty means the class word.",
        4,
    )
    vectors: int = _field(
        1,
        "Vectors",
        "How many vectors the word has; a start from a word or file brings its own. More hold more detail and are "
        "harder to edit.",
        5,
        ge=1,
        le=MOST_VECTORS,
    )

    show_pictures: bool = _field(
        True, "Show pictures", "Show the training pictures on pages. Switch it off for pictures of people.", 6
    )
    license: str = _field(
        "", "Licence", "What the word may be used for and who has consented; the published file says it.", 7
    )
    author: str = _field("", "Author", "Who made the word, or the pictures; the published file names them.", 8)
    tags: str = _field("", "Tags", "Words to find it by, separated by commas; the published file has them.", 9)
    imported: bool = _field(
        False, "Imported", "Train nothing: judge and publish the word that it starts from, a file, as it is.", 10
    )

    @property
    def placeholder(self) -> str:
        """The new word as it is written in prompts."""
        return placeholder(self.name)

    @property
    def start_phrase(self) -> str:
        """The words whose token embeddings the vectors start from."""
        return self.initializer or self.class_word


def _as_of_a_concept(field: str) -> Any:
    return ConceptSpec.model_fields[field]


_details: dict[str, Any] = {
    name: (one.annotation, one) for name, one in ConceptSpec.model_fields.items() if not one.is_required()
}
ConceptDetails = create_model(
    "ConceptDetails", __base__=_Config, __doc__="What may be said of a concept beside what must be.", **_details
)
"""The fields of a `ConceptSpec` that have a default: a form shows them apart."""


class ImportSpec(_Config):
    """A word from elsewhere. With pictures it is judged on them; without, it is kept as it is, and said so."""

    file: str = _field(
        ..., "File", "A word's file: .safetensors, .pt or .bin of any program that loads into Stable Diffusion.", 0,
        min_length=1,
    )  # fmt: skip
    name: Slug = _as_of_a_concept("name")
    class_word: str = _field(
        "", "Class word", "What kind of thing it is, in one or two everyday words; pictures are judged with it.", 2
    )
    kind: Literal["object", "style"] = _as_of_a_concept("kind")
    pictures: str = _field("", "Pictures", "What the word shows, to judge it on. Empty: it is not judged.", 4)
    show_pictures: bool = _as_of_a_concept("show_pictures")
    license: str = _as_of_a_concept("license")
    author: str = _as_of_a_concept("author")
    tags: str = _as_of_a_concept("tags")

    @model_validator(mode="after")
    def _judged_by_a_class_word(self) -> Self:
        if self.pictures and not self.class_word:
            raise ValueError("pictures need a class word too (--class-word): the word is judged beside it")
        return self

    @property
    def to_be_judged(self) -> ConceptSpec:
        """The concept that goes through the line. Only where there are pictures."""
        alike = self.model_dump(exclude={"file"}, exclude_unset=True)
        return ConceptSpec.model_validate(alike | {"initializer": self.file, "imported": True})


class TrainingConfig(_Config):
    """How one concept is trained. Zeros stand for the default of the base model's kind (`DEFAULTS`)."""

    steps: int = _field(0, "Steps", "Optimizer steps; 0 takes the base model's default.", 0, ge=0, le=100_000)
    batch_size: int = _field(
        0, "Pictures per step", "Samples per concept and step; 0 takes the base model's default.", 1, ge=0, le=256
    )
    learning_rate: float = _field(
        0.0, "Learning rate", "Of Adam, at its highest; 0 takes the base model's default.", 2, ge=0.0, le=1.0
    )
    checkpoint_every: int = _field(
        0, "Checkpoint every", "Steps between two judged checkpoints; 0 takes the base model's default.", 3, ge=0
    )
    resolution: int = _field(
        0, "Resolution", "Side of the training pictures in pixels, a multiple of 8; 0 is the base model's own.", 4,
        ge=0, le=2048, multiple_of=8,
    )  # fmt: skip
    mirror: bool = _field(
        True, "Mirror pictures", "Train on left-right mirrored pictures too. Switch it off for lettering.", 5
    )
    seed: int = _field(0, "Seed", "Of every random draw of this concept.", 6, ge=0, lt=2**31)
    accumulation: int = _field(
        1, "Accumulation", "Passes per optimizer step: as many times the samples per step in the same memory.", 7,
        ge=1, le=256,
    )  # fmt: skip
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = _field(
        "constant", "Schedule", "How the learning rate goes on after its warm-up; linear and cosine end at 0.", 8
    )
    warmup: int = _field(0, "Warm-up", "Steps in which the learning rate rises from 0 (not for constant).", 9, ge=0)
    norm: Literal["free", "clamp", "direction"] = _field(
        "free",
        "Norm of the vectors",
        "free; clamp: at most norm-limit times the vocabulary's mean; direction: fixed there, the direction learns.",
        10,
    )
    norm_limit: float = _field(
        1.0, "Norm limit", "In units of the vocabulary's mean norm; for clamp and direction.", 11, gt=0.0, le=100.0
    )
    masked: bool = _field(
        False, "Masked loss", "Learn only what a picture's alpha or its -masklabel.png shows.", 12
    )  # fmt: skip
    stop_early: bool = _field(
        False,
        "Stop early",
        "End when the loss on a fixed batch has come to rest (DVAR), before all steps are done.",
        13,
    )
    crop: Literal["auto", "centre", "pad"] = _field(
        "auto",
        "Crop",
        "Which square of a picture: auto keeps what a mask or alpha shows, else most of the longer side between narrow "
        "bands; centre cuts the middle; pad keeps all.",
        14,
    )

    def resolved(self, kind: BackboneKind, resolution: int, preset: PresetName = "standard") -> Self:
        """Return a copy in which no zero stands for a default.

        `resolution` is the base model's own, in pixels; what is not set is as the preset has it.
        """
        chosen = preset_of(kind, preset)["training"] | {"resolution": resolution} | given(self)
        if not self.checkpoint_every:
            chosen["checkpoint_every"] = min(chosen["checkpoint_every"], chosen["steps"])
        return type(self).model_validate(chosen)


class Prompts(_Config):
    """Prompts of one set, each with one `{}` where the word stands."""

    plain: tuple[str, ...] = _field(
        (), "Plain prompts", "Say nothing but the word: a photo of a {}. Likeness is judged on these.", 0
    )
    edit: tuple[str, ...] = _field(
        (), "Edit prompts", "Ask for something: a {} on a beach. Prompt-following is judged on these.", 1
    )

    @field_validator("plain", "edit")
    @classmethod
    def _one_place(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in prompts:
            if prompt.count("{}") != 1 or prompt.count("{") != 1 or prompt.count("}") != 1:
                raise ValueError(f"{prompt!r} must hold one {{}}, where the word stands")
        if len(set(prompts)) < len(prompts):
            raise ValueError("a prompt is there twice")
        return prompts


class OwnPrompts(_Config):
    """Prompts in place of the protocol's own: all four lists, or none."""

    select: Prompts = _field(Prompts(), "Choosing set", "What the step is chosen by.", 0)
    report: Prompts = _field(Prompts(), "Reporting set", "What is told of the chosen step; no prompt of the other.", 1)

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        lists = [self.select.plain, self.select.edit, self.report.plain, self.report.edit]
        if any(lists) and not all(lists):
            raise ValueError("own prompts need plain and edit prompts both for choosing and for reporting")
        twice = {*lists[0], *lists[1]} & {*lists[2], *lists[3]}
        if twice:
            raise ValueError(f"{min(twice)!r} is in the choosing and in the reporting set, which must not meet")
        return self

    @property
    def given(self) -> bool:
        """Whether there are any."""
        return bool(self.select.plain)


class EvaluationConfig(_Config):
    """How checkpoints are judged. Zeros stand for the protocol's value, or for the default of the base model's kind
    (`DEFAULTS`) where the protocol has none."""

    seeds: int = _field(
        0,
        "Seeds per prompt",
        "Pictures per prompt and checkpoint; 0: the protocol's, or the base model's.",
        0,
        ge=0,
        le=64,
    )
    sampler_steps: int = _field(
        0, "Sampler steps", "Steps per picture; 0: the protocol's, or the base model's.", 1, ge=0, le=1000
    )
    guidance: float = _field(
        0.0,
        "Guidance",
        "Scale of classifier-free guidance; 0: the protocol's, or the base model's.",
        2,
        ge=0.0,
        le=50.0,
    )

    halving: bool = _field(
        False,
        "Successive halving",
        "Judge all steps on few seeds and only the better ones on all: fewer pictures. SDXL's default.",
        3,
    )
    sampler: Literal["", "ddim", "dpmsolver++"] = _field(
        "",
        "Sampler",
        "ddim, or dpmsolver++ with about half the steps; empty: the protocol's, or the base model's.",
        4,
    )
    protocol: Literal["", "standard", "quick", "textual-inversion-paper", "dreambench"] = _field(
        "", "Protocol", "quick: few pictures. textual-inversion-paper, dreambench: as published. Empty: standard.", 5
    )
    data: str = _field(
        "", "Data of the protocol", "dreambench: folder with prompts_and_classes.txt; empty: the batch's source.", 6
    )  # fmt: skip
    prompts: OwnPrompts = _field(OwnPrompts(), "Own prompts", "In place of the protocol's.", 7)

    def resolved(self, kind: BackboneKind, preset: PresetName = "standard") -> Self:
        """Return a copy in which no zero stands for a default. Where a protocol is named, the preset says nothing."""
        name: ProtocolName = self.protocol or "standard"
        preset = "standard" if self.protocol else preset
        return type(self).model_validate(
            preset_of(kind, preset)["evaluation"] | PROTOCOLS[name] | given(self) | {"protocol": name}
        )


class SelectionRule(_Config):
    """How one step is chosen from the scores."""

    name: Literal["balanced", "fidelity", "editability"] = _field(
        "balanced",
        "Rule",
        "balanced: harmonic mean of scaled CLIP-I and CLIP-T. fidelity: CLIP-I, as long as CLIP-T keeps the floor. "
        "editability: CLIP-T, as long as CLIP-I keeps it. Always the earliest step as good as the best.",
        0,
    )
    confidence: float = _field(
        0.95, "Confidence", "Of the intervals behind rejection and the step where it starts to look bad.", 1,
        ge=0.5, lt=1.0,
    )  # fmt: skip
    resamples: int = _field(
        1000, "Bootstrap resamples", "More give steadier intervals.", 2, ge=100, le=20_000
    )  # fmt: skip
    least_range: float = _field(
        0.02, "Least range", "A scale shorter than this, in cosine units, is no scale; the other score decides.", 3,
        ge=0.0, le=1.0,
    )  # fmt: skip
    floor: float = _field(
        0.5, "Floor", "fidelity and editability: least value, on its scale from 0 to 1, of the score not ranked by.", 4,
        ge=0.0, le=1.0,
    )  # fmt: skip
    step: int = _field(
        0, "Take step", "Take the checkpoint of this step, whatever the scores say; 0 leaves it to the rule.", 5, ge=0
    )  # fmt: skip


class Packing(_Config):
    """How a worker trains many concepts in one batch. It changes no key: what is learned is the same."""

    slots: int = _field(
        0, "Slots", "Concepts trained at the same time; 0 takes as many as memory allows.", 0, ge=0, le=1024
    )
    keep_shape: bool = _field(
        False,
        "Keep the batch shape",
        "Fill empty slots with inert samples: vectors are then bit-identical in any company, and slower at the end.",
        1,
    )
    compile: bool = _field(
        False, "Compile", "torch.compile the U-Net: a minute or more at the start, faster steps after it.", 2
    )
    minutes: float = _field(
        0.0, "Minutes", "Time for training; then it pauses, and the next run goes on from there. 0 is no limit.", 3,
        ge=0.0,
    )  # fmt: skip
    pack_size: int = _field(
        0,
        "Pack size",
        "Concepts of a batch that one worker takes together and resumes together; 0 takes 16, or as many as the slots.",
        4,
        ge=0,
        le=1024,
    )


_BY_KIND = {"steps", "batch_size", "learning_rate", "checkpoint_every", "resolution", "seeds", "sampler_steps",
            "guidance", "sampler", "protocol"}  # fmt: skip
"""Fields whose zero stands for the default of the base model's kind."""


def given(config: BaseModel) -> dict[str, Any]:
    """What the user set: the fields that were named, but for those whose value stands for a default."""
    return {k: v for k, v in config.model_dump(exclude_unset=True).items() if k not in _BY_KIND or v}


DEFAULTS: dict[BackboneKind, dict[str, dict[str, Any]]] = {
    # Measured on held-out subjects by the reader of parts (docs/decisions/0016); the seeds are not (0003).
    "miniature": {
        "training": {"steps": 100, "batch_size": 8, "learning_rate": 5e-3, "checkpoint_every": 20},
        "evaluation": {"seeds": 5, "sampler": "ddim", "sampler_steps": 8, "guidance": 4.0},
    },
    # Not measured here. Training: the diffusers textual-inversion example (3000 steps, batch 1 × accumulation 4,
    # 5e-4 scaled by 4 = 2e-3). Judging: guidance of the paper (arXiv 2208.01618, section 4.3), and the fast sampler
    # with the steps that diffusers' documentation gives for it (20 to 30). A checkpoint costs 2,400 U-Net passes to
    # judge, a fifth of the training's 12,000 forward: with six of them judging costs about what training does
    # (docs/decisions/0018). diffusers saves every 500 steps, too.
    "sd1": {
        "training": {"steps": 3000, "batch_size": 4, "learning_rate": 2e-3, "checkpoint_every": 500},
        "evaluation": {"seeds": 4, "sampler": "dpmsolver++", "sampler_steps": 25, "guidance": 5.0},
    },
    # Not measured here. The same script serves Stable Diffusion 2.x, with the same example; judging as for sd1.
    "sd2": {
        "training": {"steps": 3000, "batch_size": 4, "learning_rate": 2e-3, "checkpoint_every": 500},
        "evaluation": {"seeds": 4, "sampler": "dpmsolver++", "sampler_steps": 25, "guidance": 5.0},
    },
    # Not measured here. Training: the diffusers SDXL textual-inversion example (README_sdxl: 500 steps, batch 1 ×
    # accumulation 4, 5e-4 scaled by 4 = 2e-3). Its batch of 1 is for memory; here the same 4 samples of a step go
    # through in as many passes as the card needs (docs/decisions/0017). Judging as for sd1, but training is so
    # short (2,000 forward passes) that a checkpoint in full would cost more than all of it: five checkpoints, and
    # halving (docs/decisions/0018).
    "sdxl": {
        "training": {"steps": 500, "batch_size": 4, "learning_rate": 2e-3, "checkpoint_every": 100},
        "evaluation": {
            "seeds": 4,
            "sampler": "dpmsolver++",
            "sampler_steps": 25,
            "guidance": 5.0,
            "halving": True,
        },
    },
}

PRESETS: dict[PresetName, dict[str, Any]] = {
    "quick": {"share": 0.5, "evaluation": {"halving": True}},
    "standard": {"share": 1},
    "careful": {"share": 2},
}
"""The `share` of the kind's checkpoints, which lie as far apart as they do there, and of its seeds per prompt; and what
else the judging is told. So a longer run of the same word goes on from the end of a shorter one
(`ti_core.training.longer`)."""
FEWEST_SEEDS = 2
"""Of a preset: one alone could not say how much of a score is luck."""


def preset_of(kind: BackboneKind, preset: PresetName) -> dict[str, dict[str, Any]]:
    """`DEFAULTS` of a kind as a preset changes them; `standard` is these."""
    share, own = PRESETS[preset]["share"], PRESETS[preset].get("evaluation", {})
    training, evaluation = DEFAULTS[kind]["training"], DEFAULTS[kind]["evaluation"]
    every = training["checkpoint_every"]
    steps = every * ceil(share * training["steps"] / every)
    seeds = max(FEWEST_SEEDS, int(share * evaluation["seeds"]))
    return {"training": training | {"steps": steps}, "evaluation": evaluation | {"seeds": seeds} | own}


PROTOCOLS: dict[ProtocolName, dict[str, Any]] = {
    "standard": {},
    "quick": {"seeds": 2},
    # arXiv 2208.01618, sections 4.3 and 5.
    "textual-inversion-paper": {"seeds": 64, "sampler": "ddim", "sampler_steps": 50, "guidance": 5.0},
    # arXiv 2208.12242, section 4: four pictures of each prompt. It names no sampler: Stable Diffusion's own defaults.
    "dreambench": {"seeds": 4, "sampler": "ddim", "sampler_steps": 50, "guidance": 7.5},
}
"""What a protocol's name says of the numbers; `ti_core.planning.protocols` knows the rest."""
