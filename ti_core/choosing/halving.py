"""Successive halving of the judged steps: few pictures of all, more of the better half, all of the last ones.

Karnin, Koren & Somekh 2013, "Almost optimal exploration in multi-armed bandits"; here a picture is a pull and the steps
of one run are the arms. Every prompt is asked in every rung, and seeds come in the protocol's order, so that any two
steps share the cells of the one that went out first, and are compared on those alone. Pure functions, no torch.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ti_core.errors import InputError
from ti_core.records import Anchors, Cells, Scores

FEWEST = 2
"""Steps that always reach the last rung: one alone could not be compared on all cells."""


class Rung(NamedTuple):
    """One round of judging."""

    seeds: tuple[int, ...]
    """What is judged anew in it, of all steps that are still in."""
    keep: int
    """How many steps go on to the next rung; 0 after the last."""


def ladder(seeds: Sequence[int], steps: int) -> tuple[Rung, ...]:
    """The rungs for so many judged steps: seeds about double from rung to rung up to all, steps halve.

    With one seed, or no more steps than `FEWEST`, there is nothing to save and one rung has it all.
    """
    if steps <= FEWEST or len(seeds) < 2:
        return (Rung(tuple(seeds), 0),)
    ends = [len(seeds)]
    while ends[0] > 1:
        ends.insert(0, ends[0] // 2)
    rungs, first, alive = [], 0, steps
    for end in ends:
        alive = max(FEWEST, alive // 2)
        rungs.append(Rung(tuple(seeds[first:end]), 0 if end == len(seeds) else alive))
        first = end
    return tuple(rungs)


def merged(earlier: Scores, more: Scores) -> Scores:
    """The scores of one step on the seeds of both rungs. The strip stays the first one's.

    Raises InputError when they are not of one step, split and protocol, or share a seed.
    """
    same = all(getattr(earlier, name) == getattr(more, name) for name in ("step", "split", "protocol"))
    if not same or set(earlier.clip_i.seeds) & set(more.clip_i.seeds):
        raise InputError(
            f"Scores of step {earlier.step} and of step {more.step} do not add up: they must be of one step under one "
            "protocol, on different seeds."
        )
    cells = {name: _joined(getattr(earlier, name), getattr(more, name)) for name in _GRIDS}
    return earlier.model_copy(update=cells | {"clip_t_of_mean": None})


def restricted(scores: Scores, seeds: Sequence[int]) -> Scores:
    """The scores on some of their seeds. Raises InputError for a seed they are not on."""
    if missing := set(seeds) - set(scores.clip_i.seeds):
        raise InputError(f"Step {scores.step} was not judged with seed {min(missing)}: judge it on the same seeds.")
    return scores.model_copy(update={name: _cut(getattr(scores, name), seeds) for name in _GRIDS})


def restricted_anchors(anchors: Anchors, seeds: Sequence[int]) -> Anchors:
    """The anchors with the class word on some of its seeds; what is real has no seeds."""
    return anchors.model_copy(update={"class_word": restricted(anchors.class_word, seeds)})


_GRIDS = ("clip_i", "clip_t", "clip_i_edit", "clip_t_plain", "dino")


def _joined(one: Cells | None, more: Cells | None) -> Cells | None:
    if one is None or more is None:
        return None
    rows = zip(one.values, more.values, strict=True)
    values = tuple((*left, *right) for left, right in rows)
    return Cells(prompts=one.prompts, seeds=(*one.seeds, *more.seeds), values=values)


def _cut(cells: Cells | None, seeds: Sequence[int]) -> Cells | None:
    if cells is None:
        return None
    columns = [cells.seeds.index(seed) for seed in seeds]
    values = tuple(tuple(row[column] for column in columns) for row in cells.values)
    return Cells(prompts=cells.prompts, seeds=tuple(seeds), values=values)
