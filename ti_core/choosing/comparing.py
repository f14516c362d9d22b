"""Comparing judged runs: only under one protocol, and where that is not so, what differs. No torch."""

from ti_core.errors import InputError
from ti_core.records import Manifest, Protocol

NAMES = {
    "base_digest": "the base model's weights", "clip": "the judge", "clip_digest": "the judge's weights",
    "references": "the reference pictures", "preprocessing": "how pictures are made square",
    "class_word": "the class word", "pairing": "the pairing", "placeholder_policy": "what stands for the new word",
    "sampler": "the sampler", "sampler_steps": "the sampler's steps", "guidance": "the guidance",
    "resolution": "the resolution",
    "select": "the choosing prompts or seeds", "report": "the reporting prompts or seeds",
    "version": "the version of judging", "dino": "the second opinion", "dino_digest": "the second opinion's weights",
}  # fmt: skip
"""What people call the parts of a protocol."""


def differences(one: Protocol, other: Protocol) -> list[str]:
    """What differs between two protocols, for people: "the guidance (4 and 5)"; empty where scores compare."""
    told = []
    for field, name in NAMES.items():
        mine, theirs = getattr(one, field), getattr(other, field)
        if mine != theirs:
            short = isinstance(mine, int | float) or (isinstance(mine, str) and not field.endswith("digest"))
            told.append(f"{name} ({mine or 'none'} and {theirs or 'none'})" if short else name)
    return told


def advantage(one: Manifest, other: Manifest) -> float:
    """How much higher the reported score of one judged run is than another's.

    Raises InputError where they were judged under different protocols: their numbers are on different scales then.
    """
    mine, theirs = one.plan, other.plan
    if mine.protocol_digest != theirs.protocol_digest:
        raise InputError(
            f"{mine.concept.name} (protocol {mine.protocol_digest[:12]}) and {theirs.concept.name} (protocol "
            f"{theirs.protocol_digest[:12]}) were judged differently, so their scores do not compare: they differ in "
            f"{', '.join(differences(mine.protocol, theirs.protocol))}. Judge one of them again as the other was, with "
            "`ti judge`."
        )
    return one.report.score - other.report.score
