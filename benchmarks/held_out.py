"""Does the line work? Every held-out concept through ingest, training, judging and choosing, none left out.

    python benchmarks/held_out.py                   # all of examples/concepts; resumable
    python benchmarks/held_out.py --only disco moss # some of them; writes no table

Writes docs/held-out.md with the table, the summary, and the contact sheets of the losers beside it. All figures come
from the reporting set: prompts and seeds that had no say in the choice. States and scores lie in work/held-out until they
are removed. It calls the line without Prefect, and publishes nothing.
"""

import argparse
import io
import logging
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ti_core import formats
from ti_core.backbone.folder import MINIATURE
from ti_core.backbone.resident import resident
from ti_core.choosing.selection import balanced
from ti_core.choosing.statistics import t_quantile
from ti_core.config import ConceptSpec
from ti_core.judging.scoring import judge
from ti_core.line import Line
from ti_core.planning.batch import BatchItem, read_batch
from ti_core.records import Checkpoint, Document, Manifest, Scores
from ti_core.reporting.report import contact_sheet
from ti_core.sampling.sampler import Sampling, sample
from ti_core.sampling.words import encode
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store
from ti_core.works import Asked, Work

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
        """Whether the word was not accepted."""
        return self.manifest.verdict != "accepted"


def measure(concepts: Sequence[ConceptSpec], settings: Settings, store: Store) -> list[Result]:
    """Take concepts through the line in packs, and judge the last step of each on the reporting set, too."""
    line = Line(settings, store)
    items = [BatchItem(one.name, one) for one in concepts]
    results = []
    for work in line.study(items, Asked(base_model="miniature")):
        if work.error:
            raise SystemExit(f"{work.name}: {work.error}")
        plan, checkpoint = work.planned, work.checkpoints[-1]
        last = judge(plan, work.ready, checkpoint.step, checkpoint.vectors, "report", settings, store)
        results.append(Result(manifest=line.stations.manifest(work), last=last))
    return results


def drawn(
    work: Work,
    checkpoint: Checkpoint,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    store: Store,
    steps: int = 0,
) -> NDArray[np.uint8]:
    """Pictures [prompts × seeds, H, W, 3] in [0, 255], prompt by prompt, with the word as it was at a checkpoint; as the
    judges' are drawn, but for the sampler `steps` where they are given."""
    protocol, word = work.planned.protocol, work.planned.concept.placeholder
    vectors = formats.read_checkpoint(get_blob(store, checkpoint.vectors), work.name)
    how = Sampling(protocol.sampler, steps or protocol.sampler_steps, protocol.guidance, protocol.resolution)
    with resident(work.planned.base, settings.device, precision=settings.precision) as model:
        told = encode(model, [prompt.format(word) for prompt in prompts for _ in seeds], {word: vectors})
        return sample(model, told, list(seeds) * len(prompts), how)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean over concepts and its 95% Student-t interval."""
    mean, error = statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5
    half = t_quantile(0.975, len(values) - 1) * error
    return mean, mean - half, mean + half


def write_table(results: Sequence[Result], store: Store) -> Path:
    """Write docs/held-out.md and the losers' contact sheets."""
    gains = [one.manifest.report.gain.value for one in results]
    improved = sum(gain > 0 for gain in gains)
    accepted = [one for one in results if one.manifest.verdict == "accepted"]
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
            f"| {one.name} | {manifest.plan.concept.class_word} | {manifest.verdict} "
            f"| {manifest.decision.step} of {manifest.plan.training.steps} "
            f"| {told.anchors.class_word.clip_i.mean:.3f} → {told.chosen.clip_i.mean:.3f} "
            f"| {told.gain.value:+.3f} ({told.gain.low:+.3f} to {told.gain.high:+.3f}) | {told.chosen.clip_t.mean:.3f} "
            f"| {told.score:.3f} | {one.last_score:.3f} |"
        )
    lines += ["", "## The losers", ""]
    if not losers:
        lines.append("None: every concept gained over its class word and was accepted.")
    else:
        lines.append("Not accepted: rejected, or undecided, where the pictures are too few to tell.")
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
    results = measure(specs, settings, store)
    for number, result in enumerate(results, 1):
        told = result.manifest.report
        print(
            f"{number}/{len(specs)} {result.name}: step {result.manifest.decision.step}, gain {told.gain.value:+.3f}, "
            f"score {told.score:.3f}, last {result.last_score:.3f}"
        )
    if not wanted:
        print(write_table(results, store))


if __name__ == "__main__":
    main()
