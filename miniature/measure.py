"""Stage 9, the figures: every row of the model card's table, for any miniature, under any judge.

    python -m miniature.measure                                          # what `export` wrote
    python -m miniature.measure --miniature FOLDER --judge CLIP --name old

FOLDER holds `mini-sd` and `mini-clip`; the judge is the folder's own CLIP unless another is named, so that two
diffusion models can stand under one judge. Figures go to `figures-<name>.json` part by part; what is there is not
measured again. Pictures for captions of seen concepts, and of inverted held-out ones, go to `sheet-<name>/`.
Inversion goes through the project's own trainer, on pictures that no stage has trained on.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from miniature.art import Drawing
from miniature.captions import with_article
from miniature.common import DEVICE, SEED, WORK, arguments, log
from miniature.compose import NAMES, Placed
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
SEEDS = tuple(range(5000, 5006))
"""Prompts and seeds of the inversion rows: 24 pictures a concept."""
INVERSION = TrainingConfig(steps=100, batch_size=8, learning_rate=5e-3, checkpoint_every=100, resolution=SIDE, seed=11)
SUBJECTS = ("animal", "food", "vehicle", "face", "plant", "object")
CAPTIONS, CHOICES, SHEET = 50, 5, 64


@dataclass
class Bench:
    """One miniature on the bench, with a judge."""

    model: StableDiffusion1
    own: Clip
    judge: Clip
    seen: list[Drawing]
    sheets: Path
    inverted: int = 16
    """Held-out concepts that go through the trainer."""


def uint8(pictures: torch.Tensor) -> list[Image.Image]:
    """[B, 3, H, W] in [−1, 1] to pictures."""
    return [Image.fromarray(one) for one in ((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()]


def of(concept: str) -> str:
    """The plain caption of a concept."""
    return f"a picture of {with_article(concept, 'a')}"


def concepts_of(placed: Placed) -> dict[str, dict[str, list[int]]]:
    """{concept: {style: rows}}."""
    found: dict[str, dict[str, list[int]]] = {}
    for row in placed.rows:
        drawing = placed.drawings[placed.drawing[row]]
        found.setdefault(drawing.concept, {}).setdefault(drawing.style, []).append(int(row))
    return dict(sorted(found.items()))


def vae_row(bench: Bench) -> dict[str, float]:
    """PSNR of held-out pictures."""
    return {"vae_psnr": psnr(bench.model.vae)}


def clip_rows(bench: Bench) -> dict[str, float]:
    """The miniature's own CLIP: pictures of held-out concepts in two styles, captions of seen ones, backgrounds."""
    clip, random = bench.own, np.random.default_rng(SEED)

    def look(placed: Placed, rows: list[int]) -> NDArray[np.float32]:
        return clip.image_features(uint8(placed.batch(np.array(rows), random)[0]))

    held, hits = Placed(held_out=True), []
    for _ in range(16):
        pairs = []
        for styles in concepts_of(held).values():
            one, two = random.permutation(sorted(styles))[:2]
            pairs.append((int(random.choice(styles[one])), int(random.choice(styles[two]))))
        first, second = (look(held, list(side)) for side in zip(*pairs, strict=True))
        hits.append(((first @ second.T).argmax(1) == np.arange(len(pairs))).mean())
    placed = Placed()
    by = concepts_of(placed)
    texts = np.concatenate([clip.text_features([of(one) for one in part]) for part in np.array_split(list(by), 8)])
    found = []
    for _ in range(2):
        rows = [int(random.choice(styles[str(random.choice(sorted(styles)))])) for styles in by.values()]
        gallery = np.concatenate([look(placed, list(part)) for part in np.array_split(rows, 8)])
        found.append(((texts @ gallery.T).argmax(1) == np.arange(len(rows))).mean())
    rows = random.choice(held.rows, 400)
    pictures, scenes = held.batch(rows, random)
    kept = [i for i, scene in enumerate(scenes) if not scene.second]
    grounds = np.stack([
        clip.text_features([f"{with_article(s, 'a')} on {with_article(c, 'a')} background" for s in SUBJECTS]).mean(0)
        for c in NAMES
    ])  # fmt: skip
    guess = (
        clip.image_features(uint8(pictures[kept])) @ (grounds / np.linalg.norm(grounds, axis=1, keepdims=True)).T
    ).argmax(1)
    right = np.mean([NAMES[g] == scenes[i].background for g, i in zip(guess, kept, strict=True)])
    return {
        "clip_held_out": float(np.mean(hits)), "clip_text": float(np.mean(found)), "clip_text_of": len(by),
        "clip_background": float(right),
    }  # fmt: skip


def generate(bench: Bench, prompts: list[str], seeds: list[int], steps: int) -> list[Image.Image]:
    """One picture per prompt and seed."""
    told = encode(bench.model, prompts, {})
    return [Image.fromarray(one) for one in sample(bench.model, told, seeds, Sampling("ddim", steps, GUIDANCE, SIDE))]


def caption_rows(bench: Bench) -> dict[str, float]:
    """Does the judge pick a picture's caption among 50? Two pictures a caption; shuffled ones say what chance is."""
    names = sorted({one.concept for one in bench.seen})
    chosen = [str(name) for name in np.random.default_rng(SEED + 1).choice(names, CAPTIONS, replace=False)]
    prompts = [of(name) for name in chosen] * 2
    pictures = bench.judge.image_features(generate(bench, prompts, list(range(len(prompts))), STEPS))
    scores = pictures @ bench.judge.text_features([of(name) for name in chosen]).T
    answer = np.tile(np.arange(CAPTIONS), 2)
    shuffled = np.roll(answer, 1)
    return {
        "caption_top1": float((scores.argmax(1) == answer).mean()),
        "caption_score": float(scores[np.arange(len(answer)), answer].mean()),
        "caption_score_shuffled": float(scores[np.arange(len(answer)), shuffled].mean()),
    }


def job(bench: Bench, folder: Path) -> ConceptJob:
    """A held-out concept, ready for the project's trainer."""
    told = tomllib.loads((folder / "concept.toml").read_text())
    pictures = np.stack([np.asarray(square(path.read_bytes(), SIDE)) for path in sorted(folder.glob("*.png"))])
    real = torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    mean, std = bench.model.encode_pictures(torch.cat([real, real.flip(-1)]))
    name, word = folder.name, f"<{folder.name}>"
    return ConceptJob(name, name, word, told["class_word"], 1, templates("object"), INVERSION, mean, std)


def inversion_rows(bench: Bench) -> dict[str, float]:
    """Held-out concepts, one vector each, one fixed setting: are the pictures of the word the thing?

    CLIP-I is the mean cosine to the concept's real pictures: of the word's pictures, of the class word's, of the word
    of another concept (`swapped`), and of the real pictures to one another, which is as far as a judge goes.
    R@1: nearest mean of real pictures among all 32 concepts. Writes `inversion.png`: three real pictures of each
    concept, two of its class word, four of its word.
    """
    folders = sorted(EXAMPLES.iterdir())
    shown = [[square(path.read_bytes(), SIDE) for path in sorted(folder.glob("*.png"))] for folder in folders]
    real = [bench.judge.image_features(pictures) for pictures in shown]
    centres = np.stack([features.mean(0) / np.linalg.norm(features.mean(0)) for features in real])
    wanted = list(range(0, len(folders), 2))[: bench.inverted]
    jobs = [job(bench, folders[number]) for number in wanted]
    vectors = {
        event.key: event.state.vectors[ENCODER].numpy()
        for event in train(jobs, bench.model, slots=4)
        if isinstance(event, CheckpointReady)
    }

    def make(text: str, words: dict[str, dict[str, NDArray[np.float32]]]) -> list[Image.Image]:
        told = encode(bench.model, [plain.format(text) for plain in PLAIN for _ in SEEDS], words)
        made = sample(bench.model, told, list(SEEDS) * len(PLAIN), Sampling("ddim", 8, GUIDANCE, SIDE))
        return [Image.fromarray(one) for one in made]

    of_words = [make(one.placeholder, {one.placeholder: {ENCODER: vectors[one.name]}}) for one in jobs]
    of_classes = {phrase: make(phrase, {}) for phrase in sorted({one.start_phrase for one in jobs})}
    rows = [
        [*shown[number][:3], *of_classes[one.start_phrase][:2], *made[:4]]
        for number, one, made in zip(wanted, jobs, of_words, strict=True)
    ]
    bench.sheets.mkdir(parents=True, exist_ok=True)
    grid([picture for row in rows for picture in row], across=18).save(bench.sheets / "inversion.png", optimize=True)
    words = [bench.judge.image_features(made) for made in of_words]
    classes = {phrase: bench.judge.image_features(made) for phrase, made in of_classes.items()}
    plain = [classes[one.start_phrase] for one in jobs]

    def top1(features: list[NDArray[np.float32]]) -> float:
        return float(np.mean([((f @ centres.T).argmax(1) == n).mean() for f, n in zip(features, wanted, strict=True)]))

    def clip_i(features: list[NDArray[np.float32]]) -> float:
        return float(np.mean([(f @ real[n].T).mean() for f, n in zip(features, wanted, strict=True)]))

    among = [(real[n] @ real[n].T)[~np.eye(len(real[n]), dtype=bool)].mean() for n in wanted]
    return {
        "real_clip_i": float(np.mean(among)),
        "inversion_top1": top1(words), "class_word_top1": top1(plain), "inversion_clip_i": clip_i(words),
        "swapped_clip_i": clip_i([*words[1:], words[0]]), "class_word_clip_i": clip_i(plain),
    }  # fmt: skip


def grid(pictures: list[Image.Image], across: int, side: int = 2 * SIDE) -> Image.Image:
    """Pictures row by row, `across` in a row, each scaled to `side` pixels with a white edge."""
    sheet = Image.new("RGB", (across * (side + 8), -(-len(pictures) // across) * (side + 8)), "white")
    for number, picture in enumerate(pictures):
        place = (number % across * (side + 8) + 4, number // across * (side + 8) + 4)
        sheet.paste(picture.resize((side, side), Image.Resampling.BICUBIC), place)
    return sheet


def write_sheet(bench: Bench) -> None:
    """64 pictures of seen captions without their captions; five choices each; the answers in a file of their own.

    Concepts come from distinct categories as far as they go, and so do the choices, all drawn by the seed.
    """
    random = np.random.default_rng(SEED + 2)
    names = sorted({one.concept for one in bench.seen if one.category not in {"face", "hand", "sign", "sky"}})
    chosen = [str(name) for name in random.choice(names, SHEET, replace=False)]
    grounds = [str(random.choice(NAMES)) for _ in chosen]
    prompts = [
        f"a photo of {with_article(n, 'a')} on {with_article(g, 'a')} background"
        for n, g in zip(chosen, grounds, strict=True)
    ]
    pictures = generate(bench, prompts, list(range(SHEET)), STEPS)
    choices = []
    for name in chosen:
        others = [str(one) for one in random.choice([one for one in names if one != name], CHOICES - 1, replace=False)]
        choices.append([str(one) for one in random.permutation([name, *others])])
    folder = bench.sheets
    folder.mkdir(parents=True, exist_ok=True)
    grid(pictures, across=8).save(folder / "seen.png", optimize=True)
    (folder / "seen-choices.json").write_text(json.dumps({str(n + 1): c for n, c in enumerate(choices)}, indent=1))
    (folder / "seen-answers.json").write_text(
        json.dumps(
            {str(n + 1): {"answer": c, "prompt": p} for n, (c, p) in enumerate(zip(chosen, prompts, strict=True))},
            indent=1,
        )
    )


PARTS: tuple[Callable[[Bench], dict[str, float]], ...] = (vae_row, clip_rows, caption_rows, inversion_rows)


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--miniature", type=Path, default=WORK / "export")
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--name", default="new")
    parser.add_argument("--only", nargs="*", default=[])
    known, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    scale = arguments(__doc__ or "")
    own = Clip(find_judge(str(known.miniature / "mini-clip"), "miniature"), DEVICE)
    judge = Clip(find_judge(str(known.judge), "miniature"), DEVICE) if known.judge else own
    seen = [one for one in Placed().drawings if not one.held_out]
    model = StableDiffusion1(find_base(str(known.miniature / "mini-sd")), DEVICE)
    bench = Bench(model, own, judge, seen, WORK / f"sheet-{known.name}")
    bench.inverted = max(2, round(16 * min(scale, 1.0)))
    path = WORK / f"figures-{known.name}.json"
    figures = json.loads(path.read_text()) if path.is_file() else {}
    for part in PARTS:
        if part.__name__ in figures or (known.only and part.__name__ not in known.only):
            continue
        figures[part.__name__] = part(bench)
        path.write_text(json.dumps(figures, indent=1))
        log.info("%s: %s", known.name, figures[part.__name__])
    if not known.only:
        write_sheet(bench)


if __name__ == "__main__":
    main()
