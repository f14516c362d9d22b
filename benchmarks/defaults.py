"""Which learning rate, steps, vectors and sampler steps? Measured on half of the held-out subjects, told of the other.

    python benchmarks/defaults.py       # about 40 minutes on two idle cores; resumable

Every arm (a rate and a number of vectors) trains the first half of the subjects in one pack, far beyond any budget. At
every checkpoint twelve pictures a subject are drawn, and the reader of parts says what is there: the share of the
subject's parts in pictures for plain prompts, the share of what edit prompts ask for in pictures for those, and the
harmonic mean of both, the truth. Neither CLIP has a say. Chosen is the cheapest setting (fewest steps, then fewest
vectors) within one standard error of the best, as the product's rule takes the earliest step; the error is that of the
difference to the best over subjects. The other half, which had no say, tells how good the chosen setting and those
beside it are.

Then the guidance that the chosen setting's words are drawn with, read the same way on both halves; and how many sampler
steps a judge needs: CLIP-I of the same words at few steps, ranked against 50.

Writes docs/benchmarks/defaults.md; what was read lies in work/defaults until it is removed.
"""

import argparse
import json
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from benchmarks.judging_truth import harmonic, spearman
from miniature.measure import EDITS, PLAIN, job, obeyed, parts_right, real
from miniature.reader import Reader, read_reader
from ti_core.backbone.folder import MINIATURE, find_base, find_judge
from ti_core.backbone.sd1 import ENCODER, StableDiffusion1
from ti_core.choosing.statistics import t_quantile
from ti_core.config import DEFAULTS, TrainingConfig
from ti_core.judging.clip import Clip
from ti_core.sampling.sampler import Sampling, sample
from ti_core.sampling.words import encode
from ti_core.training.events import CheckpointReady
from ti_core.training.trainer import train

ROOT = Path(__file__).resolve().parent.parent
CONCEPTS = ROOT / "examples" / "concepts"
WORK = ROOT / "work" / "defaults"
DOCS = ROOT / "docs" / "benchmarks"
STEPS, EVERY = 120, 20
BATCH, SEED = 8, 3
RATES = (2e-3, 5e-3, 1e-2)
VECTORS = (2,)
"""Beside one, at the best rate of one."""
DRAWN = 8_000
"""Seed of the pictures."""
_SHIPPED = DEFAULTS["miniature"]["evaluation"]
SHIPPED = Sampling(_SHIPPED["sampler"], _SHIPPED["sampler_steps"], _SHIPPED["guidance"], 64)
GUIDANCES = (2.0, 3.0, 4.0, 6.0)
FEWER, WHOLE = (4, 8, 16), 50


class Setting(NamedTuple):
    """What can be chosen."""

    rate: float
    vectors: int
    steps: int

    @property
    def cost(self) -> tuple[int, int]:
        """What is dear, in this order."""
        return self.steps, self.vectors


class Seen(NamedTuple):
    """What the reader saw of one word: shares of parts and of what prompts asked for."""

    parts: float
    obeyed: float

    @property
    def truth(self) -> float:
        """Harmonic mean of both shares."""
        return harmonic(self.parts, self.obeyed)


Found = Mapping[Setting, Mapping[str, Seen]]
"""Settings → subjects → what was seen."""


class Bench:
    """The miniature, its reader and the truth about its subjects."""

    def __init__(self, folder: Path) -> None:
        self.model = StableDiffusion1(find_base(str(folder / "mini-sd")), torch.device("cpu"))
        self.reader: Reader
        self.reader, _ = read_reader(folder / "reader")
        self.judge = Clip(find_judge(str(folder / "mini-clip"), "miniature"), torch.device("cpu"))
        self.truth = json.loads((CONCEPTS.parent / "truth.json").read_text())

    def draw(
        self, name: str, vectors: NDArray[np.float32], prompts: Sequence[str], how: Sampling = SHIPPED
    ) -> NDArray[np.uint8]:
        """One picture for each prompt with a word, [P, H, W, 3]."""
        word = f"<{name}>"
        told = encode(self.model, [one.format(word) for one in prompts], {word: {ENCODER: vectors}})
        return sample(self.model, told, [DRAWN] * len(prompts), how)

    def see(self, name: str, vectors: NDArray[np.float32], how: Sampling = SHIPPED) -> Seen:
        """What the reader sees in pictures of a word."""
        made = self.draw(name, vectors, (*PLAIN, *EDITS), how)
        seen = self.reader.read(torch.from_numpy(made).permute(0, 3, 1, 2).float() / 127.5 - 1)
        return Seen(
            parts_right(seen[: len(PLAIN)], **self.truth[name]), obeyed(seen[len(PLAIN) :], list(EDITS.values()))
        )

    def arm(self, names: Sequence[str], rate: float, vectors: int, half: str) -> dict[Setting, dict[str, Seen]]:
        """Train subjects at one rate and number of vectors, and read every checkpoint. What was read is kept."""
        path = WORK / f"{half}-{rate:g}-{vectors}.json"
        if not path.is_file():
            config = TrainingConfig(
                steps=STEPS, batch_size=BATCH, learning_rate=rate, checkpoint_every=EVERY, resolution=64, seed=SEED
            )
            jobs = [job(self.model, CONCEPTS / name, config, vectors) for name in names]
            read: dict[str, dict[str, Seen]] = {}
            words: dict[str, NDArray[np.float32]] = {}
            for event in train(jobs, self.model, slots=len(jobs)):
                if isinstance(event, CheckpointReady):
                    word = event.state.vectors[ENCODER].numpy()
                    words[f"{event.key}/{event.step}"] = word
                    read.setdefault(str(event.step), {})[event.key] = self.see(event.key, word)
                    print(f"{half} {rate:g} {vectors}: {event.key} at step {event.step}", flush=True)
            save_file(words, path.with_suffix(".safetensors"))
            path.write_text(json.dumps(read))
        return {
            Setting(rate, vectors, int(step)): {name: Seen(*seen) for name, seen in of_step.items()}
            for step, of_step in json.loads(path.read_text()).items()
        }


def mean_truth(seen: Mapping[str, Seen]) -> float:
    """Mean truth over subjects."""
    return statistics.fmean(one.truth for one in seen.values())


def difference(a: Mapping[str, Seen], b: Mapping[str, Seen]) -> tuple[float, float]:
    """Mean over subjects of a's truth less b's, and its standard error."""
    gaps = [a[name].truth - b[name].truth for name in a]
    return statistics.fmean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5


def cheapest(found: Found) -> Setting:
    """The cheapest setting within one standard error of the best."""
    best = max(found, key=lambda one: mean_truth(found[one]))

    def as_good(one: Setting) -> bool:
        gap, error = difference(found[best], found[one])
        return gap <= error

    return min((one for one in found if as_good(one)), key=lambda one: (*one.cost, -mean_truth(found[one])))


def ranks(bench: Bench, names: Sequence[str], setting: Setting, half: str) -> list[str]:
    """A row for every number of sampler steps: mean CLIP-I to the real pictures and its rank correlation with
    that at 50 steps, over subjects and every other checkpoint."""
    words = load_file(WORK / f"{half}-{setting.rate:g}-{setting.vectors}.safetensors")
    steps = range(2 * EVERY, STEPS + 1, 2 * EVERY)
    likeness = {name: bench.judge.image_features(real(CONCEPTS / name)) for name in names}
    told: dict[int, list[float]] = {}
    for many in (*FEWER, WHOLE):
        told[many] = [
            float((bench.judge.image_features([Image.fromarray(one) for one in made]) @ likeness[name].T).mean())
            for name in names
            for step in steps
            for made in [bench.draw(name, words[f"{name}/{step}"], PLAIN, SHIPPED._replace(steps=many))]
        ]
        print(f"{many} sampler steps drawn", flush=True)
    return [
        f"| {many} | {statistics.fmean(values):.3f} | {spearman(values, told[WHOLE]):.3f} |"
        for many, values in told.items()
    ]


def guided(bench: Bench, names: Sequence[str], setting: Setting, half: str) -> list[str]:
    """A cell for every guidance: truth of the setting's words (parts, obeyed), mean over subjects."""
    words = load_file(WORK / f"{half}-{setting.rate:g}-{setting.vectors}.safetensors")
    cells = []
    for guidance in GUIDANCES:
        how = SHIPPED._replace(guidance=guidance)
        cells.append(cell([bench.see(name, words[f"{name}/{setting.steps}"], how) for name in names]))
        print(f"{half}, guidance {guidance:g}: {cells[-1]}", flush=True)
    return cells


def cell(seen: Collection[Seen]) -> str:
    """Mean truth over subjects (parts, obeyed)."""
    parts, told = (statistics.fmean(getattr(one, which) for one in seen) for which in Seen._fields)
    return f"**{statistics.fmean(one.truth for one in seen):.3f}** ({parts:.2f}, {told:.2f})"


def table(found: Found) -> list[str]:
    """Rows of rates and vectors, columns of steps: mean truth (parts, obeyed)."""
    steps = sorted({one.steps for one in found})
    lines = [f"| rate | vectors | {' | '.join(f'step {step}' for step in steps)} |", "|---" * (len(steps) + 2) + "|"]
    for rate, vectors in sorted({(one.rate, one.vectors) for one in found}, key=lambda one: one[::-1]):
        cells = [cell(found[Setting(rate, vectors, step)].values()) for step in steps]
        lines.append(f"| {rate:g} | {vectors} | {' | '.join(cells)} |")
    return lines


def page(
    first: Found, second: Found, chosen: Setting, guidances: Mapping[str, Sequence[str]], drawn: Sequence[str]
) -> str:
    """The page in Markdown: both halves, what was chosen, and what it is worth on the half that had no say."""
    now = DEFAULTS["miniature"]["training"]
    shipped = Setting(now["learning_rate"], 1, now["steps"])
    subjects = len(next(iter(first.values()))), len(next(iter(second.values())))
    lines = [
        "# Defaults of the miniature, measured", "",
        f"Made by `python benchmarks/defaults.py`: {subjects[0]} held-out subjects choose, {subjects[1]} others tell. Training of "
        f"{BATCH} samples a step; every checkpoint is read off {len(PLAIN)} plain and {len(EDITS)} edit pictures a subject by the "
        "reader of parts. In a cell: truth, the mean over subjects of the harmonic mean (share of parts, share of what the prompts asked for).",
        "", "## The half that chooses", "", *table(first), "",
        f"Cheapest within one standard error of the best: **{chosen.steps} steps at {chosen.rate:g}, "
        f"{chosen.vectors} vector{'s' * (chosen.vectors > 1)}**. "
        f"Shipped: {shipped.steps} steps at {shipped.rate:g}, one vector.",
        "", "## The half that had no say", "", *table(second), "",
    ]  # fmt: skip
    reach = t_quantile(0.975, subjects[1] - 1)
    best = max(second, key=lambda one: mean_truth(second[one]))
    for name, one in (("best of this table", best), ("shipped", shipped)):
        gap, error = difference(second[chosen], second[one])
        lines.append(
            f"- Chosen − {name} ({one.steps} steps at {one.rate:g}, {one.vectors}): {gap:+.3f} "
            f"({gap - reach * error:+.3f} to {gap + reach * error:+.3f}, 95% over subjects)"
        )
    lines += [
        "", "## Guidance", "", f"The words of {chosen.steps} steps at {chosen.rate:g}.", "",
        f"| half | {' | '.join(f'{one:g}' for one in GUIDANCES)} |", "|---" * (len(GUIDANCES) + 1) + "|",
        *(f"| {half} | {' | '.join(cells)} |" for half, cells in guidances.items()),
        "", "## Sampler steps", "",
        f"The same words at {2 * EVERY}, {4 * EVERY}, … steps of training, drawn in few and in {WHOLE} DDIM steps for the plain prompts: does CLIP-I "
        "rank them alike?", "",
        f"| sampler steps | mean CLIP-I | rank correlation with {WHOLE} |", "|---|---|---|", *drawn,
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run it."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if MINIATURE is None:
        raise SystemExit("The miniature's weights are not installed: pip install pseudoword-miniature.")
    WORK.mkdir(parents=True, exist_ok=True)
    bench = Bench(MINIATURE)
    names = sorted(bench.truth)
    halves = {"first": names[::2], "second": names[1::2]}
    first: dict[Setting, dict[str, Seen]] = {}
    for rate in RATES:
        first |= bench.arm(halves["first"], rate, 1, "first")
    best = max(first, key=lambda one: mean_truth(first[one])).rate
    for vectors in VECTORS:
        first |= bench.arm(halves["first"], best, vectors, "first")
    chosen = cheapest(first)
    now = DEFAULTS["miniature"]["training"]["learning_rate"]
    second: dict[Setting, dict[str, Seen]] = {}
    for rate, vectors in sorted({(chosen.rate, chosen.vectors), (now, 1)}):
        second |= bench.arm(halves["second"], rate, vectors, "second")
    guidances = {half: guided(bench, some, chosen, half) for half, some in halves.items()}
    drawn = ranks(bench, halves["first"], chosen, "first")
    path = DOCS / "defaults.md"
    path.write_text(page(first, second, chosen, guidances, drawn))
    print(path)


if __name__ == "__main__":
    main()
