"""Compose the example concepts: 32 subjects and one style that the miniature never saw, four or five pictures each.

Every subject is a combination of parts that is held out from the miniature's training
(`miniature.art.Subject.held_out`) though each of its parts was seen elsewhere; the style is held out as a whole.
The pictures lie on six background colours only: the other six are for prompts that ask for something new.

    pip install robohash dicebear-core dicebear-styles resvg-py
    PYTHONPATH=. python examples/compose.py

It writes `concepts/<slug>/NN.png`, `concepts/<slug>/concept.toml`, `truth.json` (which parts each subject has) and the
picture table at the end of `CREDITS.md`. Every draw depends on the seed, the slug and nothing else, so with the same
versions of the libraries and packages (robohash 2.0, dicebear-core 10.7.0, dicebear-styles 10.6.0, resvg-py 0.5.0,
Pillow 13.0.0, numpy 2.4.6 made the files kept here) a second run gives the same bytes.

Shapes: H rows, W columns, 3 or 4 channels; alpha is premultiplied.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from miniature.art import COLOURS, KINDS, Subject, draw
from miniature.compose import UNSEEN_STYLE, restyle

SIZE = 160  # pixels of a picture's side
SEED = 7
GROUNDS = ("blue", "red", "green", "yellow", "black", "pink")
ART = {
    "robot": "`robohash` set 1, Zikri Kader", "cat": "`robohash` set 4, David Revoy",
    "monster": "`dicebear-styles` Critters, DiceBear", "plant": "`dicebear-styles` Sprouts, DiceBear",
    "block robot": "`dicebear-styles` Voxel Bot, DiceBear", "person": "`dicebear-styles` Personas, Draftbit",
}  # fmt: skip

SUBJECTS = {
    "purple-robot": Subject("robot", ("purple", "06", "06", "09", "08", "")),
    "green-robot": Subject("robot", ("green", "10", "05", "04", "10", "03")),
    "red-robot": Subject("robot", ("red", "06", "10", "04", "07", "03")),
    "white-robot": Subject("robot", ("white", "03", "06", "09", "07", "09")),
    "blue-robot": Subject("robot", ("blue", "10", "09", "07", "02", "03")),
    "yellow-robot": Subject("robot", ("yellow", "03", "05", "09", "10", "09")),
    "brown-cat": Subject("cat", ("7", "0", "2", "8", "13")),
    "orange-cat": Subject("cat", ("14", "0", "2", "8", "7")),
    "black-cat": Subject("cat", ("2", "4", "12", "0", "5")),
    "white-cat": Subject("cat", ("13", "2", "6", "8", "4")),
    "gray-cat": Subject("cat", ("11", "0", "4", "1", "6")),
    "red-cat": Subject("cat", ("4", "0", "10", "1", "14")),
    "yellow-cat": Subject("cat", ("9", "0", "10", "1", "5")),
    "blue-monster": Subject("monster", ("blue", "tower", "earsRound", "white", "angry", "teeth")),
    "yellow-monster": Subject("monster", ("yellow", "block", "spike", "blue", "happy", "teeth")),
    "orange-monster": Subject("monster", ("orange", "bell", "bobble", "blue", "round", "smile")),
    "red-monster": Subject("monster", ("red", "tower", "crown", "red", "round", "zigzag")),
    "cyan-monster": Subject("monster", ("cyan", "squat", "bobble", "green", "mono", "grin")),
    "brown-monster": Subject("monster", ("brown", "block", "earsRound", "white", "trio", "grin")),
    "brown-plant": Subject("plant", ("brown", "taper", "cactus", "round", "smile")),
    "pink-plant": Subject("plant", ("pink", "cylinder", "bush", "angry", "ooh")),
    "red-plant": Subject("plant", ("red", "cylinder", "flower yellow", "angry", "grin")),
    "blue-plant": Subject("plant", ("blue", "tub", "succulent", "round", "grin")),
    "purple-plant": Subject("plant", ("purple", "round", "palm", "sleepy", "grin")),
    "blue-block-robot": Subject("block robot", ("blue", "fin", "cyclops", "zigzag", "buttons", "red")),
    "green-block-robot": Subject("block robot", ("green", "dish", "plus", "zigzag", "heart", "cyan")),
    "orange-block-robot": Subject("block robot", ("orange", "twin", "happy", "smile", "screen", "yellow")),
    "white-block-robot": Subject("block robot", ("white", "antenna", "round", "zigzag", "heart", "red")),
    "blue-hair": Subject("person", ("dark", "bobCut", "blue", "glasses", "", "frown", "squared", "yellow")),
    "pigtails": Subject("person", ("pale", "pigtails", "black", "open", "", "bigSmile", "checkered", "blue")),
    "big-beard": Subject(
        "person", ("tan", "curlyHighTop", "black", "open", "beardMustache", "bigSmile", "squared", "blue")
    ),
    "yellow-curls": Subject("person", ("brown", "curly", "yellow", "open", "", "surprise", "squared", "blue")),
}  # fmt: skip
STYLE_OF = ("green-robot", "white-cat", "cyan-monster", "pink-plant", "pigtails")


def scene(subject: Subject, ground: str, scale: float, flip: bool, rng: np.random.Generator) -> np.ndarray:
    """A picture [SIZE, SIZE, 3] of a subject, `scale` of the side large, anywhere on a slightly changed colour."""
    side = round(SIZE * scale)
    thing = draw(subject, side).astype(np.float32) / 255
    if flip:
        thing = thing[:, ::-1]
    colour = np.clip(np.array(COLOURS[ground]) / 255 + rng.uniform(-0.04, 0.04, 3), 0, 1)
    canvas = np.tile(colour.astype(np.float32), (SIZE, SIZE, 1))
    top, left = (int(rng.integers(0, SIZE - side + 1)) for _ in range(2))
    place = canvas[top : top + side, left : left + side]
    place[...] = place * (1 - thing[..., 3:]) + thing[..., :3]
    return canvas


def pictures(slug: str) -> Iterator[np.ndarray]:
    """The four or five pictures of one subject: another background each, from 55 to 95 % of the side, some mirrored."""
    rng, subject = np.random.default_rng([SEED, *slug.encode()]), SUBJECTS[slug]
    hidden = (subject.colour, "green") if subject.kind == "plant" else (subject.colour,)
    grounds = rng.permutation([name for name in GROUNDS if name not in hidden])[:5]
    scales = rng.permutation([0.6, 0.72, 0.82, 0.88, 0.94]) + rng.uniform(-0.03, 0.01, 5)
    flips = rng.permutation([False, True, False, True, bool(rng.integers(2))])
    for ground, scale, flip in zip(grounds, scales, flips, strict=False):
        yield scene(subject, str(ground), float(scale), bool(flip), rng)


def styled() -> Iterator[np.ndarray]:
    """Five subjects in the held-out style."""
    rng = np.random.default_rng([SEED, *UNSEEN_STYLE.encode()])
    for slug in STYLE_OF:
        plain = scene(SUBJECTS[slug], "white", float(rng.uniform(0.75, 0.95)), bool(rng.integers(2)), rng)
        small = torch.from_numpy(plain).permute(2, 0, 1)[None]
        yield restyle(small, UNSEEN_STYLE)[0].permute(1, 2, 0).numpy()


def write(folder: Path, told: str, made: Iterator[np.ndarray]) -> None:
    """One concept's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "concept.toml").write_text(told)
    for number, picture in enumerate(made, start=1):
        Image.fromarray(np.round(picture * 255).astype(np.uint8)).save(folder / f"{number:02d}.png", optimize=True)


def main() -> None:
    """Write all of it."""
    parser = argparse.ArgumentParser(description="Compose the example concepts.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where concepts/ and CREDITS.md lie")
    out = parser.parse_args().out
    table = ["| pictures | art |", "|---|---|"]
    for slug, subject in SUBJECTS.items():
        assert subject.held_out, slug  # noqa: S101
        word = KINDS[subject.kind].class_word
        write(out / "concepts" / slug, f'class_word = "{word}"\nkind = "object"\n', pictures(slug))
        table.append(f"| `{slug}` | {ART[subject.kind]} |")
    write(out / "concepts" / UNSEEN_STYLE, 'class_word = "drawing"\nkind = "style"\n', styled())
    table.append(f"| `{UNSEEN_STYLE}` | one picture each of {', '.join(f'`{slug}`' for slug in STYLE_OF)}, as lines |")
    truth = {slug: {"kind": one.kind, "parts": one.parts} for slug, one in SUBJECTS.items()}
    (out / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
    credit = out / "CREDITS.md"
    heading = "## Pictures\n"
    kept = credit.read_text(encoding="utf-8").partition(heading)[0] if credit.exists() else ""
    credit.write_text(kept + heading + "\n" + "\n".join(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
