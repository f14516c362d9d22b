"""How often is a word that learned nothing accepted, and how often one that learned something? A simulation.

    python benchmarks/false_acceptance.py            # four minutes on an idle core; goes on where it was stopped
    python benchmarks/false_acceptance.py --quick     # half a minute: few trials, prints, writes no document

A trial is a run: the class word and each of its steps have CLIP-I on a choosing and on a reporting grid of prompts ×
seeds, all with luck of their own: x = gain + prompt's + seed's + cell's, normal, in a mix of variances. Under the null
the gain is 0 on average over all prompts and all seeds, and no step disobeys (CLIP-T is the class word's), so that
nothing but likeness can reject. The step is chosen on the choosing grid as `choose` does, and judged on the reporting grid as
`report` does; beside it stands the old way, which judged the chosen step by the grid that it was chosen on.

The package's bootstrap is linear in its grids: its replicates of all single cells (`crossed_means` of unit grids) give
the intervals of any number of grids as quadratic forms. Scores are not linear, and are carried through the
replicates as the package does. Every simulated case is compared with `choose` and `report` on its first trials.
Writes docs/benchmarks/false-acceptance.md and .png; counts lie in work/false-acceptance until they are removed.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ti_core.choosing.selection import ACCEPTANCE, WORTH, choose, report
from ti_core.choosing.statistics import Array, crossed_means, standard_error, t_quantile
from ti_core.config import SelectionRule
from ti_core.records import Anchors, Cells, Scores, Split

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "work" / "false-acceptance"
DOCS = ROOT / "docs" / "benchmarks"

RULE = SelectionRule()
CHOOSING = RULE.model_copy(update={"resamples": 200})
"""The rule that steps are chosen by here: as many resamples as there are by default would take five times as long."""
WORD, REAL, TEXT, REAL_TEXT = 0.4, 0.8, 0.3, 0.2
"""Means of the class word, of real pictures among themselves, of CLIP-T, and of the training pictures' CLIP-T."""
LUCK = 0.25
"""Standard deviation of one picture's gain, as a part of the way from the class word to real pictures: what the runs of
the miniature have (docs/decisions/0012)."""
MIXES: dict[str, "Shares"] = {
    "prompts": (1, 0, 0), "seeds": (0, 1, 0), "cells": (0, 0, 1), "prompts + seeds": (1, 1, 0),
    "prompts + cells": (1, 0, 1), "seeds + cells": (0, 1, 1), "all three": (1, 1, 1),
}  # fmt: skip
"""Variances of prompts, seeds and cells, in equal parts."""
CASES = {
    "6 × 5, then 6 × 5 (miniature)": ((6, 5), (6, 5)),
    "6 × 4, then 6 × 4 (Stable Diffusion)": ((6, 4), (6, 4)),
    "6 × 2, then 6 × 4 (quick)": ((6, 2), (6, 4)),
}
"""Prompts × seeds that choose, and that report."""
REPORTING = ((2, 16), (3, 16), (6, 2), (4, 4), (4, 32), (6, 4), (6, 5), (7, 64), (12, 4), (30, 4))
"""Reporting grids: three that planning refuses, the smallest that it lets through, the shipped protocols', long ones."""
CHECKPOINTS = (1, 5, 12, 30)
GAINS = (0.1, 0.2, 0.3, 0.4, 0.6)
"""True gains, as a part of the way from the class word to real pictures."""
LEVELS = (0.95, 0.97, ACCEPTANCE)
OFTEN = 10
"""Times as many trials where the verdict is simulated alone: it costs little."""
AT_ONCE = 2000
"""Grids whose replicates are computed at once."""
CHECKED = 3
"""Trials of every case that the package's own functions judge too."""


Shares = tuple[int, int, int]
"""Variances of prompts, seeds and cells, in any unit."""


class Drawn(NamedTuple):
    """Trials of one case. N trials, K steps, P prompts, S seeds; each set has grids of its own."""

    word_NPS: Array
    steps_NKPS: Array


class Counts(NamedTuple):
    """How many of `trials` runs passed, on the reporting set and in the old way, on the choosing set."""

    trials: int
    accepted: int
    rejected: int
    old: int


def draw(
    random: np.random.Generator, trials: int, steps: int, grid: tuple[int, int], mix: Shares, gain: float = 0.0
) -> Drawn:
    """CLIP-I of class word and steps, all of which gain this part of the way; the luck of a single gain is `LUCK`."""
    of_prompts, of_seeds, of_cells = np.sqrt(np.array(mix) / sum(mix)) * LUCK * (REAL - WORD) / math.sqrt(2)
    shape = (trials, 1 + steps, *grid)
    luck = of_prompts * random.standard_normal((*shape[:3], 1))
    luck = luck + of_seeds * random.standard_normal((*shape[:2], 1, grid[1]))
    luck += of_cells * random.standard_normal(shape)
    return Drawn(WORD + luck[:, 0], WORD + gain * (REAL - WORD) + luck[:, 1:])


class Grid:
    """The package's intervals on grids of one size, for many grids at once."""

    def __init__(self, prompts: int, seeds: int, resamples: int) -> None:
        self.prompts, self.seeds, cells = prompts, seeds, prompts * seeds
        (views,) = crossed_means([np.eye(cells).reshape(cells, prompts, seeds)], resamples)
        as_is, of_prompts, of_seeds, both = views
        parts = of_prompts, of_seeds, both - of_prompts - of_seeds + as_is
        self._forms = [_root(np.cov(part.T, bias=True)) for part in parts]
        self._freedoms = np.linspace(min(prompts, seeds) - 1, prompts + seeds - 2, 500)

    def intervals(self, grids_NPS: Array, level: float) -> tuple[Array, Array, Array]:
        """Value, lower and upper end [N] of the interval of each grid's mean."""
        flat = grids_NPS.reshape(len(grids_NPS), -1)
        of_prompts, of_seeds, of_cells = (((flat @ root) ** 2).sum(1) for root in self._forms)
        total = of_prompts + of_seeds
        shares = (of_prompts / total) ** 2 / (self.prompts - 1) + (of_seeds / total) ** 2 / (self.seeds - 1)
        quantiles = np.interp(1 / shares, self._freedoms, self._table(level))
        reach = quantiles * np.sqrt(total - np.minimum(of_cells, np.minimum(of_prompts, of_seeds)))
        value = flat.mean(1)
        return value, value - reach, value + reach

    @cache  # as many as there are grids
    def _table(self, level: float) -> Array:
        return np.array([t_quantile((1 + level) / 2, float(freedom)) for freedom in self._freedoms])


def _root(covariance: Array) -> Array:
    """A matrix R with R Rᵀ = the covariance, without the directions in which nothing varies."""
    values, vectors = np.linalg.eigh(covariance)
    there = values > values.max() * 1e-12
    root: Array = vectors[:, there] * np.sqrt(values[there])
    return root


@cache
def grid_of(prompts: int, seeds: int, resamples: int) -> Grid:
    """The grid of this size, prepared once."""
    return Grid(prompts, seeds, resamples)


def chosen_steps(drawn: Drawn) -> tuple[NDArray[np.int_], NDArray[np.bool_]]:
    """Which step of each trial is chosen [N], and whether the old way accepts it [N]: `choose`, many runs at once."""
    trials, steps, prompts, seeds = drawn.steps_NKPS.shape
    gains = drawn.steps_NKPS - drawn.word_NPS[:, None]
    _, low, _ = grid_of(prompts, seeds, CHOOSING.resamples).intervals(
        gains.reshape(-1, prompts, seeds), RULE.confidence
    )
    sound = (low > 0).reshape(trials, steps)
    chosen = np.zeros(trials, dtype=int)
    at_once = max(1, AT_ONCE // (1 + steps))
    for first in range(0, trials if steps > 1 else 0, at_once):
        part = slice(first, first + at_once)
        chosen[part] = _choice(drawn.word_NPS[part], drawn.steps_NKPS[part], sound[part])
    return chosen, sound[np.arange(trials), chosen]


def _choice(word_NPS: Array, steps_NKPS: Array, sound_NK: NDArray[np.bool_]) -> NDArray[np.int_]:
    trials, steps, prompts, seeds = steps_NKPS.shape
    both = np.concatenate([word_NPS[:, None], steps_NKPS], axis=1).reshape(-1, prompts, seeds)
    (views,) = crossed_means([both], CHOOSING.resamples)
    image = views.reshape(4, -1, trials, 1 + steps)
    scaled = np.clip((image[..., 1:] - image[..., :1]) / np.maximum(REAL - image[..., :1], RULE.least_range), 0, 1)
    score = 2 * scaled / (scaled + 1)  # CLIP-T is the class word's, 1 on its scale
    points = score[0, 0]
    best = points.argmax(1)[:, None]
    behind = standard_error(score - np.take_along_axis(score, best[None, None], axis=-1))
    tied = np.take_along_axis(points, best, axis=-1) - points <= behind
    good = tied & sound_NK
    return np.argmax(np.where(good.any(1)[:, None], good, tied), axis=1)


def verdicts(
    word_NPS: Array, chosen_NPS: Array, level: float = ACCEPTANCE
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of the trials are accepted [N], and which rejected [N]: `report`, many runs at once."""
    _, low, high = grid_of(*word_NPS.shape[1:], RULE.resamples).intervals(chosen_NPS - word_NPS, level)
    rejected = high < WORTH * (REAL - word_NPS.mean((1, 2)))
    return (low > 0) & ~rejected, rejected


def simulate(name: str, mix: Shares, steps: int, trials: int, gain: float = 0.0) -> Counts:
    """Run the line from scores to verdict so often; all steps have the true `gain`, a part of the way."""
    choosing, reporting = CASES[name]
    random = np.random.default_rng([*choosing, *reporting, *mix, steps, round(1000 * gain)])
    first, second = draw(random, trials, steps, choosing, mix, gain), draw(random, trials, 1, reporting, mix, gain)
    chosen, old = chosen_steps(first)
    accepted, rejected = verdicts(second.word_NPS, second.steps_NKPS[:, 0])
    for trial, told in enumerate(zip(chosen, old, accepted, rejected, strict=True)):
        if trial < CHECKED and by_the_package(first, second, trial) != told:
            raise AssertionError(f"The package says otherwise of trial {trial} of {name}, {mix}, {steps} steps.")
    return Counts(trials, int(accepted.sum()), int(rejected.sum()), int(old.sum()))


def by_the_package(first: Drawn, second: Drawn, trial: int) -> tuple[int, bool, bool, bool]:
    """(place of the chosen step, accepted in the old way, accepted, rejected) by `choose` and `report`."""
    steps = [scores(place + 1, grid, "select") for place, grid in enumerate(first.steps_NKPS[trial])]
    decision = choose(steps, ends(first.word_NPS[trial], "select"), CHOOSING)
    chosen, word = second.steps_NKPS[trial, 0], second.word_NPS[trial]
    told = report(scores(decision.step, chosen, "report"), ends(word, "report"), RULE)
    return decision.step - 1, decision.accepted, told.verdict == "accepted", told.verdict == "rejected"


def scores(step: int, clip_i_PS: Array, split: Split) -> Scores:
    """A record of these CLIP-I values; CLIP-T is the class word's throughout."""

    def cells(values: Array, name: str) -> Cells:
        prompts = tuple(f"{name} {p} {{}}" for p in range(len(values)))
        return Cells(prompts=prompts, seeds=tuple(range(values.shape[1])), values=tuple(map(tuple, values.tolist())))

    text = np.full_like(clip_i_PS, TEXT)
    clip_i, clip_t = cells(clip_i_PS, "plain"), cells(text, "edit")
    return Scores(step=step, split=split, protocol="p", clip_i=clip_i, clip_t=clip_t, strip="")


def ends(word_PS: Array, split: Split) -> Anchors:
    """The anchors of a trial."""
    return Anchors(class_word=scores(0, word_PS, split), real=REAL, real_text=REAL_TEXT)


def upper(count: int, trials: int) -> float:
    """Upper end of the 95% Clopper–Pearson (1934) interval of a share."""
    return _bound(count, trials, 0.025) if count < trials else 1.0


def lower(count: int, trials: int) -> float:
    """Lower end of the same interval."""
    return 1.0 - upper(trials - count, trials)


def _bound(count: int, trials: int, tail: float) -> float:
    """The share under which `count` or fewer of the trials have the probability `tail`, by bisection."""
    k = np.arange(count + 1)
    logs = [math.lgamma(trials + 1) - math.lgamma(one + 1) - math.lgamma(trials - one + 1) for one in k]
    low, high = count / trials, 1.0
    for _ in range(60):
        share = (low + high) / 2
        under = np.exp(np.array(logs) + k * math.log(share) + (trials - k) * math.log1p(-share)).sum()
        low, high = (share, high) if under > tail else (low, share)
    return high


# --- the study --------------------------------------------------------------------------------------------------------


class Kept:
    """Counts that were made already, by what they are of."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._made: dict[str, list[int]] = json.loads(path.read_text()) if path and path.exists() else {}

    def get(self, make: Callable[..., Sequence[int]], *given: object) -> list[int]:
        """What `make(*given)` counts, made now if it was not before."""
        key = f"{make.__name__} {given} at {ACCEPTANCE}"
        if key not in self._made:
            started = time.monotonic()
            self._made[key] = list(make(*given))
            print(f"{key}: {self._made[key]} ({time.monotonic() - started:.1f} s)", flush=True)
            if self._path:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.write_text(json.dumps(self._made, indent=0))
        return self._made[key]


class Study(NamedTuple):
    """All counts."""

    null: dict[tuple[str, str, int], Counts]
    """By case, mix and number of checkpoints."""
    power: dict[tuple[str, str, float], Counts]
    """By case, mix and true gain, with five checkpoints."""
    shares: dict[tuple[int, int], dict[Shares, Sequence[int]]]
    """By reporting grid and shares of variance: how many pass at each of `LEVELS`."""
    often: int
    """Trials of each entry of `shares`."""


def study(trials: int, kept: Kept) -> Study:
    """Simulate all that the document tells."""
    null = {
        (case, mix, steps): Counts(*kept.get(simulate, case, MIXES[mix], steps, trials))
        for steps in CHECKPOINTS
        for case in CASES
        for mix in MIXES
    }
    power = {
        (case, mix, gain): Counts(*kept.get(simulate, case, MIXES[mix], 5, trials, gain))
        for case in CASES
        for mix in ("seeds", "all three")
        for gain in GAINS
    }
    often = OFTEN * trials
    shares = {grid: {mix: kept.get(passed, grid, mix, often) for mix in sixths()} for grid in REPORTING}
    return Study(null, power, shares, often)


def passed(grid: tuple[int, int], mix: Shares, trials: int) -> list[int]:
    """How many words without any gain pass on a reporting grid, at each of `LEVELS`. What is reported on is drawn anew,
    so the way in which the step was chosen has no part in it."""
    random, counts = np.random.default_rng([*grid, *mix]), np.zeros(len(LEVELS), dtype=int)
    at_once = max(1, 1_000_000 // (grid[0] * grid[1]))
    for first in range(0, trials, at_once):
        drawn = draw(random, min(at_once, trials - first), 1, grid, mix)
        counts += [int(verdicts(drawn.word_NPS, drawn.steps_NKPS[:, 0], level)[0].sum()) for level in LEVELS]
    return [int(count) for count in counts]


def sixths() -> list[Shares]:
    """All mixes of prompts, seeds and cells in parts of a sixth."""
    return [(i, j, 6 - i - j) for i in range(7) for j in range(7 - i)]


def write(made: Study) -> Path:
    """Write the document and its picture."""
    trials = next(iter(made.null.values())).trials
    worst = max(made.null.values(), key=lambda one: one.accepted)
    bound = upper(worst.accepted, worst.trials)
    text = [
        "# False acceptance: how often a word that learned nothing passes",
        "",
        f"Made by `python benchmarks/false_acceptance.py`: {trials:,} simulated runs for every figure of the first three "
        f"tables. All that is known of a run is its grids of CLIP-I, prompts × seeds; its step is chosen as `choose` does "
        f"({CHOOSING.resamples} resamples), and the verdict is `report`'s, at the level {ACCEPTANCE}. The gain over the class word "
        f"is 0 on average over all prompts and all seeds; its luck is of the prompts, of the seeds, of single cells, or of "
        f"several in equal parts, {LUCK} of the way from the class word to real pictures for one picture.",
        "",
        f"**At most {worst.accepted / worst.trials:.2%} of such words are accepted in any mix of any case, with an upper 95% "
        f"bound (Clopper–Pearson) of {bound:.2%}.** The number of checkpoints has no part in it: what is reported on is "
        f"drawn anew. Tested on the choosing set at the step that looked best there, at {RULE.confidence}, as it was done before, up "
        f"to {max(one.old / one.trials for one in made.null.values()):.0%} pass.",
        "",
        "![False acceptance by number of checkpoints, old and new](false-acceptance.png)",
        "",
    ]
    for case in CASES:
        text += [f"## {case}", "", *_null_table(made, case), "", *_power_table(made, case), ""]
    text += ["## Other mixes and other grids", "", *_shares_table(made), ""]
    DOCS.mkdir(parents=True, exist_ok=True)
    draw_bars(made, DOCS / "false-acceptance.png")
    path = DOCS / "false-acceptance.md"
    path.write_text("\n".join(text))
    return path


def _null_table(made: Study, case: str) -> list[str]:
    """False acceptance by mix and number of checkpoints."""
    counts = [f"{steps} checkpoint{'' if steps == 1 else 's'}" for steps in CHECKPOINTS]
    lines = [
        "Learned nothing, accepted: on the reporting set (upper 95% bound) / in the old way.",
        "",
        f"| luck of | {' | '.join(counts)} |",
        f"|---{'|---' * len(counts)}|",
    ]
    for mix in MIXES:
        cells = []
        for steps in CHECKPOINTS:
            one = made.null[case, mix, steps]
            rate, bound = one.accepted / one.trials, upper(one.accepted, one.trials)
            cells.append(f"**{rate:.2%}** ({bound:.2%}) / {one.old / one.trials:.1%}")
        lines.append(f"| {mix} | {' | '.join(cells)} |")
    return lines


def _power_table(made: Study, case: str) -> list[str]:
    """How words that learned something end."""
    lines = [
        "Learned something, five checkpoints: accepted / undecided / rejected by true gain (0 is the class word, 1 real pictures).",
        "",
        f"| luck of | {' | '.join(f'{gain:g}' for gain in GAINS)} |",
        f"|---{'|---' * len(GAINS)}|",
    ]
    for mix in ("seeds", "all three"):
        cells = []
        for gain in GAINS:
            one = made.power[case, mix, gain]
            left = one.trials - one.accepted - one.rejected
            cells.append(" / ".join(f"{count / one.trials:.0%}" for count in (one.accepted, left, one.rejected)))
        lines.append(f"| {mix} | {' | '.join(cells)} |")
    return lines


def _shares_table(made: Study) -> list[str]:
    """The worst mix of each reporting grid."""
    lines = [
        f"Equal parts need not be the worst case. The verdict alone, {made.often:,} trials for each of the {len(sixths())} mixes "
        "in sixths; the worst one of each reporting grid (shares of prompts : seeds : cells), false acceptance and upper 95% "
        "bound. The first three are refused when a run is planned.",
        "",
        f"| prompts × seeds | {' | '.join(f'at {level}' for level in LEVELS)} |",
        f"|---{'|---' * len(LEVELS)}|",
    ]
    for (prompts, seeds), by_mix in made.shares.items():
        cells = []
        for place in range(len(LEVELS)):
            count, mix = max((shares[place], mix) for mix, shares in by_mix.items())
            told = f"{count / made.often:.2%} ({upper(count, made.often):.2%})"
            cells.append(f"{told}, {':'.join(map(str, mix))}")
        lines.append(f"| {prompts} × {seeds} | {' | '.join(cells)} |")
    return lines


def draw_bars(made: Study, path: Path) -> None:
    """The worst mix of each case by number of checkpoints, with 95% intervals: the old way beside the verdict."""
    figure = Figure(figsize=(8.4, 3.2), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(CASES), sharey=True)
    for axes, case in zip(panels, CASES, strict=True):
        for shift, name, colour, field in (
            (-0.19, "on the choosing set (before)", "#8b929b", "old"),
            (0.19, "on the reporting set", "#0a5bab", "accepted"),
        ):
            counts = [max(getattr(made.null[case, mix, steps], field) for mix in MIXES) for steps in CHECKPOINTS]
            trials = made.null[case, "seeds", 1].trials
            rates = np.array(counts) / trials
            reaches = np.array(
                [[rate - lower(n, trials), upper(n, trials) - rate] for rate, n in zip(rates, counts, strict=True)]
            )
            axes.bar(
                np.arange(len(rates)) + shift, 100 * rates, 0.36, yerr=100 * reaches.T, color=colour, label=name,
                error_kw={"ecolor": "#1b1e22", "elinewidth": 1, "capsize": 2},
            )  # fmt: skip
        axes.axhline(3, color="#8a4a00", linewidth=1, linestyle=(0, (4, 3)))
        axes.set_title(case, fontsize=8.5)
        axes.set_xticks(range(len(CHECKPOINTS)), [str(steps) for steps in CHECKPOINTS])
        axes.set_xlabel("checkpoints")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accepted, % (worst mix)")
    panels[0].legend(fontsize=7.5, frameon=False, loc="upper left")
    figure.savefig(path)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4000, help="simulated runs for each figure")
    parser.add_argument("--quick", action="store_true", help="200 runs for each figure; writes no document")
    given = parser.parse_args()
    if given.quick:
        made = study(200, Kept(None))
        print("\n".join([*_shares_table(made), *(line for case in CASES for line in (case, *_null_table(made, case)))]))
    else:
        print(write(study(given.trials, Kept(WORK / "counts.json"))))


if __name__ == "__main__":
    main()
