"""The crossed bootstrap: what it resamples, what its errors are on grids that can be worked out by hand, and that its
intervals cover what they say at the sizes that occur."""

import numpy as np
import pytest

from ti_core.choosing.statistics import crossed_means, interval, standard_error, t_quantile
from ti_core.errors import InputError

SIZES = [(6, 4), (8, 4), (12, 4)]
MIXES = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.3, 0.1, 1), (0.1, 1, 1), (1, 1, 1)]
"""Variances of prompts, seeds and cells."""
COUNT, RESAMPLES = 400, 400


def draw_grids(random, count, prompts, seeds, mix):
    """Grids [count, P, S] of the random-effects model x[p, s] = a_p + b_s + e_ps; their true mean is 0."""
    of_prompts, of_seeds, of_cells = np.sqrt(mix)
    return (
        of_prompts * random.standard_normal((count, prompts, 1))
        + of_seeds * random.standard_normal((count, 1, seeds))
        + of_cells * random.standard_normal((count, prompts, seeds))
    )


def coverage(views, prompts, seeds):
    """How many of the 95% intervals of the statistics in `views` [4, B, K] contain 0."""
    ends = [interval(views[..., k], prompts, seeds, 0.95) for k in range(views.shape[-1])]
    return float(np.mean([low <= 0 <= high for _, low, high in ends]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mix", MIXES)
def test_intervals_of_means_and_of_paired_differences_cover(size, mix):
    random = np.random.default_rng([*size, *(int(100 * part) for part in mix)])
    what_all_steps_share = draw_grids(random, COUNT, *size, (1, 1, 1))
    one = what_all_steps_share + draw_grids(random, COUNT, *size, mix)
    other = what_all_steps_share + draw_grids(random, COUNT, *size, mix)
    plain, pair = (
        crossed_means([grids], RESAMPLES)[0]
        for grids in (draw_grids(random, COUNT, *size, mix), np.vstack([one, other]))
    )
    assert 0.88 <= coverage(plain, *size) <= 0.995
    assert 0.88 <= coverage(pair[..., :COUNT] - pair[..., COUNT:], *size) <= 0.995


@pytest.mark.parametrize("mix", MIXES)
def test_standard_error_is_the_spread_of_the_mean(mix):
    prompts, seeds = 8, 4
    grids = draw_grids(np.random.default_rng(5), 2000, prompts, seeds, mix)
    truth = np.sqrt(mix[0] / prompts + mix[1] / seeds + mix[2] / (prompts * seeds))
    claimed = np.sqrt(np.mean(standard_error(crossed_means([grids], RESAMPLES)[0]) ** 2))
    assert 0.93 * truth < claimed < 1.25 * truth


def test_standard_error_by_hand():
    rows = np.array([1.0, 2.0, 4.0, 9.0])
    of_the_mean = rows.std(ddof=1) / np.sqrt(4)
    only_prompts = np.repeat(rows[:, None], 3, axis=1)
    (by_prompts,) = crossed_means([only_prompts[None]], 5000)
    (by_seeds,) = crossed_means([only_prompts.T[None]], 5000)
    assert standard_error(by_prompts)[0] == pytest.approx(of_the_mean, rel=0.05)
    assert standard_error(by_seeds)[0] == pytest.approx(of_the_mean, rel=0.05)


def test_standard_error_is_that_of_the_analysis_of_variance():
    grid = draw_grids(np.random.default_rng(3), 1, 8, 4, (1, 1, 1))[0]
    rows, columns = grid.mean(axis=1, keepdims=True), grid.mean(axis=0, keepdims=True)
    rest = grid - rows - columns + grid.mean()
    mean_square_rows, mean_square_columns = 4 * rows.var(ddof=1), 8 * columns.var(ddof=1)
    mean_square_rest = (rest**2).sum() / (7 * 3)
    by_hand = np.sqrt((mean_square_rows + mean_square_columns - mean_square_rest) / (8 * 4))
    (views,) = crossed_means([grid[None]], 5000)
    assert standard_error(views)[0] == pytest.approx(by_hand, rel=0.05)
    assert views[3].std() > standard_error(views)[0]  # the plain crossed bootstrap counts the rest three times


def test_interval_by_hand():
    rows = np.array([1.0, 2.0, 4.0, 9.0])
    (views,) = crossed_means([np.repeat(rows[:, None], 3, axis=1)[None]], 5000)
    value, low, high = interval(views[..., 0], prompts=4, seeds=3, confidence=0.95)
    assert value == 4.0
    assert high - value == pytest.approx(value - low)
    assert high - value == pytest.approx(3.182 * rows.std(ddof=1) / 2, rel=0.05)  # t for 3 degrees of freedom


def test_views_are_nothing_prompts_seeds_both():
    random = np.random.default_rng(0)
    prompts_only = np.repeat(random.random((1, 5, 1)), 4, axis=2)
    (views,) = crossed_means([prompts_only], 200)
    as_is, prompts, seeds, both = views
    assert views.shape == (4, 200, 1)
    np.testing.assert_allclose(as_is, prompts_only.mean())
    np.testing.assert_allclose(seeds, as_is)
    np.testing.assert_allclose(both, prompts)
    assert prompts.std() > 0.01


def test_grids_of_one_call_are_paired():
    random = np.random.default_rng(1)
    grid = random.random((6, 4))
    (views,) = crossed_means([np.stack([grid, grid + 0.1])], 200)
    difference = views[..., 1] - views[..., 0]
    np.testing.assert_allclose(difference, 0.1)
    assert interval(difference, 6, 4, 0.95) == pytest.approx((0.1, 0.1, 0.1))


def test_seeds_are_resampled_jointly_and_prompts_apart():
    seeds_only = np.repeat(np.array([[[1.0, 2.0, 5.0, 6.0]]]), 7, axis=1)
    plain, edit = crossed_means([seeds_only, seeds_only[:, :5]], 200)
    np.testing.assert_allclose(plain, edit)

    prompts_only = np.repeat(np.arange(6.0)[None, :, None], 4, axis=2)
    plain, edit = crossed_means([prompts_only, prompts_only], 2000)
    assert abs(np.corrcoef(plain[1, :, 0], edit[1, :, 0])[0, 1]) < 0.1


def test_same_scores_give_the_same_replicates():
    grid = np.random.default_rng(2).random((3, 6, 4))
    np.testing.assert_array_equal(crossed_means([grid], 100)[0], crossed_means([grid], 100)[0])


def test_constant_scores_are_certain():
    (views,) = crossed_means([np.full((1, 6, 4), 0.5)], 100)
    assert interval(views[..., 0], 6, 4, 0.95) == pytest.approx((0.5, 0.5, 0.5))


def test_a_single_seed_counts_as_fixed():
    rows = np.array([1.0, 2.0, 4.0, 9.0])
    (views,) = crossed_means([rows[None, :, None]], 5000)
    _, low, high = interval(views[..., 0], prompts=4, seeds=1, confidence=0.95)
    assert (high - low) / 2 == pytest.approx(3.182 * rows.std(ddof=1) / 2, rel=0.05)


def test_a_single_cell_says_nothing():
    with pytest.raises(InputError, match="at least two seeds"):
        crossed_means([np.ones((3, 6, 4)), np.ones((3, 1, 1))], 100)


@pytest.mark.parametrize(
    ("probability", "freedom", "table"),
    [(0.975, 1, 12.706), (0.975, 3, 3.182), (0.95, 5, 2.015), (0.995, 10, 3.169), (0.975, 30, 2.042), (0.5, 4, 0.0)],
)
def test_t_quantile_is_the_tables(probability, freedom, table):
    assert t_quantile(probability, freedom) == pytest.approx(table, abs=6e-4)
