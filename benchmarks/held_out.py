"""Does the line work? Every held-out concept through ingest, training, judging and choosing, none left out.

    python benchmarks/held_out.py                # all of examples/concepts, about 2 minutes each on two cores; resumable
    python benchmarks/held_out.py --only fox owl # some of them; writes no table

Writes docs/held-out.md with the table, the summary, and the contact sheets of the losers beside it. All figures come
from the reporting set: prompts and seeds that had no say in the choice. Results lie in work/held-out until they are
removed. It uses the stations directly, without Prefect and MLflow, and publishes nothing.
"""

import argparse
import io
import logging
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ti_core.backbone.folder import MINIATURE
from ti_core.choosing.selection import balanced, choose, report
from ti_core.choosing.statistics import t_quantile
from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.judging.scoring import anchors, judge
from ti_core.planning.batch import read_batch
from ti_core.planning.plan import make_plan
from ti_core.publishing.assembly import assemble
from ti_core.records import Document, Manifest, Scores
from ti_core.reporting.report import contact_sheet
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store
from ti_core.training.running import prepare, run_training

ROOT = Path(__file__).resolve().parent.parent
CONCEPTS = ROOT / "examples" / "concepts"
WORK = ROOT / "work" / "held-out"
DOCS = ROOT / "docs"


class Result(Document):
    """One concept, judged. `last` are the scores of the last step on the reporting set."""

    manifest: Manifest
    last: Scores

    @property
    def name(self) -> str:
        return self.manifest.plan.concept.name

    @property
    def last_score(self) -> float:
        """Balanced score of the last step on the reporting set."""
        return balanced(self.last, self.manifest.report.anchors, self.manifest.plan.rule)

    @property
    def lost(self) -> bool:
        """Whether the word is no nearer to its pictures than the class word, or was rejected."""
        return self.manifest.report.gain.value <= 0 or not self.manifest.decision.accepted


def measure(concept: ConceptSpec, settings: Settings, store: Store) -> Result:
    """Take one concept through the line up to the choice, and judge chosen and last step on the reporting set."""
    plan = make_plan(concept, TrainingConfig(), EvaluationConfig(), SelectionRule(), "miniature", settings, store)
    kept = WORK / "results" / f"{concept.name}-{plan.judge_key}.json"
    if kept.is_file():
        return Result.from_bytes(kept.read_bytes(), str(kept))
    prepared = prepare(plan, settings, store)
    (trained,) = run_training([(plan, prepared)], Packing(), settings, store, lambda _event: None, print)
    if trained.reason:
        raise SystemExit(trained.reason)
    checkpoints = trained.checkpoints
    class_word = judge(plan, prepared, 0, None, "select", settings, store)
    scores = [judge(plan, prepared, one.step, one.vectors, "select", settings, store) for one in checkpoints]
    ends = anchors(plan, prepared, class_word, settings, store)
    decision = choose(scores, ends, plan.rule)
    told = anchors(plan, prepared, judge(plan, prepared, 0, None, "report", settings, store), settings, store)
    by_step = {one.step: one.vectors for one in checkpoints}
    chosen, last = (
        judge(plan, prepared, step, by_step[step], "report", settings, store)
        for step in (decision.step, checkpoints[-1].step)
    )
    manifest = assemble(
        plan,
        prepared,
        tuple(checkpoints),
        ends,
        tuple(scores),
        decision,
        report(chosen, told, plan.rule),
        store,
    )
    result = Result(manifest=manifest, last=last)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(result.to_bytes())
    return result


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean over concepts and its 95% Student-t interval."""
    mean, error = statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5
    half = t_quantile(0.975, len(values) - 1) * error
    return mean, mean - half, mean + half


def write_table(results: Sequence[Result], store: Store) -> Path:
    """Write docs/held-out.md and the losers' contact sheets."""
    gains = [one.manifest.report.gain.value for one in results]
    improved = sum(gain > 0 for gain in gains)
    accepted = [one for one in results if one.manifest.decision.accepted]
    margin = mean_interval([one.manifest.report.score - one.last_score for one in results])
    gain = mean_interval(gains)
    losers = [one for one in results if one.lost]
    plan = results[0].manifest.plan
    training, evaluation = plan.training, plan.evaluation
    lines = [
        "# The held-out concepts, all of them",
        "",
        f"Made by `make held-out` on the miniature (digest `{plan.base.digest[:12]}`): {len(results)} concepts that the base "
        f"model never saw, {training.steps} steps × {training.batch_size} samples at {training.learning_rate:g}, a checkpoint every "
        f"{training.checkpoint_every}, one vector, seed {training.seed}. Judged with {len(plan.protocol.select.plain)} plain and "
        f"{len(plan.protocol.select.edit)} edit prompts × {evaluation.seeds} seeds, {evaluation.sampler_steps} DDIM steps, guidance "
        f"{evaluation.guidance:g}. Every figure below is from the reporting set, whose prompts and seeds had no say in the choice.",
        "",
        "| figure | value |",
        "|---|---|",
        f"| mean CLIP-I gain over the class word, 95% interval over concepts | **{gain[0]:+.3f}** ({gain[1]:+.3f} to {gain[2]:+.3f}) |",
        f"| share that improved (gain above 0) | {improved} of {len(results)} |",
        f"| accepted by the rule | {len(accepted)} of {len(results)} |",
        f"| mean balanced score: chosen step | {statistics.fmean(one.manifest.report.score for one in results):.3f} |",
        f"| mean balanced score: last step | {statistics.fmean(one.last_score for one in results):.3f} |",
        f"| chosen − last, 95% interval over concepts | {margin[0]:+.3f} ({margin[1]:+.3f} to {margin[2]:+.3f}) |",
        "",
        "What a number here means: the judge is the miniature's own small CLIP, trained apart from its text encoder; it says "
        "that the line learns, judges and chooses, not how good real Stable Diffusion words are.",
        "",
        "| concept | class word | outcome | chosen of | CLIP-I class word → word | gain (95%) | CLIP-T | score | last step's score |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in sorted(results, key=lambda one: one.manifest.report.score):
        manifest, told = one.manifest, one.manifest.report
        lines.append(
            f"| {one.name} | {manifest.plan.concept.class_word} | {'accepted' if manifest.decision.accepted else 'rejected'} "
            f"| {manifest.decision.step} of {manifest.plan.training.steps} "
            f"| {told.anchors.class_word.clip_i.mean:.3f} → {told.chosen.clip_i.mean:.3f} "
            f"| {told.gain.value:+.3f} ({told.gain.low:+.3f} to {told.gain.high:+.3f}) | {told.chosen.clip_t.mean:.3f} "
            f"| {told.score:.3f} | {one.last_score:.3f} |"
        )
    lines += ["", "## The losers", ""]
    if not losers:
        lines.append("None: every concept gained over its class word and was accepted.")
    else:
        lines.append("Rejected, or no nearer to their pictures than the class word on the reporting set.")
    folder = DOCS / "held-out"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.png"):
        stale.unlink()
    for one in losers:
        sheet = Image.open(
            io.BytesIO(contact_sheet(one.manifest, lambda sha256: get_blob(store, sha256), max_width=1200))
        )
        # 128 colours: a third of the bytes, and no reader sees it on pictures of 64 pixels.
        sheet.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(folder / f"{one.name}.png", optimize=True)
        lines += [
            "",
            f"### {one.name}",
            "",
            one.manifest.decision.explanation,
            "",
            f"![{one.name}](held-out/{one.name}.png)",
        ]
    path = DOCS / "held-out.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="names of concepts; no table is written then")
    wanted = parser.parse_args().only
    logging.basicConfig(level=logging.WARNING)
    settings = Settings(home=WORK, allowed_roots=(ROOT, MINIATURE))
    store = open_store(settings)
    specs = [item.spec for item in read_batch(str(CONCEPTS), "", settings) if item.spec]
    specs = [spec for spec in specs if not wanted or spec.name in wanted]
    results = []
    for number, concept in enumerate(specs, 1):
        began = time.monotonic()
        result = measure(concept, settings, store)
        results.append(result)
        told = result.manifest.report
        print(
            f"{number}/{len(specs)} {result.name}: step {result.manifest.decision.step}, gain {told.gain.value:+.3f}, "
            f"score {told.score:.3f}, last {result.last_score:.3f}, {time.monotonic() - began:.0f} s",
            flush=True,
        )
    if not wanted:
        print(write_table(results, store))


if __name__ == "__main__":
    main()
