"""A judged run in the words of the person who will use the word: what it learned, what it does not do, what to try.

"Accepted" and "worth using" are two things: the first says that the word surely learned something, the second how much
of it shows. Everything is read off the manifest; statistics are told elsewhere (`choosing.explanation`). No torch.
"""

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ti_core.config import WORD_FILES, ConceptSpec
from ti_core.records import BaseModelInfo, BatchRow, Cells, Manifest, Plan

WELL, HALF, LITTLE = 0.8, 0.5, 0.25
"""Places on a scale from 0 to 1 where words change. Half way on both scales is worth using."""
TRY = 0.3
"""Least score that is worth a try."""
DOUBTFUL = 0.15
"""A class word is doubted when more of the everyday nouns than this are nearer to every picture. Of the miniature's
held-out concepts 12% with their right class word are, and 33% with another's (`benchmarks/class_words.py`)."""
FEW = 3
"""With fewer pictures there is little to tell the thing from its surroundings by."""


REAL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
"""The base model that is proposed in place of the miniature: the most widely used, and the smallest download."""
TOY = (
    "This is a toy: the word belongs to the miniature, a small model of 64-pixel pictures that ships to show the line, "
    "and works in no other model. Its scores say nothing about Stable Diffusion. These two lines make it real:"
)


def is_toy(plan: Plan) -> bool:
    """Whether the run learned a word of the miniature. What was imported learned nothing here."""
    return plan.base.kind == "miniature" and not plan.concept.imported


def real_lines(command: str) -> tuple[str, str]:
    """The two lines that make a toy real: a real base model, and `command` again."""
    return f"export PSEUDOWORD_BASE_MODEL={REAL}", command


def file_note(base: BaseModelInfo, concept: ConceptSpec) -> str:
    """What the published file itself says of a toy; "" for a word of a real model. It names no path."""
    if base.kind != "miniature":
        return ""
    start = concept.initializer
    start = Path(start).name if start.lower().endswith(WORD_FILES) else start
    nameless = {"pictures": "PICTURES", "initializer": start}
    return "\n".join([TOY, *real_lines(command_of(concept.model_copy(update=nameless)))])


def command_of(concept: ConceptSpec) -> str:
    """The `ti train` of a concept, as it is typed in a shell."""
    words = ["ti", "train", concept.pictures, "--name", concept.name, "--class-word", concept.class_word]
    for option in ("kind", "initializer", "vectors"):
        value = getattr(concept, option)
        if value != ConceptSpec.model_fields[option].default:
            words += [f"--{option}", str(value)]
    return shlex.join(words if concept.show_pictures else [*words, "--no-show-pictures"])


def namer(rows: Iterable[BatchRow]) -> Callable[[BatchRow], str]:
    """What a row of a batch is called, so that all are told apart: its concept, with the base model where there are
    several."""
    several = len({row.base for row in rows} - {""}) > 1
    return lambda row: f"{row.concept} ({row.base})" if several and row.base else row.concept


class Words(NamedTuple):
    """Sentences for a page or a terminal."""

    standing: str
    """Whether it is accepted, and whether it is worth using."""
    learned: str
    lacks: str
    advice: tuple[str, ...]
    """What to try next, the likeliest cause first; empty where there is nothing to mend."""


def in_words(manifest: Manifest) -> Words:
    """The four parts. What could not be put on a scale is said so and judged no further."""
    return Words(_standing(manifest), _learned(manifest), _lacks(manifest), tuple(_advice(manifest)))


def class_word_doubt(manifest: Manifest) -> str:
    """What speaks against the class word, with better ones; empty where nothing does."""
    naming, word = manifest.anchors.naming, manifest.plan.concept.class_word
    if naming is None or naming.closer <= DOUBTFUL:
        return ""
    nearer = _listed([f"“{noun}”" for noun in naming.nearest])
    return (
        f"The class word may be wrong: to the judge {naming.closer:.0%} of everyday nouns are nearer to every picture "
        f"than “{word}”, {nearer} most of all. If one of them, or another word, names the thing better, train with it "
        "(`--class-word`): what a word gains over a wrong class word says little."
    )


def _standing(manifest: Manifest) -> str:
    report = manifest.report
    if manifest.verdict == "rejected":
        return "Rejected, and not published."
    if manifest.verdict == "undecided":
        return "Undecided, and not published: these pictures do not tell whether it learned anything."
    surely = "it surely learned something of its pictures"
    if not _scaled(manifest):
        return f"Accepted: {surely}. Whether it is worth using could not be measured: look at the pictures."
    if min(report.scaled_i, report.scaled_t) >= HALF:
        return f"Accepted, and worth using: {surely}, and keeps it when prompts ask for more."
    if report.score >= TRY:
        return f"Accepted, and worth a try: {surely}, but likeness or prompt-following comes only part of the way."
    return f"Accepted, but hardly worth using yet: {surely}, and little of it shows."


def _learned(manifest: Manifest) -> str:
    concept, part = manifest.plan.concept, manifest.report.scaled_i
    if not manifest.decision.scale.image_usable:
        return (
            f"How much it learned could not be measured: “{concept.class_word}” alone is as near to the pictures as "
            "they are to one another."
        )
    if part >= WELL:
        said = "it looks like your pictures"
    elif part >= HALF:
        said = "it comes near your pictures, though not in every detail"
    elif part >= LITTLE:
        said = "it has something of your pictures, no more"
    else:
        said = "it hardly looks like your pictures"
    return f"To the judge {said}: {part:.0%} of the way from “{concept.class_word}” to them."


def _lacks(manifest: Manifest) -> str:
    report, word = manifest.report, manifest.plan.concept.class_word
    if not manifest.decision.scale.text_usable:
        return "How well it follows prompts could not be measured."
    part = report.scaled_t
    if part >= WELL:
        return f"It does what prompts ask about as well as “{word}” does."
    worst = _furthest_behind(report.chosen.clip_t, report.anchors.class_word.clip_t)
    asked = worst.replace("{}", manifest.plan.concept.placeholder)
    if part >= HALF:
        said = "It mostly does what prompts ask"
    elif part >= LITTLE:
        said = "It follows prompts only in part"
    else:
        said = "It hardly follows prompts: it shows its pictures again"
    return f"{said}; of the prompts tried it fell furthest behind “{word}” at “{asked}”."


def _furthest_behind(chosen: Cells, word: Cells) -> str:
    """The prompt at which the chosen step's mean is lowest against the class word's."""
    behind = [sum(a) - sum(b) for a, b in zip(chosen.values, word.values, strict=True)]
    return chosen.prompts[behind.index(min(behind))]


def _advice(manifest: Manifest) -> list[str]:
    """By cause: class word, pictures, too few samples, disobedience, too little learned."""
    plan, decision, report = manifest.plan, manifest.decision, manifest.report
    advice = [doubt] if (doubt := class_word_doubt(manifest)) else []
    pictures = len(plan.images.pictures)
    if pictures < FEW:
        advice.append(
            f"Give it more pictures: it has {pictures}, and {FEW} to 5 from several sides, on different backgrounds, "
            "let it tell the thing from what is around it."
        )
    if manifest.verdict == "undecided":
        advice.append("Judge it again on more pictures; below stands whether more prompts or more seeds tell more.")
    if plan.concept.imported:
        if not advice and manifest.verdict == "rejected":
            advice.append(report.reason)
        advice.append(
            "To make more of it, train from it on these pictures: `ti train PICTURES --initializer FILE`, with the "
            "file that was imported."
        )
        return advice
    scale = decision.scale
    unlike = scale.image_usable and report.scaled_i < HALF
    deaf = scale.text_usable and report.scaled_t < HALF
    still_rising = decision.step == decision.candidates[-1].step
    if deaf and unlike:
        advice.append(
            "Train more gently: a lower learning rate (`--learning-rate`) and more steps (`--steps`); and look whether "
            "the pictures are sharp and show one thing."
        )
    elif deaf:
        advice.append(
            "So that it follows prompts better, take an earlier step "
            f"(`ti judge {plan.concept.name} --rule editability`), train fewer steps, or give pictures with varied "
            "backgrounds."
        )
    elif unlike and still_rising:
        advice.append(f"It was still getting better: train longer (`--steps {2 * decision.step}`).")
    elif unlike:
        advice.append(
            f"More of the same steps did not help: let it hold more (`--vectors {plan.concept.vectors + 1}`), or give "
            "sharper pictures of one thing."
        )
    if not advice and manifest.verdict == "rejected":
        advice.append(report.reason)
    return advice


def _scaled(manifest: Manifest) -> bool:
    return manifest.decision.scale.image_usable and manifest.decision.scale.text_usable


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
