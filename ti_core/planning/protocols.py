"""Judging protocols by name: which prompts, judges and texts a name stands for, and what is published under it.

The numbers (seeds, sampler, guidance) are in `config.PROTOCOLS`. A published protocol decides the reporting set; steps
are chosen on the base model's own choosing set, whose prompts and seeds have no part in what is reported. No torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ti_core.config import DEFAULTS, BackboneKind, ConceptSpec, EvaluationConfig, ProtocolName
from ti_core.errors import InputError
from ti_core.planning.dreambench import FILE, read_dreambench
from ti_core.planning.prompts import prompt_sets
from ti_core.records import PromptSet
from ti_core.settings import Settings

CLIP = "ViT-B-32/openai"
"""The judge of both published protocols (arXiv 2208.01618, section 5; 2208.12242, section 4.2)."""
REPORT_SEEDS = 4
"""Seeds per prompt that every reporting set has at least."""
NEUTRAL_SEEDS = 5
"""Seeds per prompt of the neutral baseline, at most: it is only shown, so a protocol of 64 seeds need not pay 64."""
REPORT_PROMPTS = 4
"""Plain prompts that every reporting set has at least. With fewer of either a verdict would pass words that learned
nothing too often (docs/decisions/0012)."""
DINO = "facebook/dino-vits16"
"""DreamBench's judge of likeness."""
PAPER_PLAIN = ("a photo of {}",)
PAPER_EDIT = ("a photo of {} on the moon", "an oil painting of {}", "Elmo holding a {}")
"""The prompts that the paper names, of a longer list that it does not print (arXiv 2208.01618, section 5)."""


@dataclass(frozen=True)
class Published:
    """A published protocol: where it comes from, its base model and judges, and what its authors report for textual
    inversion."""

    title: str
    source: str
    base: str
    """What the published figures are of."""
    kinds: tuple[BackboneKind, ...] = ()
    """Kinds of base model that are the same."""
    dino: bool = False
    removed: bool = False
    """Whether the new word is left out of prompts where CLIP-T reads them; else the class word stands for it."""
    quoted: Mapping[str, float] = field(default_factory=dict)


PUBLISHED: dict[ProtocolName, Published] = {
    "textual-inversion-paper": Published(
        "the textual-inversion paper's", "Gal et al. 2022, arXiv 2208.01618, section 5", "Latent Diffusion (LDM)",
        removed=True,
    ),
    "dreambench": Published(
        "the DreamBench", "Ruiz et al. 2022, arXiv 2208.12242, section 4.2 and table 1", "Stable Diffusion 1.x",
        ("sd1",), dino=True, quoted={"DINO": 0.569, "CLIP-I": 0.780, "CLIP-T": 0.255},
    ),
}  # fmt: skip


def placeholder_policy(evaluation: EvaluationConfig) -> Literal["class-word", "removed"]:
    """What stands for the new word where CLIP-T reads a prompt."""
    named = published(evaluation.protocol)
    return "removed" if named and named.removed else "class-word"


def judges(evaluation: EvaluationConfig, kind: BackboneKind, settings: Settings) -> tuple[str, str]:
    """Names of the CLIP and of the second opinion: the settings', else the protocol's, else "" for the kind's own.

    The miniature is judged by its own CLIP and has no second opinion unless the settings name one, so that every
    protocol runs where no model can be downloaded; `reporting.figures.caveats` says so.
    """
    named = published(evaluation.protocol)
    if not named or kind == "miniature":
        return settings.clip, settings.dino
    return settings.clip or CLIP, settings.dino or (DINO if named.dino else "")


def sets_of(
    evaluation: EvaluationConfig, kind: BackboneKind, concept: ConceptSpec, settings: Settings
) -> tuple[PromptSet, PromptSet]:
    """The (choosing, reporting) sets of a concept; `evaluation` is resolved. They share no prompt and no seed.

    Raises InputError for dreambench without a folder that holds its prompts, or where those are in the choosing set.
    """
    name, own = evaluation.protocol, evaluation.prompts
    select, report = reseeded(prompt_sets(kind, concept.kind, 1), evaluation, kind)
    if own.given:
        select, report = (
            _with(select, own.select.plain, own.select.edit),
            _with(report, own.report.plain, own.report.edit),
        )
    elif name == "textual-inversion-paper":
        # The plain prompts beside the published one put the score on its scale; no published figure reads them.
        report = _with(report, (*PAPER_PLAIN, *report.plain), PAPER_EDIT)
    elif name == "dreambench":
        data = read_dreambench(evaluation.data, settings) if evaluation.data else None
        if data is None:
            raise InputError(
                f"The protocol dreambench reads its prompts from {FILE} in {evaluation.data or 'a folder'}: name the "
                "folder of the DreamBooth data set (--data, or Data of the protocol in the form)."
            )
        # The plain prompts beside the published ones put the score on its scale; no published figure reads them.
        report = _with(report, report.plain, data.prompts(concept.name, concept.class_word))
    twice = {*select.plain, *select.edit} & {*report.plain, *report.edit}
    if twice:
        raise InputError(f"The prompt {min(twice)!r} is in the choosing and in the reporting set, which must not meet.")
    return select, report


def reseeded(
    sets: tuple[PromptSet, PromptSet], evaluation: EvaluationConfig, kind: BackboneKind
) -> tuple[PromptSet, PromptSet]:
    """The (choosing, reporting) sets with as many seeds as `evaluation`, resolved, says.

    The reporting set has no fewer than `REPORT_SEEDS`. Under a published protocol every step is judged on no more seeds
    than the kind's default; only the chosen one is judged on as many as the protocol asks for.
    """
    few = evaluation.seeds
    if evaluation.protocol in PUBLISHED:
        few = min(few, DEFAULTS[kind]["evaluation"]["seeds"])
    counts = few, max(evaluation.seeds, REPORT_SEEDS)
    select, report = (
        one.model_copy(update={"seeds": tuple(range(one.seeds[0], one.seeds[0] + count))})
        for one, count in zip(sets, counts, strict=True)
    )
    return select, report


def check_sets(select: PromptSet, report: PromptSet) -> None:
    """Raise InputError for a choosing or reporting set in which no score, or no verdict, could be sure."""
    if len(select.seeds) < 2:
        raise InputError(
            "One seed cannot say how much of a score is luck: give at least two (Seeds per prompt, --seeds)."
        )
    for said, one in (("choosing", select), ("reporting", report)):
        if len(one.plain) < 2 or len(one.edit) < 2:
            raise InputError(
                f"The {said} set has {len(one.plain)} plain and {len(one.edit)} edit prompts: one alone cannot say how "
                "sure a score is; give at least two of each."
            )
    if len(report.plain) < REPORT_PROMPTS:
        raise InputError(
            f"The reporting set has {len(report.plain)} plain prompts: a verdict on so few passes words that learned "
            f"nothing; give at least {REPORT_PROMPTS}."
        )


def with_data(evaluation: EvaluationConfig, source: str, settings: Settings) -> EvaluationConfig:
    """How the batch at `source` is judged: under dreambench the data set's folder is the source, if none is said.

    Raises InputError where dreambench is asked for and there are no prompts of it.
    """
    if evaluation.protocol != "dreambench":
        return evaluation
    data = evaluation.data or source
    if "://" not in data:
        data = str(settings.allowed(Path(data)))
    if read_dreambench(data, settings) is None:
        raise InputError(f"The protocol dreambench reads its prompts from {FILE}, and there is none in {data}.")
    return evaluation.model_copy(update={"data": data})


def published(name: str) -> Published | None:
    """The published protocol of this name, None for any other."""
    return next((one for key, one in PUBLISHED.items() if key == name), None)


def _with(one: PromptSet, plain: tuple[str, ...], edit: tuple[str, ...]) -> PromptSet:
    return one.model_copy(update={"plain": plain, "edit": edit})
