"""What does judging say of runs that went wrong? An overfitted one, one on another concept's pictures, one that learned
nothing.

    python benchmarks/extremes.py            # about 5 minutes on two idle cores; resumable

- Overfitted: two vectors, four times the learning rate, three times the steps. It should start to look bad, and an
  earlier step be chosen.
- Swapped: the fox's checkpoints judged as if they were the zebra's, and the other way round. Rejected.
- Unlearned: a learning rate near zero. Rejected.

Writes docs/benchmarks/extremes.md, the overfitted run's contact sheet, and work/extremes/columns.png: the chosen and the
last step in two columns without a mark, for a reader who has seen nothing else; which is which lies beside it.
"""

import io
import json
import random
from pathlib import Path

from PIL import Image

from ti_core.choosing.selection import choose, report
from ti_core.config import EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.judging.rounds import Contest, judge_contests
from ti_core.judging.scoring import anchors, judge
from ti_core.planning.batch import read_batch
from ti_core.planning.plan import make_plan
from ti_core.publishing.assembly import assemble
from ti_core.records import Anchors, Checkpoint, Decision, Manifest, Plan, PreparedSet, Scores
from ti_core.reporting.report import contact_sheet
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store
from ti_core.training.running import prepare, run_training

ROOT = Path(__file__).resolve().parent.parent
CONCEPTS = ROOT / "examples" / "concepts"
WORK = ROOT / "work" / "extremes"
DOCS = ROOT / "docs" / "benchmarks"
OVERFITTED = "penguin"
HARD = TrainingConfig(steps=300, checkpoint_every=20, learning_rate=2e-2)
NOTHING = TrainingConfig(learning_rate=1e-9)


def planned(name: str, training: TrainingConfig, settings: Settings, store: Store, vectors: int = 1) -> Plan:
    """The run of one held-out concept."""
    (concept,) = [item.spec for item in read_batch(str(CONCEPTS), "", settings) if item.spec and item.name == name]
    concept = concept.model_copy(update={"vectors": vectors})
    return make_plan(concept, training, EvaluationConfig(), SelectionRule(), "miniature", settings, store)


def trained(plan: Plan, prepared: PreparedSet, settings: Settings, store: Store) -> tuple[Checkpoint, ...]:
    """Its checkpoints."""
    (made,) = run_training([(plan, prepared)], Packing(), settings, store, lambda _: None, print)
    if made.reason:
        raise SystemExit(made.reason)
    return made.checkpoints


def decided(
    plan: Plan, prepared: PreparedSet, checkpoints: tuple[Checkpoint, ...], settings: Settings, store: Store
) -> tuple[Contest, Decision]:
    """All checkpoints judged on the choosing set, and the choice."""
    (contest,) = judge_contests([Contest(plan=plan, prepared=prepared, checkpoints=checkpoints)], settings, store)
    decision = choose(list(contest.scores.values()), _ends(contest, settings, store), plan.rule)
    print(f"{plan.concept.name}: {decision.explanation}", flush=True)
    return contest, decision


def manifest_of(contest: Contest, decision: Decision, settings: Settings, store: Store) -> Manifest:
    """The judged run with its report."""
    plan, prepared = contest.plan, contest.prepared
    vectors = next(one.vectors for one in contest.checkpoints if one.step == decision.step)
    word, chosen = (
        judge(plan, prepared, step, blob, "report", settings, store)
        for step, blob in ((0, None), (decision.step, vectors))
    )
    told = report(chosen, anchors(plan, prepared, word, settings, store), plan.rule)
    ends = _ends(contest, settings, store)
    return assemble(plan, prepared, contest.checkpoints, ends, tuple(contest.scores.values()), decision, told, store)


def _ends(contest: Contest, settings: Settings, store: Store) -> Anchors:
    """The ends of the scales on the choosing set; the class word's scores are in the store."""
    plan, prepared = contest.plan, contest.prepared
    return anchors(plan, prepared, judge(plan, prepared, 0, None, "select", settings, store), settings, store)


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

    plan = planned(OVERFITTED, HARD, settings, store, vectors=2)
    prepared = prepare(plan, settings, store)
    contest, decision = decided(plan, prepared, trained(plan, prepared, settings, store), settings, store)
    manifest = manifest_of(contest, decision, settings, store)
    sheet = Image.open(io.BytesIO(contact_sheet(manifest, lambda sha256: get_blob(store, sha256), max_width=1200)))
    DOCS.mkdir(parents=True, exist_ok=True)
    sheet.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(DOCS / "overfitted.png", optimize=True)
    columns(contest.scores[decision.step], contest.scores[max(contest.scores)], store)
    lines += [
        f"## Overfitted: {OVERFITTED}, two vectors, learning rate {HARD.learning_rate:g}, {HARD.steps} steps", "",
        f"Chosen: step **{decision.step}** of {HARD.steps}; starts to look bad: step **{decision.looks_bad_from}**; "
        f"{'accepted' if decision.accepted else 'rejected'}. Reported score {manifest.report.score:.3f}.", "",
        decision.explanation, "", "![Contact sheet of the overfitted run](overfitted.png)", "",
    ]  # fmt: skip

    pair = {name: planned(name, TrainingConfig(), settings, store) for name in ("fox", "zebra")}
    sets = {name: prepare(one, settings, store) for name, one in pair.items()}
    made = {name: trained(one, sets[name], settings, store) for name, one in pair.items()}
    lines += ["## Swapped: one concept's vectors, another one's pictures", ""]
    for own, other in (("fox", "zebra"), ("zebra", "fox")):
        _, right = decided(pair[own], sets[own], made[own], settings, store)
        # Kept scores go by vectors and protocol, so the swapped ones are judged anew.
        _, wrong = decided(pair[other], sets[other], made[own], settings, store)
        lines += [
            f"- {own}'s vectors on {own}'s pictures: {'accepted' if right.accepted else 'rejected'}, CLIP-I "
            f"{right.gain.value:+.3f} over the class word. On {other}'s pictures: "
            f"**{'accepted' if wrong.accepted else 'rejected'}**, {wrong.gain.value:+.3f} ({wrong.gain.low:+.3f} to "
            f"{wrong.gain.high:+.3f}).",
            f"  > {wrong.explanation}",
        ]

    plan = planned("crown", NOTHING, settings, store)
    prepared = prepare(plan, settings, store)
    _, decision = decided(plan, prepared, trained(plan, prepared, settings, store), settings, store)
    lines += [
        "", f"## Unlearned: crown, learning rate {NOTHING.learning_rate:g}", "",
        f"**{'Accepted' if decision.accepted else 'Rejected'}**, CLIP-I {decision.gain.value:+.4f} over the class word.", "",
        f"> {decision.explanation}", "",
    ]  # fmt: skip
    (DOCS / "extremes.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
