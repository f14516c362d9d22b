"""Is the chosen step a good one? All held-out concepts, every checkpoint judged on both sets.

    python benchmarks/choosing.py                       # about 10 minutes on two idle cores after held_out.py; resumable
    python benchmarks/choosing.py --seeds 3             # three training seeds: an hour more
    python benchmarks/choosing.py --only disco moss     # some concepts; writes no table

The step is chosen on the choosing set. How good each step really was is told by its balanced score on the reporting set,
whose prompts and seeds had no say; the oracle takes the best step there. Regret is what a policy (the chosen step, the
last one, any fixed one) falls short of the oracle. Successive halving, and judging on fewer seeds, are played from the
same scores: they see only what they would have judged. Writes docs/benchmarks/choosing.md and .png; trainings and scores
are shared with held_out.py, in work/held-out.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from benchmarks.held_out import CONCEPTS, WORK
from benchmarks.held_out import DOCS as PAGES
from ti_core.choosing.halving import ladder, restricted
from ti_core.choosing.selection import balanced, choose, survivors
from ti_core.choosing.statistics import t_quantile
from ti_core.config import ConceptSpec, Packing, SelectionRule, TrainingConfig
from ti_core.judging.scoring import anchors, judge_round
from ti_core.line import Line
from ti_core.planning.batch import BatchItem, read_batch
from ti_core.records import Anchors, Candidate, Decision, JudgeRequest, Scores
from ti_core.settings import Settings
from ti_core.store import Store, open_store
from ti_core.works import Asked, Work

DOCS = PAGES / "benchmarks"
REPORT_SEEDS = 2
"""Seeds of the reporting set that every step is judged on; the choosing set is used whole."""
SLOTS = 16
"""Concepts in a pack: the fastest on two cores (docs/decisions/0008)."""


class Run(NamedTuple):
    """One training, all its steps on both sets."""

    concept: str
    seed: int
    ends: Anchors
    select: list[Scores]
    truth: dict[int, float]
    """Step → balanced score on the reporting set."""


def judged_runs(specs: Sequence[ConceptSpec], seed: int, settings: Settings, store: Store) -> list[Run]:
    """Train and judge all concepts with one training seed."""
    line = Line(settings, store, Packing(slots=SLOTS))
    asked = Asked(TrainingConfig(seed=seed), base_model="miniature")
    runs = []
    for work in line.study([BatchItem(one.name, one) for one in specs], asked):
        if work.error or work.ends is None:
            raise SystemExit(f"{work.name}: {work.error}")
        told, *reported = all_steps(work, settings, store)
        ends = anchors(work.planned, work.ready, told, settings, store)
        truth = {one.step: balanced(one, ends, work.planned.rule) for one in reported}
        runs.append(Run(work.name, seed, work.ends, list(work.scores.values()), truth))
        print(f"seed {seed}: {work.name} judged ({len(runs)} of {len(specs)})", flush=True)
    return runs


def all_steps(work: Work, settings: Settings, store: Store) -> list[Scores]:
    """Scores of the class word and of every checkpoint on few seeds of the reporting set."""
    seeds = work.planned.protocol.report.seeds[:REPORT_SEEDS]
    wanted = [(0, None), *((one.step, one.vectors) for one in work.checkpoints)]
    requests = [
        JudgeRequest(plan=work.planned, prepared=work.ready, step=step, vectors=vectors, split="report", seeds=seeds)
        for step, vectors in wanted
    ]
    return judge_round(requests, settings, store)


def halved(run: Run, rule: SelectionRule) -> tuple[Decision, float]:
    """The decision that successive halving comes to, and the share of the pictures that it needs."""
    whole = run.ends.class_word.clip_i.seeds
    still, scores, seen, pictures = [one.step for one in run.select], {}, tuple[int, ...](), 0
    full = {one.step: one for one in run.select}
    for rung in ladder(whole, len(run.select)):
        seen += rung.seeds
        pictures += len(rung.seeds) * len(still)
        scores |= {step: restricted(full[step], seen) for step in still}
        if rung.keep:
            still = survivors([scores[step] for step in still], run.ends, rule, rung.keep)
    return choose(list(scores.values()), run.ends, rule), pictures / (len(whole) * len(run.select))


def on_fewer_seeds(run: Run, rule: SelectionRule, many: int) -> Decision:
    """The decision that comes of the first `many` seeds of every prompt alone."""
    seeds = run.ends.class_word.clip_i.seeds[:many]
    ends = run.ends.model_copy(update={"class_word": restricted(run.ends.class_word, seeds)})
    return choose([restricted(one, seeds) for one in run.select], ends, rule)


def agrees(full: Decision, other: Decision) -> bool:
    """Whether another choice is within one standard error of the full one's, on the full scores."""
    by_step: dict[int, Candidate] = {one.step: one for one in full.candidates}
    return by_step[other.step].tied or by_step[other.step].score >= by_step[full.step].score


def over_concepts(values: dict[str, list[float]]) -> tuple[float, float]:
    """Mean over concepts of each one's mean over seeds, and half of its 95% Student-t interval."""
    means = [statistics.fmean(of_concept) for of_concept in values.values()]
    error = statistics.stdev(means) / len(means) ** 0.5
    return statistics.fmean(means), t_quantile(0.975, len(means) - 1) * error


def write(runs: Sequence[Run]) -> Path:
    """Write the table and its picture."""
    rule = SelectionRule()
    decisions = [choose(run.select, run.ends, rule) for run in runs]
    steps = sorted(runs[0].truth)
    policies: dict[str, list[int]] = {"chosen by the rule": [one.step for one in decisions]}
    policies |= {f"always step {step}": [step] * len(runs) for step in steps[:-1]}
    policies["the last step"] = [steps[-1]] * len(runs)
    by_halving = [halved(run, rule) for run in runs]
    policies["chosen with successive halving"] = [decision.step for decision, _ in by_halving]
    whole = len(runs[0].ends.class_word.clip_i.seeds)
    for many in range(1, whole):
        name = f"chosen on {many} seed{'s' * (many > 1)} of {whole}"
        policies[name] = [on_fewer_seeds(run, rule, many).step for run in runs]
    lines, drawn = [], {}
    for name, picked in policies.items():
        scores: dict[str, list[float]] = {}
        regrets: dict[str, list[float]] = {}
        gaps: dict[str, list[float]] = {}
        for run, step, chosen in zip(runs, picked, decisions, strict=True):
            best = max(run.truth.values())
            scores.setdefault(run.concept, []).append(run.truth[step])
            regrets.setdefault(run.concept, []).append(best - run.truth[step])
            gaps.setdefault(run.concept, []).append(run.truth[chosen.step] - run.truth[step])
        score, (regret, reach), (gap, gap_reach) = (
            over_concepts(scores)[0], over_concepts(regrets), over_concepts(gaps)
        )  # fmt: skip
        drawn[name] = regret, reach
        against = (
            "" if name == "chosen by the rule" else f"{gap:+.3f} ({gap - gap_reach:+.3f} to {gap + gap_reach:+.3f})"
        )
        lines.append(
            f"| {name} | {score:.3f} | **{regret:.3f}** ({regret - reach:.3f} to {regret + reach:.3f}) | {against} |"
        )
    agreed = [agrees(full, other) for full, (other, _) in zip(decisions, by_halving, strict=True)]
    share = statistics.fmean(part for _, part in by_halving)
    concepts, seeds = len({run.concept for run in runs}), len({run.seed for run in runs})
    accepted = sum(one.accepted for one in decisions)
    counts = {step: sum(one.step == step for one in decisions) for step in steps}
    best_counts = {step: sum(max(run.truth, key=run.truth.__getitem__) == step for run in runs) for step in steps}
    text = [
        "# Choosing the step: the rule against the last step, fixed steps and the oracle",
        "",
        f"Made by `python benchmarks/choosing.py` on the miniature: {concepts} held-out concepts, training "
        f"seeds {', '.join(map(str, range(seeds)))}, the default training, checkpoints at steps {', '.join(map(str, steps))}. Chosen on {len(runs[0].select[0].clip_i.seeds)} seeds per prompt; "
        f"scores and regret are of the reporting set ({REPORT_SEEDS} seeds per prompt), which had no say. Means and 95% "
        "intervals over concepts, each concept's seeds averaged first.",
        "",
        "| policy | balanced score | regret to the oracle (95%) | chosen − this one (95%) |",
        "|---|---|---|---|",
        *lines,
        "",
        "![Regret by policy](choosing.png)",
        "",
        "The oracle is the best of all steps on the same noisy reporting scores, so part of every regret is the oracle's "
        "own luck; differences between policies have no such bias.",
        "",
        f"The choosing set has nothing against the chosen step in {accepted} of {len(runs)} runs (the verdict is the reporting "
        "set's: docs/held-out.md). Steps chosen: "
        + ", ".join(f"{step}: {count}" for step, count in counts.items())
        + ". Best on the reporting set: "
        + ", ".join(f"{step}: {count}" for step, count in best_counts.items())
        + ".",
        "",
        "## Successive halving",
        "",
        f"It makes **{share:.0%}** of the steps' pictures, and its choice is within one standard error of the full one's in "
        f"**{statistics.fmean(agreed):.0%}** of {len(runs)} runs (the same step in "
        f"{statistics.fmean(full.step == other.step for full, (other, _) in zip(decisions, by_halving, strict=True)):.0%}).",
        "",
    ]
    DOCS.mkdir(parents=True, exist_ok=True)
    draw(drawn, DOCS / "choosing.png")
    path = DOCS / "choosing.md"
    path.write_text("\n".join(text))
    return path


def draw(regrets: dict[str, tuple[float, float]], path: Path) -> None:
    """Regret by policy with its interval."""
    figure = Figure(figsize=(7.2, 0.42 * len(regrets) + 0.9), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    names = list(regrets)[::-1]
    colours = ["#0a5bab" if name.startswith("chosen") else "#8b929b" for name in names]
    values, reaches = zip(*(regrets[name] for name in names), strict=True)
    axes.barh(names, values, xerr=reaches, color=colours, error_kw={"ecolor": "#1b1e22", "elinewidth": 1, "capsize": 3})
    axes.set_xlabel("regret to the oracle, in balanced score (less is better)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="names of concepts; no table is written then")
    parser.add_argument("--seeds", type=int, default=1, help="training seeds: 0, 1, …")
    given = parser.parse_args()
    settings = Settings(home=WORK, clip="", allowed_roots=(CONCEPTS,))
    store = open_store(settings)
    specs = [item.spec for item in read_batch(str(CONCEPTS), "", settings) if item.spec]
    specs = [spec for spec in specs if not given.only or spec.name in given.only]
    runs = [run for seed in range(given.seeds) for run in judged_runs(specs, seed, settings, store)]
    if given.only:
        for run in runs:
            decision = choose(run.select, run.ends, SelectionRule())
            other, share = halved(run, SelectionRule())
            print(run.concept, run.seed, decision.step, other.step, f"{share:.0%}", agrees(decision, other), run.truth)
    else:
        print(write(runs))


if __name__ == "__main__":
    main()
