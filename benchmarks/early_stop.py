"""Does stopping early pay? Every held-out concept at one fixed budget, with and without what came after the stop.

    python benchmarks/early_stop.py                   # all of examples/concepts, 500 steps of 4 samples; resumable
    python benchmarks/early_stop.py --only disco moss # some of them; writes no table

All concepts are trained to the end in one pack, with a checkpoint wherever the early stop would evaluate its fixed batch; where
it would have stopped, with the paper's window and with shorter ones, is then read off the losses of those checkpoints.
Stopping and last step are judged on the reporting set. Writes docs/benchmarks/early-stop.md; results lie in
work/early-stop until they are removed.
"""

import argparse
import statistics
from pathlib import Path

import torch

from ti_core import formats
from ti_core.backbone.folder import MINIATURE
from ti_core.backbone.resident import resident
from ti_core.choosing.statistics import t_quantile
from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.judging.scoring import judge_round
from ti_core.planning.batch import read_batch
from ti_core.planning.plan import make_plan
from ti_core.records import JudgeRequest, Plan, PreparedSet, Trained
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store
from ti_core.training import early_stop
from ti_core.training.pack import losses_of
from ti_core.training.running import concept_job, prepare, run_training
from ti_core.training.slot import Slot
from ti_core.training.state import TrainingState

ROOT = Path(__file__).resolve().parent.parent
CONCEPTS = ROOT / "examples" / "concepts"
WORK = ROOT / "work" / "early-stop"
SAMPLES = 4
SEEDS = 2
"""Seeds per prompt of the reporting set: it has 12 prompts, and concepts are averaged."""
EVERY = early_stop.evaluate_every(SAMPLES)
WINDOWS = (early_stop.WINDOW, 161, 115, 69)
"""Steps whose variance is compared with that of all: the paper's, and shorter ones for runs as short as these."""
COST = early_stop.SAMPLES * early_stop.PASSES_PER_EVALUATION / (EVERY * SAMPLES)
"""Part of the training's compute that evaluating the fixed batch adds."""


def plan_of(concept: ConceptSpec, steps: int, settings: Settings, store: Store) -> Plan:
    """The run of one concept: a checkpoint at every evaluation, otherwise the miniature's defaults."""
    training = TrainingConfig(steps=steps, batch_size=SAMPLES, checkpoint_every=EVERY)
    return make_plan(concept, training, EvaluationConfig(), SelectionRule(), "miniature", settings, store)


@torch.no_grad()
def losses_by_step(
    plan: Plan, prepared: PreparedSet, trained: Trained, settings: Settings, store: Store
) -> dict[int, float]:
    """Loss on the fixed batch at every step at which it would have been evaluated."""
    losses = dict[int, float]()
    with resident(plan.base, settings.device, precision=settings.precision) as model:
        for checkpoint in trained.checkpoints:
            if checkpoint.step % EVERY:
                continue
            word = formats.read_checkpoint(get_blob(store, checkpoint.vectors), str(checkpoint.step))
            rows = {name: torch.from_numpy(vectors.copy()) for name, vectors in word.items()}
            slot = Slot(concept_job(plan, prepared, TrainingState(checkpoint.step, rows, rows, rows)), model)
            losses[checkpoint.step] = losses_of([slot], [slot.fixed_batch()], model)[0].item()
    return losses


def stop_of(losses: dict[int, float], window: int, steps: int) -> int:
    """The step at which training would have stopped; the last one where it would not have."""
    seen: list[float] = []
    for step, loss in losses.items():
        seen.append(loss)
        if early_stop.has_settled(seen, EVERY, window):
            return step
    return steps


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="concepts")
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    settings = Settings(home=WORK, clip=str(MINIATURE / "mini-clip"), allowed_roots=(CONCEPTS,))
    store = open_store(settings)
    specs = [item.spec for item in read_batch(str(CONCEPTS), "", settings) if item.spec]
    specs = [spec for spec in specs if not options.only or spec.name in options.only]
    plans = [plan_of(spec, options.steps, settings, store) for spec in specs]
    work = [(plan, prepare(plan, settings, store)) for plan in plans]
    made = run_training(work, Packing(), settings, store, lambda event: print(event.concept, event.step), print)
    rows: dict[int, list[tuple[str, int, float, float]]] = {window: [] for window in WINDOWS}
    for (plan, prepared), trained in zip(work, made, strict=True):
        losses = losses_by_step(plan, prepared, trained, settings, store)
        stops = {window: stop_of(losses, window, options.steps) for window in WINDOWS}
        blobs = {one.step: one.vectors for one in trained.checkpoints}
        wanted = sorted({*stops.values(), options.steps})
        scores = judge_round(
            [
                JudgeRequest(
                    plan=plan,
                    prepared=prepared,
                    step=step,
                    vectors=blobs[step],
                    split="report",
                    seeds=plan.protocol.report.seeds[:SEEDS],
                )
                for step in wanted
            ],
            settings,
            store,
        )
        means = {one.step: one.clip_i.mean for one in scores}
        for window, stop in stops.items():
            rows[window].append((plan.concept.name, stop, means[stop], means[options.steps]))
        print(plan.concept.name, stops, flush=True)
    if not options.only:
        target = ROOT / "docs" / "benchmarks" / "early-stop.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(table(rows, options.steps))


def table(rows: dict[int, list[tuple[str, int, float, float]]], steps: int) -> str:
    """The figures as Markdown."""
    summary = []
    for window, of_window in rows.items():
        differences = [at_stop - at_end for _, _, at_stop, at_end in of_window]
        mean, count = statistics.mean(differences), len(of_window)
        reach = t_quantile(0.975, count - 1) * statistics.stdev(differences) / count**0.5
        saved = 1 - statistics.mean(min(stop, steps) * (1 + COST) for _, stop, _, _ in of_window) / steps
        stopped = sum(stop < steps for _, stop, _, _ in of_window)
        summary.append(
            f"| {window}{' (the paper)' if window == early_stop.WINDOW else ''} | {stopped} of {count} | {saved:+.1%} | "
            f"{mean:+.4f} ({mean - reach:+.4f} to {mean + reach:+.4f}) |"
        )
    windows = list(rows)
    lines = [
        "# Early stopping (DVAR) on the held-out concepts",
        "",
        f"Made by `python benchmarks/early_stop.py`: {len(rows[windows[0]])} concepts, {steps} steps of {SAMPLES} samples, "
        f"miniature, reporting set with {SEEDS} seeds. Fixed batch of {early_stop.SAMPLES} samples every {EVERY} steps ({COST:.1%} of the compute, "
        f"counted below), ε = {early_stop.THRESHOLD}.",
        "",
        "| window n, steps | stopped early | compute saved | CLIP-I at the stop − at the last step (95%) |",
        "|---|---|---|---|",
        *summary,
        "",
        "## Stops by concept",
        "",
        f"| concept | {' | '.join(f'n = {window}' for window in windows)} | CLIP-I at the end |",
        f"|---|{'---|' * len(windows)}---|",
    ]
    for of_concept in zip(*rows.values(), strict=True):
        stops = " | ".join(f"{stop}: {at_stop:.3f}" for _, stop, at_stop, _ in of_concept)
        lines.append(f"| {of_concept[0][0]} | {stops} | {of_concept[0][3]:.3f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
