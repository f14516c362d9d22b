"""Successive halving: the rungs, adding up scores, and that steps compare on the cells they share."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ti_core.choosing.halving import FEWEST, ladder, merged, restricted
from ti_core.choosing.selection import choose, survivors
from ti_core.config import SelectionRule
from ti_core.errors import InputError
from ti_core.records import Anchors, Cells, Scores

RULE = SelectionRule(resamples=100)
SEEDS = (7, 8, 9, 10)


def cells(values: np.ndarray, seeds: tuple[int, ...] = SEEDS, name: str = "plain") -> Cells:
    rows = np.broadcast_to(values, (3, len(seeds)))
    return Cells(
        prompts=tuple(f"{name} {p} {{}}" for p in range(3)), seeds=seeds,
        values=tuple(tuple(map(float, row)) for row in rows),
    )  # fmt: skip


def scores(step: int, clip_i: object, clip_t: object = 0.3, seeds: tuple[int, ...] = SEEDS, **more: object) -> Scores:
    return Scores(
        step=step, split="select", protocol="p", strip="0" * 64,
        clip_i=cells(np.asarray(clip_i), seeds), clip_t=cells(np.asarray(clip_t), seeds, "edit"), **more,
    )  # fmt: skip


def anchors() -> Anchors:
    return Anchors(class_word=scores(0, 0.6, 0.3), real=0.9, real_text=0.2)


def pictures(rungs: tuple, steps: int) -> int:
    """Pictures per prompt that the rungs make of the steps."""
    made, alive = 0, steps
    for rung in rungs:
        made += alive * len(rung.seeds)
        alive = rung.keep
    return made


@given(seeds=st.integers(1, 64), steps=st.integers(1, 60))
def test_a_ladder_gives_every_seed_once_and_ends_with_all(seeds: int, steps: int) -> None:
    rungs = ladder(range(seeds), steps)
    assert [seed for rung in rungs for seed in rung.seeds] == list(range(seeds))
    keeps = [steps, *(rung.keep for rung in rungs)]
    assert keeps[-1] == 0 and keeps[:-1] == sorted(keeps[:-1], reverse=True)
    assert all(keep >= min(FEWEST, steps) for keep in keeps[:-1])
    assert pictures(rungs, steps) <= seeds * steps


@pytest.mark.parametrize(
    ("seeds", "steps", "wanted"),
    [
        (5, 10, [(1, 5), (1, 2), (3, 0)]),
        (4, 12, [(1, 6), (1, 3), (2, 0)]),
        (5, 2, [(5, 0)]),
        (1, 12, [(1, 0)]),
        (2, 4, [(1, 2), (1, 0)]),
    ],
)
def test_ladders_by_hand(seeds: int, steps: int, wanted: list[tuple[int, int]]) -> None:
    assert [(len(rung.seeds), rung.keep) for rung in ladder(range(seeds), steps)] == wanted


def test_half_of_the_pictures_are_enough_for_ten_steps_or_more() -> None:
    for seeds in (4, 5, 8):
        for steps in range(10, 41):
            assert pictures(ladder(range(seeds), steps), steps) <= 0.5 * seeds * steps


def test_scores_of_two_rungs_add_up_to_those_of_all_seeds() -> None:
    grid = np.random.default_rng(0).random((3, 4))
    whole = scores(20, grid, grid / 3, dino=cells(grid * 0.5))
    assert merged(restricted(whole, (7,)), restricted(whole, (8, 9, 10))) == whole
    assert restricted(whole, (9, 7)).clip_i.values[1] == (grid[1, 2], grid[1, 0])


def test_scores_that_do_not_add_up_are_refused() -> None:
    first = scores(20, 0.7, seeds=(7, 8))
    for other in (scores(40, 0.7, seeds=(9,)), scores(20, 0.7, seeds=(8, 9))):
        with pytest.raises(InputError, match="do not add up"):
            merged(first, other)
    with pytest.raises(InputError, match="not judged with seed 10"):
        restricted(first, (7, 10))


# --- choosing with steps that went out --------------------------------------------------------------------------------


def test_the_better_half_goes_on() -> None:
    rung = [scores(10 * k, value, seeds=(7,)) for k, value in enumerate((0.61, 0.8, 0.7, 0.8, 0.65), 1)]
    assert survivors(rung, anchors(), RULE, 2) == [20, 40]
    assert survivors(rung[::-1], anchors(), RULE, 3) == [20, 30, 40]
    assert survivors([scores(5, math.nan, seeds=(7,)), *rung], anchors(), RULE, 2) == [20, 40]
    assert survivors(rung, anchors(), RULE.model_copy(update={"step": 10}), 2) == [10, 20]  # asked for
    spoiled = scores(60, 0.89, 0.21, seeds=(7,))
    assert survivors([*rung, spoiled], anchors(), SelectionRule(name="fidelity", resamples=100), 2) == [20, 40]


def test_steps_that_went_out_are_shown_and_not_chosen() -> None:
    lucky = scores(20, 0.85, seeds=(7,))
    decision = choose([lucky, scores(40, 0.7), scores(60, 0.8)], anchors(), RULE)
    assert decision.step == decision.best_step == 60
    by_step = {one.step: one for one in decision.candidates}
    assert list(by_step) == [20, 40, 60]
    assert [one.seeds for one in decision.candidates] == [1, 4, 4]
    assert not by_step[20].tied
    assert "Successive halving made 75% of the steps' pictures: step 20 went out on fewer than 4 seeds" in (
        decision.explanation
    )


def test_what_seed_7_does_to_all_steps_is_no_difference_between_them() -> None:
    """Seed 7 is bad for everybody: on the cells both have, the step that went out equals the chosen one."""
    unlucky = np.array([-0.1, 0.0, 0.0, 0.0])
    ends = anchors()
    chosen = scores(40, 0.8 + unlucky)
    later = [scores(60, 0.8 - 0.1, seeds=(7,)), scores(80, 0.8 - 0.1, seeds=(7,))]
    decision = choose([scores(20, 0.65), chosen, *later], ends, RULE)
    assert (decision.step, decision.looks_bad_from) == (40, None)
    worse = [one.model_copy(update={"clip_i": cells(np.asarray(0.6), (7,))}) for one in later]
    assert choose([scores(20, 0.65), chosen, *worse], ends, RULE).looks_bad_from == 60


def test_a_step_on_foreign_seeds_is_refused() -> None:
    with pytest.raises(InputError, match="not on the prompts and seeds"):
        choose([scores(20, 0.7), scores(40, 0.7, seeds=(99,))], anchors(), RULE)
    with pytest.raises(InputError, match="on all 4 seeds"):
        choose([scores(20, 0.7, seeds=(7,))], anchors(), RULE)


GRIDS = st.lists(st.integers(0, 100), min_size=12, max_size=12).map(lambda v: np.array(v).reshape(3, 4) / 100)


@settings(max_examples=40, deadline=None)
@given(grids=st.lists(GRIDS, min_size=2, max_size=6), out=st.lists(GRIDS, max_size=4), data=st.data())
def test_steps_that_went_out_change_neither_the_choice_nor_its_acceptance(
    grids: list[np.ndarray], out: list[np.ndarray], data: st.DataObject
) -> None:
    finalists = [scores(10 * (k + 1), grid) for k, grid in enumerate(grids)]
    gone = [restricted(scores(10 * (k + 1) + 5, grid), SEEDS[: 1 + k % 3]) for k, grid in enumerate(out)]
    decision = choose(data.draw(st.permutations([*finalists, *gone])), anchors(), RULE)
    alone = choose(finalists, anchors(), RULE)
    assert (decision.step, decision.best_step, decision.accepted) == (alone.step, alone.best_step, alone.accepted)
    assert [one for one in decision.candidates if one.seeds == 4] == list(alone.candidates)
    assert len(decision.candidates) == len(finalists) + len(gone)
