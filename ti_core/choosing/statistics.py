"""How sure a mean over a prompt × seed grid is: the crossed bootstrap with a small-sample correction.

Prompts and seeds are both samples of what a reader of the word may ask for, and a cell shares its luck with its row
and its column; so prompts and seeds are resampled separately. (Resampling single cells, as if they were independent,
gives far too narrow intervals.) All grids of a call share the resampled prompts and seeds, so the difference of two
replicates is the replicate of the paired difference, and any function of means can be carried through elementwise.

Grids are small here (some 8 prompts × 4 seeds), and there the plain percentile interval of the crossed bootstrap says
95% and covers between 79% (seeds differ most) and 99.8% (single pictures differ most). Three known corrections
mend that:

- n − 1 of n prompts (seeds) are drawn, not n: the variance of a resampled mean is then unbiased (McCarthy & Snowden
  1985; Rao & Wu 1988, the rescaling bootstrap with m = n − 1).
- The crossed bootstrap counts what is particular to a cell about three times (Owen 2007, "The pigeonhole bootstrap").
  Every resample is therefore seen in four views: nothing, only prompts, only seeds, both resampled. They split its
  deviation into a part of the prompts, of the seeds and of the cells, and the variance is prompts + seeds − cells, as
  in the two-way analysis of variance and in multiway clustering (Cameron, Gelbach & Miller 2011), never below that of
  prompts or of seeds alone.
- Student's t takes the place of the normal distribution, with Satterthwaite's (1946) degrees of freedom.

This module knows neither CLIP nor steps nor the rule. Legend: B resamples, K grids that belong together, P prompts,
S seeds; views are [4, B, …] in the order above.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ti_core.errors import InputError

Array = NDArray[np.float64]

_SEED = 20070620
"""Of the resampling: fixed, so that the same scores give the same decision."""
_T_POINTS = 4000


def crossed_means(grids: Sequence[Array], resamples: int) -> list[Array]:
    """Means of grids as they are and over resampled prompts and seeds.

    Each entry of `grids` is [K, P, S] (K and P may differ between entries, S may not) and yields views [4, B, K]. The
    prompts of each entry are resampled on their own, the seeds of all entries jointly. An axis of length 1 cannot be
    resampled and counts as fixed: intervals then speak for that one prompt or seed only.

    Raises InputError when a grid has a single cell, from which nothing can be said about how sure it is.
    """
    if any(grid.shape[1] * grid.shape[2] < 2 for grid in grids):
        raise InputError(
            "One prompt with one seed cannot say how sure a score is: judge with at least two seeds per prompt."
        )
    random = np.random.default_rng(_SEED)
    by_seed = _weights(random, grids[0].shape[2], resamples)
    views = []
    for grid in grids:
        by_prompt = _weights(random, grid.shape[1], resamples)
        as_is = np.broadcast_to(grid.mean(axis=(1, 2)), (resamples, len(grid)))
        prompts = by_prompt @ grid.mean(axis=2).T
        seeds = by_seed @ grid.mean(axis=1).T
        both = np.einsum("bp,kps,bs->bk", by_prompt, grid, by_seed, optimize=True)
        views.append(np.stack([as_is, prompts, seeds, both]))
    return views


def standard_error(views: Array) -> Array:
    """Standard error […] of a statistic given as views [4, B, …]: means, or any elementwise function of them."""
    return np.sqrt(_combined(*_variances(views)))


def interval(views: Array, prompts: int, seeds: int, confidence: float) -> tuple[float, float, float]:
    """Value, lower and upper end of the interval of one statistic given as views [4, B].

    `prompts` and `seeds` are the sizes of its grid (of the smaller one, if it rests on two).
    """
    value = float(views[0, 0])
    of_prompts, of_seeds, of_cells = _variances(views)
    total = of_prompts + of_seeds
    if total == 0.0:
        return value, value, value
    shares = (of_prompts / total) ** 2 / max(prompts - 1, 1) + (of_seeds / total) ** 2 / max(seeds - 1, 1)
    quantile = t_quantile((1.0 + confidence) / 2.0, float(1.0 / shares))
    reach = quantile * float(np.sqrt(_combined(of_prompts, of_seeds, of_cells)))
    return value, value - reach, value + reach


def luckier(views: Array) -> Literal["prompts", "seeds"]:
    """Which of the two the luck of one statistic, given as views [4, B], is more of: more of those help more."""
    of_prompts, of_seeds, _ = _variances(views)
    return "prompts" if of_prompts >= of_seeds else "seeds"


def t_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t for a probability in [0.5, 1) and (fractional) degrees of freedom ≥ 1.

    With t = √ν·tan θ the density becomes proportional to cos(θ)^(ν−1), which is summed over [0, π/2).
    """
    edges = np.linspace(0.0, np.pi / 2, _T_POINTS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    mass = np.concatenate([[0.0], np.cumsum(np.cos(middles) ** (freedom - 1))])
    angle = np.interp(2.0 * probability - 1.0, mass / mass[-1], edges)
    return float(np.sqrt(freedom) * np.tan(angle))


def _weights(random: np.random.Generator, n: int, resamples: int) -> Array:
    """Weights [B, n] of n − 1 draws with replacement; rows sum to 1."""
    if n == 1:
        return np.ones((resamples, 1))
    return random.multinomial(n - 1, np.full(n, 1.0 / n), size=resamples) / (n - 1)


def _variances(views: Array) -> tuple[Array, Array, Array]:
    """Variance of the prompts', the seeds' and the cells' part of the replicates' deviation; each […]."""
    as_is, prompts, seeds, both = views
    return prompts.var(axis=0), seeds.var(axis=0), (both - prompts - seeds + as_is).var(axis=0)


def _combined(prompts: Array, seeds: Array, cells: Array) -> Array:
    """Variance of the statistic: what is particular to cells is in the parts of prompts and of seeds; count it once."""
    return prompts + seeds - np.minimum(cells, np.minimum(prompts, seeds))
