"""What a person should know of pictures before they are trained on: findings, each with its file and what to do.

The thresholds are measured on photographs, with the false alarms they give (docs/decisions/0021). It decides nothing:
pictures with findings are used.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from ti_core.images.measures import Measures, likeness
from ti_core.records import Finding, Picture

BLURRED = 0.5
DARK, BRIGHT = 20, 235
"""Of 255: the brightest tenth of a dark picture begins under the one, the darkest tenth of a bright one ends above the
other."""
BARS = 0.05
TWINS = 0.98
SETTING = 10
"""Of 255: pictures whose borders differ by less than this on average have one setting."""
CUT, LONG = 0.2, 2.0
"""Share of a picture outside of its square, and sides' ratio, from which it is told."""
TINY = 0.05
"""Share of the square that a mask shows."""

_Pair = tuple[Picture, Measures]


def findings_of(pictures: Sequence[_Pair], resolution: int, mirror: bool) -> list[Finding]:
    """Look at the usable pictures of one concept, each alone and beside the others."""
    found = [finding for pair in pictures for finding in _of_one(*pair, resolution)]
    return found + list(_of_pairs(pictures, mirror)) + list(_of_all(pictures))


def _of_one(picture: Picture, measured: Measures, resolution: int) -> Iterator[Finding]:
    width, height = picture.width, picture.height
    if min(width, height) < resolution:
        yield _warning(picture, "small", f"is enlarged: {width}×{height} is under {resolution} pixels a side")
    for kind, text in measured.notes:
        yield _finding("hint" if kind in {"frames", "depth"} else "warning", picture, kind, text)
    if picture.outside > CUT:
        lost = f"{picture.outside:.0%} of it lies outside of its square"
        text = f"is {width}×{height}, and {lost}: crop it yourself to what matters"
        yield _finding("warning" if max(width, height) > LONG * min(width, height) else "hint", picture, "cut", text)
    if measured.blur > BLURRED:
        yield _warning(picture, "blur", "is blurred all over: the word would learn that; take a sharp one")
    if measured.brightest < DARK:
        yield _warning(picture, "dark", "is almost black: brighten it, or take another")
    elif measured.darkest > BRIGHT:
        yield _warning(picture, "bright", "is almost white all over, as if over-exposed: take another")
    if measured.bars > BARS:
        yield _warning(picture, "bars", "has bars on two sides, which the word would learn: cut them off")
    if measured.masked == 0:
        yield _warning(picture, "tiny", "has a mask that shows nothing of it: make white what is to be learned")
    elif measured.masked is not None and measured.masked < TINY:
        yield _warning(picture, "tiny", f"shows its subject on {measured.masked:.1%} of its square: crop it closer")


def _of_pairs(pictures: Sequence[_Pair], mirror: bool) -> Iterator[Finding]:
    """Pictures that are nearly the same. Each is told once, beside the first one that it is like."""
    small = [measured.small for _, measured in pictures]
    told = set[int]()
    for one, other in itertools.combinations(range(len(pictures)), 2):
        if one in told or other in told:
            continue
        plain, mirrored = likeness(small[one], small[other])
        if max(plain, mirrored) > TWINS:
            told.add(other)
            first, second = pictures[one][0], pictures[other][0]
            how = "the mirror image of" if mirrored > plain else "nearly the same picture as"
            why = ", and mirrored pictures are trained on anyway" if mirrored > plain and mirror else ""
            text = f"is {how} {first.name}{why}: one of them is enough, another view would teach more"
            yield _warning(second, "twins", text)


def _of_all(pictures: Sequence[_Pair]) -> Iterator[Finding]:
    if len(pictures) < 3:
        return
    grounds = np.stack([measured.ground for _, measured in pictures])
    if np.abs(grounds - grounds.mean(axis=0)).mean() < SETTING:
        text = (
            "All pictures have one setting, which the word will hold as if it were part of the thing: add some with "
            "another background, or use masks."
        )
        yield Finding(severity="hint", kind="setting", file="", text=text)


def _warning(picture: Picture, kind: str, text: str) -> Finding:
    return _finding("warning", picture, kind, text)


def _finding(severity: str, picture: Picture, kind: str, text: str) -> Finding:
    return Finding.model_validate(
        {"severity": severity, "kind": kind, "file": picture.name, "text": f"{picture.name} {text}."}
    )
