"""What does judging say of runs that went wrong? An overfitted one, one on another concept's pictures, one that learned
nothing.

    python benchmarks/extremes.py            # about 5 minutes on two idle cores; resumable

- Overfitted: two vectors, four times the learning rate, three times the steps. It should start to look bad, and an
  earlier step be chosen.
- Swapped: disco's checkpoints judged as if they were grump's, and the other way round. Rejected.
- Unlearned: a learning rate near zero. Rejected.

Writes docs/benchmarks/extremes.md, the overfitted run's contact sheet, and work/extremes/columns.png: the chosen and the
last step in two columns without a mark, for a reader who has seen nothing else; which is which lies beside it.
"""

import io
import json
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ti_core.config import TrainingConfig
from ti_core.line import Line
from ti_core.planning.batch import BatchItem, read_batch
from ti_core.records import Scores
from ti_core.reporting.report import contact_sheet
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store
from ti_core.works import Asked, Work

ROOT = Path(__file__).resolve().parent.parent
CONCEPTS = ROOT / "examples" / "concepts"
WORK = ROOT / "work" / "extremes"
DOCS = ROOT / "docs" / "benchmarks"
OVERFITTED = "ember"
HARD = TrainingConfig(steps=300, checkpoint_every=20, learning_rate=2e-2)
NOTHING = TrainingConfig(learning_rate=1e-9)


def studied(name: str, training: TrainingConfig, line: Line, settings: Settings, vectors: int = 1) -> Work:
    """One held-out concept, trained and judged."""
    (item,) = [item for item in read_batch(str(CONCEPTS), "", settings) if item.name == name]
    spec = item.spec and item.spec.model_copy(update={"vectors": vectors})
    return told(line.study([BatchItem(name, spec, item.reason)], Asked(training, base_model="miniature")))


def told(works: Sequence[Work]) -> Work:
    """The one work of a list, whose choice is printed."""
    (work,) = works
    if work.error or work.decision is None:
        raise SystemExit(f"{work.name}: {work.error}")
    print(f"{work.name}: {work.decision.explanation}", flush=True)
    return work


def columns(chosen: Scores, last: Scores, store: Store) -> None:
    """Two unmarked columns of the same prompts, in an order that nobody knows beforehand."""
    sides = [("chosen", chosen), ("last", last)]
    random.SystemRandom().shuffle(sides)
    strips = [Image.open(io.BytesIO(get_blob(store, one.strip))).convert("RGB") for _, one in sides]
    count = len(chosen.clip_i.prompts) + len(chosen.clip_t.prompts)
    side, large = strips[0].height, 128
    sheet = Image.new("RGB", (2 * large + 3 * 16, count * (large + 8) + 8), "white")
    for column, strip in enumerate(strips):
        for row in range(count):
            tile = strip.crop((row * side, 0, (row + 1) * side, side)).resize((large, large), Image.Resampling.NEAREST)
            sheet.paste(tile, (16 + column * (large + 16), 8 + row * (large + 8)))
    sheet.save(WORK / "columns.png")
    told = {"left": sides[0][0], "right": sides[1][0], "prompts": [*chosen.clip_i.prompts, *chosen.clip_t.prompts]}
    (WORK / "columns.json").write_text(json.dumps(told, indent=1))


def main() -> None:
    """Run it."""
    settings = Settings(home=WORK, clip="", allowed_roots=(CONCEPTS,))
    store = open_store(settings)
    lines = [
        "# What judging says of runs that went wrong",
        "",
        "Made by `python benchmarks/extremes.py` on the miniature.",
        "",
    ]

    line = Line(settings, store)
    work = studied(OVERFITTED, HARD, line, settings, vectors=2)
    manifest = line.stations.manifest(work)
    decision = manifest.decision
    sheet = Image.open(io.BytesIO(contact_sheet(manifest, lambda sha256: get_blob(store, sha256), max_width=1200)))
    DOCS.mkdir(parents=True, exist_ok=True)
    sheet.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(DOCS / "overfitted.png", optimize=True)
    columns(work.scores[decision.step], work.scores[max(work.scores)], store)
    lines += [
        f"## Overfitted: {OVERFITTED}, two vectors, learning rate {HARD.learning_rate:g}, {HARD.steps} steps", "",
        f"Chosen: step **{decision.step}** of {HARD.steps}; starts to look bad: step **{decision.looks_bad_from}**; "
        f"{manifest.verdict}. Reported score {manifest.report.score:.3f}.", "",
        decision.explanation, "", "![Contact sheet of the overfitted run](overfitted.png)", "",
    ]  # fmt: skip

    pair = {name: studied(name, TrainingConfig(), line, settings) for name in ("disco", "grump")}
    lines += ["## Swapped: one concept's vectors, another one's pictures", ""]
    for own, other in (("disco", "grump"), ("grump", "disco")):
        right = line.stations.manifest(pair[own])
        # Kept scores go by vectors and protocol, so the swapped ones are judged anew.
        there = pair[other]
        swapped = Work(0, other, there.plan, there.prepared, checkpoints=pair[own].checkpoints)
        wrong = line.stations.manifest(told(line.judge([swapped])))
        lines += [
            f"- {own}'s vectors on {own}'s pictures: {right.verdict}, CLIP-I "
            f"{right.report.gain.value:+.3f} over the class word. On {other}'s pictures: "
            f"**{wrong.verdict}**, {wrong.report.gain.value:+.3f} ({wrong.report.gain.low:+.3f} to "
            f"{wrong.report.gain.high:+.3f}).",
            f"  > {wrong.report.reason}",
        ]

    unlearned = line.stations.manifest(studied("hook", NOTHING, line, settings))
    lines += [
        "", f"## Unlearned: hook, learning rate {NOTHING.learning_rate:g}", "",
        f"**{unlearned.verdict}**, CLIP-I {unlearned.report.gain.value:+.4f} over the class word.", "",
        f"> {unlearned.report.reason}", "",
    ]  # fmt: skip
    (DOCS / "extremes.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
