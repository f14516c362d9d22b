"""Stage 10, the figures: every row of the model card's table, for any miniature, under any judge.

    python -m miniature.measure                                          # what `export` wrote
    python -m miniature.measure --miniature FOLDER --concepts FOLDER --name old

FOLDER holds `mini-sd` and `mini-clip`; the judge is the folder's own CLIP unless another is named, so that two
diffusion models can stand under one judge. Figures go to `figures-<name>.json` part by part; what is there is not
measured again. Where `truth.json` lies beside the concepts, the reader of parts says what was drawn; the outside eye
looks at everything. Pictures for captions of seen subjects, and of inverted held-out ones, go to `sheet-<name>/`.
Inversion goes through the project's own trainer, on pictures that no stage has trained on.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from miniature.captions import DRAWN, described, with_article
from miniature.common import DEVICE, SEED, WORK, arguments, log
from miniature.compose import NAMES, UNSEEN_BACKGROUND, Placed
from miniature.eye import Eye, centres, found, found_real
from miniature.reader import Reader, read_reader
from miniature.vae import psnr
from ti_core.backbone.folder import find_base, find_judge
from ti_core.backbone.sd1 import ENCODER, StableDiffusion1
from ti_core.config import TrainingConfig
from ti_core.images.preprocess import square
from ti_core.judging.clip import Clip
from ti_core.planning.prompts import OBJECT_TEMPLATES, templates
from ti_core.sampling.sampler import Sampling, sample
from ti_core.sampling.words import encode
from ti_core.training.events import CheckpointReady, ConceptJob
from ti_core.training.trainer import train

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "concepts"
SIDE, STEPS, GUIDANCE = 64, 20, 4.0
"""Pictures for captions: DDIM steps and guidance. Inversion uses the package's defaults, 8 steps and 4.0."""
PLAIN = OBJECT_TEMPLATES[:4]
EDITS = {
    "a {} on a purple background": {"background": "purple"},
    "a {} on an orange background": {"background": "orange"},
    "a small {} on a white background": {"background": "white", "size": "small"},
    "a photo of a {} on a brown background": {"background": "brown"},
    "a {} on a cyan background": {"background": "cyan"},
    f"{DRAWN['pencil']} of a {{}}": {"style": "pencil"},
    f"{DRAWN['neon']} of a {{}}": {"style": "neon"},
    f"{DRAWN['gray']} of a {{}}": {"style": "gray"},
}
"""Prompts and what a picture for them must show. No example picture has one of these backgrounds or styles."""
SEEDS = tuple(range(5000, 5003))
"""Seeds of the inversion rows: 12 plain pictures and 24 edits a concept."""
INVERSION = TrainingConfig(steps=100, batch_size=8, learning_rate=5e-3, checkpoint_every=100, resolution=SIDE, seed=11)
SHEET = 64
OTHERS = 8


@dataclass
class Bench:
    """One miniature on the bench: a judge, an outside eye, and a reader of parts where it can read."""

    model: StableDiffusion1
    judge: Clip
    eye: Eye
    folders: list[Path]
    sheets: Path
    reader: Reader | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    others: list[list[Image.Image]] = field(default_factory=list)
    """Pictures of further held-out subjects, among which judge and eye have to find the right one as well."""
    inverted: int = 16
    """Held-out concepts that go through the trainer."""

    def read(self, pictures: Sequence[Image.Image]) -> list[dict[str, str]]:
        """What the reader sees."""
        assert self.reader is not None  # noqa: S101  # for the type checker: who has none is not asked
        pixels = np.stack([np.asarray(one.convert("RGB")) for one in pictures])
        return self.reader.read(torch.from_numpy(pixels).permute(0, 3, 1, 2).float().to(DEVICE) / 127.5 - 1)


def real(folder: Path) -> list[Image.Image]:
    """A concept's pictures at the miniature's size."""
    return [square(path.read_bytes(), SIDE) for path in sorted(folder.glob("*.png"))]


def others(known: Sequence[dict[str, object]]) -> list[list[Image.Image]]:
    """The placements of `OTHERS` held-out subjects that are not among the `known`, on plain backgrounds."""
    placed, random = Placed(held_out=True), np.random.default_rng(SEED + 2)
    taken = [(one["kind"], one["parts"]) for one in known]
    free = [n for n, one in enumerate(placed.subjects) if one.held_out and (one.kind, one.parts) not in taken]
    made = []
    for number in random.choice(free, OTHERS, replace=False):
        pictures, _ = placed.batch(np.flatnonzero(placed.subject == number), random, styled=0.0)
        pixels = ((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        made.append([Image.fromarray(one) for one in pixels])
    return made


def parts_right(seen: Sequence[dict[str, str]], kind: str, parts: dict[str, str]) -> float:
    """Share of a subject's parts, its kind among them, that are seen in pictures of it; mean over pictures."""
    wanted = {"kind": kind} | {f"{kind}/{part}": value for part, value in parts.items()}
    return float(np.mean([np.mean([one.get(name) == value for name, value in wanted.items()]) for one in seen]))


def obeyed(seen: Sequence[dict[str, str]], wanted: Sequence[dict[str, str]]) -> float:
    """Share of the attributes a prompt asks for that its picture shows; mean over pictures."""
    return float(np.mean([np.mean([s[k] == v for k, v in w.items()]) for s, w in zip(seen, wanted, strict=True)]))


def vae_row(bench: Bench) -> dict[str, float]:
    """PSNR of held-out scenes."""
    return {"vae_psnr": psnr(bench.model.vae)}


def real_rows(bench: Bench) -> dict[str, float]:
    """How far judge, eye and reader go: the real pictures of the concepts, each left out of its own mean."""
    shown = [real(folder) for folder in bench.folders] + bench.others
    told = {
        "concepts": len(shown),
        "judge_real": found_real([bench.judge.image_features(pictures) for pictures in shown]),
        "eye_real": found_real([bench.eye.features(pictures) for pictures in shown]),
    }
    if bench.reader:
        truth = truths(bench.folders)
        told["reader_real"] = float(
            np.mean([parts_right(bench.read(some), **one) for some, one in zip(shown, truth, strict=False)])
        )
        told |= {
            "reader_background": bench.accuracy["background"],
            "reader_style": bench.accuracy["style"],
            "reader_size": bench.accuracy["size"],
            "reader_parts": float(np.mean([v for name, v in bench.accuracy.items() if "/" in name])),
        }
    return told


def truths(folders: Sequence[Path]) -> list[dict[str, object]]:
    """{kind, parts} of every concept."""
    told = json.loads((folders[0].parent.parent / "truth.json").read_text())
    return [told[folder.name] for folder in folders]


def generate(bench: Bench, prompts: list[str], seeds: list[int], steps: int) -> list[Image.Image]:
    """One picture per prompt and seed."""
    told = encode(bench.model, prompts, {})
    return [Image.fromarray(one) for one in sample(bench.model, told, seeds, Sampling("ddim", steps, GUIDANCE, SIDE))]


def seen_rows(bench: Bench) -> dict[str, float]:
    """Are pictures for captions of seen subjects what they say? Writes `seen.png`, and `seen.json`: the captions."""
    if not bench.reader:
        return {}
    placed, random = Placed(), np.random.default_rng(SEED + 1)
    numbers = random.choice(len(placed.subjects), min(4 * SHEET, len(placed.subjects)), replace=False)
    subjects = [placed.subjects[n] for n in numbers if not placed.subjects[n].held_out][:SHEET]
    grounds = [str(random.choice([name for name in NAMES if name != one.colour])) for one in subjects]
    prompts = [
        f"a photo of {with_article(described(one, random, 1.0), 'a')} on {with_article(ground, 'a')} background"
        for one, ground in zip(subjects, grounds, strict=True)
    ]
    pictures = generate(bench, prompts, list(range(len(prompts))), STEPS)
    bench.sheets.mkdir(parents=True, exist_ok=True)
    grid(pictures, across=8).save(bench.sheets / "seen.png", optimize=True)
    (bench.sheets / "seen.json").write_text(json.dumps(prompts, indent=1) + "\n")
    seen = bench.read(pictures)
    right = [parts_right([s], one.kind, one.parts) for s, one in zip(seen, subjects, strict=True)]
    return {
        "seen_parts": float(np.mean(right)),
        "seen_background": float(np.mean([s["background"] == g for s, g in zip(seen, grounds, strict=True)])),
    }


def job(model: StableDiffusion1, folder: Path, config: TrainingConfig = INVERSION, vectors: int = 1) -> ConceptJob:
    """A held-out concept, ready for the project's trainer."""
    told = tomllib.loads((folder / "concept.toml").read_text())
    pictures = torch.from_numpy(np.stack([np.asarray(one) for one in real(folder)]))
    plain = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    mean, std = model.encode_pictures(torch.cat([plain, plain.flip(-1)]))
    name = folder.name
    return ConceptJob(name, name, f"<{name}>", told["class_word"], vectors, templates("object"), config, mean, std)


def inversion_rows(bench: Bench) -> dict[str, float]:
    """Held-out concepts, one vector each, one fixed setting: are the pictures of the word the thing?

    Of the word's pictures, the class word's and (`swapped`) another word's: the share whose nearest mean of real
    pictures is the right one of all concepts, for judge and outside eye; the share of parts that the reader
    sees; whether edit prompts are obeyed. Writes `inversion.png`: three real pictures of each concept, two of its
    class word, six of its word: two plain ones, then purple, small on white, pencil, neon.
    """
    wanted = list(range(0, len(bench.folders), 2))[: bench.inverted]
    shown = [real(folder) for folder in bench.folders] + bench.others
    jobs = [job(bench.model, bench.folders[number]) for number in wanted]
    vectors = {
        event.key: event.state.vectors[ENCODER].numpy()
        for event in train(jobs, bench.model, slots=4)
        if isinstance(event, CheckpointReady)
    }

    def make(text: str, words: dict[str, dict[str, NDArray[np.float32]]], prompts: Sequence[str]) -> list[Image.Image]:
        told = encode(bench.model, [prompt.format(text) for prompt in prompts for _ in SEEDS], words)
        made = sample(bench.model, told, list(SEEDS) * len(prompts), Sampling("ddim", 8, GUIDANCE, SIDE))
        return [Image.fromarray(one) for one in made]

    word = [{one.placeholder: {ENCODER: vectors[one.name]}} for one in jobs]
    of_words = [make(one.placeholder, w, PLAIN) for one, w in zip(jobs, word, strict=True)]
    edited = [make(one.placeholder, w, list(EDITS)) for one, w in zip(jobs, word, strict=True)]
    of_classes = {phrase: make(phrase, {}, PLAIN) for phrase in sorted({one.start_phrase for one in jobs})}
    plain = [of_classes[one.start_phrase] for one in jobs]
    many = len(SEEDS)
    rows = [
        [*shown[n][:3], *c[:: many * 2][:2], *w[:: many * 2][:2], *(e[many * i] for i in (0, 2, 5, 6))]
        for n, c, w, e in zip(wanted, plain, of_words, edited, strict=True)
    ]
    bench.sheets.mkdir(parents=True, exist_ok=True)
    grid([picture for row in rows for picture in row], across=22).save(bench.sheets / "inversion.png", optimize=True)
    told = {}
    for name, look in (("judge", bench.judge.image_features), ("eye", bench.eye.features)):
        among = centres([look(pictures) for pictures in shown])
        for which, pictures in (("word", of_words), ("class_word", plain)):
            told[f"{name}_{which}"] = float(
                np.mean([found(look(some), among, n) for some, n in zip(pictures, wanted, strict=True)])
            )
    if bench.reader:
        truth = truths([bench.folders[n] for n in wanted])
        for which, pictures in (("word", of_words), ("class_word", plain), ("swapped", [*of_words[1:], of_words[0]])):
            told[f"{which}_parts"] = float(
                np.mean([parts_right(bench.read(some), **one) for some, one in zip(pictures, truth, strict=True)])
            )
        asked = [w for w in EDITS.values() for _ in SEEDS]
        told["word_obeyed"] = float(np.mean([obeyed(bench.read(some), asked) for some in edited]))
        new = [number for number, one in enumerate(asked) if one.get("background") == UNSEEN_BACKGROUND]
        told["word_unseen_background"] = float(
            np.mean([obeyed(bench.read([some[n] for n in new]), [asked[n] for n in new]) for some in edited])
        )
        classes = {phrase: make(phrase, {}, list(EDITS)) for phrase in of_classes}
        told["class_word_obeyed"] = float(np.mean([obeyed(bench.read(some), asked) for some in classes.values()]))
    return told


def grid(pictures: list[Image.Image], across: int, side: int = 2 * SIDE) -> Image.Image:
    """Pictures row by row, `across` in a row, each scaled to `side` pixels with a white edge."""
    sheet = Image.new("RGB", (across * (side + 8), -(-len(pictures) // across) * (side + 8)), "white")
    for number, picture in enumerate(pictures):
        place = (number % across * (side + 8) + 4, number // across * (side + 8) + 4)
        sheet.paste(picture.resize((side, side), Image.Resampling.BICUBIC), place)
    # 128 colours: a third of the bytes, and no reader sees it.
    return sheet.convert("P", palette=Image.Palette.ADAPTIVE, colors=128)


PARTS: tuple[Callable[[Bench], dict[str, float]], ...] = (vae_row, real_rows, seen_rows, inversion_rows)


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--miniature", type=Path, default=WORK / "export")
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--concepts", type=Path, default=EXAMPLES)
    parser.add_argument("--name", default="new")
    parser.add_argument("--only", nargs="*", default=[])
    known, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    scale = arguments(__doc__ or "")
    judge = Clip(find_judge(str(known.judge or known.miniature / "mini-clip"), "miniature"), DEVICE)
    objects = [one for one in sorted(known.concepts.iterdir()) if '"object"' in (one / "concept.toml").read_text()]
    model = StableDiffusion1(find_base(str(known.miniature / "mini-sd")), DEVICE)
    bench = Bench(model, judge, Eye(), objects, WORK / f"sheet-{known.name}")
    if (known.concepts.parent / "truth.json").is_file():
        bench.reader, bench.accuracy = read_reader()
        bench.others = others(truths(objects))
    bench.inverted = max(2, round(16 * min(scale, 1.0)))
    path = WORK / f"figures-{known.name}.json"
    figures = json.loads(path.read_text()) if path.is_file() else {}
    for part in PARTS:
        if part.__name__ in figures or (known.only and part.__name__ not in known.only):
            continue
        figures[part.__name__] = part(bench)
        path.write_text(json.dumps(figures, indent=1))
        log.info("%s: %s", known.name, figures[part.__name__])


if __name__ == "__main__":
    main()
