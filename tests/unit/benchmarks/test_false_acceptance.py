"""The simulation of false acceptance says what the package says, trial by trial, and its luck is what it claims."""

import numpy as np
import pytest

from benchmarks.false_acceptance import (
    CASES,
    LEVELS,
    LUCK,
    REAL,
    WORD,
    by_the_package,
    chosen_steps,
    draw,
    grid_of,
    lower,
    passed,
    simulate,
    sixths,
    upper,
    verdicts,
)
from ti_core.choosing.statistics import crossed_means, interval


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mix", [(0, 1, 1), (1, 1, 1)])
def test_trials_end_as_the_package_ends_them(case: str, mix: tuple[int, int, int]) -> None:
    (choosing, reporting), random = CASES[case], np.random.default_rng(7)
    first, second = (draw(random, 12, steps, grid, mix, 0.15) for steps, grid in ((4, choosing), (1, reporting)))
    told = list(zip(*chosen_steps(first), *verdicts(second.word_NPS, second.steps_NKPS[:, 0]), strict=True))
    assert told == [by_the_package(first, second, trial) for trial in range(12)]
    assert len(set(told)) > 3, "trials that all end alike would show nothing"


def test_intervals_of_many_grids_are_the_package_s() -> None:
    grids = draw(np.random.default_rng(1), 8, 1, (5, 4), (1, 2, 3)).word_NPS
    (views,) = crossed_means([grids], 300)
    for place, found in enumerate(zip(*grid_of(5, 4, 300).intervals(grids, 0.9), strict=True)):
        assert found == pytest.approx(interval(views[..., place], 5, 4, 0.9), abs=1e-5)


@pytest.mark.parametrize("mix", [(1, 0, 0), (0, 2, 1), (1, 2, 3)])
def test_luck_is_as_large_as_it_says_and_shared_as_it_says(mix: tuple[int, int, int]) -> None:
    drawn = draw(np.random.default_rng(2), 20_000, 1, (3, 2), mix, 0.5)
    gains = (drawn.steps_NKPS[:, 0] - drawn.word_NPS) / (REAL - WORD)
    assert gains.mean() == pytest.approx(0.5, abs=0.01)
    assert gains[:, 0, 0].std() == pytest.approx(LUCK, rel=0.03)
    same_prompt, same_seed = (
        np.corrcoef(gains[:, 0, 0], gains[:, p, s])[0, 1] for p, s in ((0, 1), (1, 0))
    )  # fmt: skip
    assert (same_prompt, same_seed) == pytest.approx((mix[0] / sum(mix), mix[1] / sum(mix)), abs=0.03)


def test_bounds_are_clopper_and_pearson_s() -> None:
    assert upper(0, 100) == pytest.approx(1 - 0.025 ** (1 / 100))
    assert (lower(5, 100), upper(5, 100)) == pytest.approx((0.01643, 0.11283), abs=1e-5)
    assert upper(100, 100) == 1.0
    assert lower(0, 100) == pytest.approx(0.0, abs=1e-12)


def test_a_stricter_level_passes_fewer_and_two_prompts_pass_too_many() -> None:
    loose, _, strict = passed((6, 4), (0, 3, 3), 4000)
    assert strict < loose and strict / 4000 < 0.03
    assert LEVELS[0] < LEVELS[-1]
    assert passed((2, 16), (3, 0, 3), 4000)[-1] / 4000 > 0.04  # why planning asks for four


def test_what_learned_passes_and_what_looks_good_by_luck_passed_before() -> None:
    case = next(iter(CASES))
    nothing, much = simulate(case, (1, 1, 1), 12, 300), simulate(case, (1, 1, 1), 3, 300, gain=0.8)
    assert nothing.accepted < 0.05 * 300 < nothing.old
    assert much.accepted > 0.9 * 300


def test_all_mixes_are_tried() -> None:
    assert len(sixths()) == 28 and all(sum(mix) == 6 for mix in sixths())
