"""What differs between two protocols, under which scores do not compare. No torch."""

from ti_core.records import Protocol

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
    different = []
    for field, name in NAMES.items():
        mine, theirs = getattr(one, field), getattr(other, field)
        if mine != theirs:
            short = isinstance(mine, int | float) or (isinstance(mine, str) and not field.endswith("digest"))
            different.append(f"{name} ({mine or 'none'} and {theirs or 'none'})" if short else name)
    return different
