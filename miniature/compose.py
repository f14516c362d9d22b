"""Stage 2, the composition: place every drawing a few times on a canvas; backgrounds are drawn when a batch is made.

    python -m miniature.compose

Writes `placed.npy`, uint8 [N × VARIANTS, 4, 64, 64], premultiplied RGBA, and `placed.npz` (which drawing, how large,
where). `Placed.batch` puts backgrounds under them and says what is to be seen (`Scene`), from which `captions` makes
words.

Shapes: B pictures of a batch, 3 or 4 channels, H = W = 64 pixels; pictures are floats in [−1, 1].
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from miniature.art import COLOURS, Drawing, read_art
from miniature.common import DEVICE, SEED, SIDE, WORK, arguments, log

VARIANTS = 10
"""Placements per drawing; half of them plain (large, in the middle), since shapes are the hardest to learn."""

NAMES = tuple(COLOURS)
JITTER = 10.0
"""Standard deviation of a background's channels, of 255."""
PLACES = ("", "left", "right", "top", "bottom")


@dataclass(frozen=True)
class Scene:
    """What is to be seen in a picture. `second` is the lower colour of a two-colour background, or ""."""

    drawing: Drawing
    small: bool
    place: str
    background: str
    second: str


class Placed:
    """The placed drawings, all of them or only those to train on."""

    def __init__(self, held_out: bool = False) -> None:
        _, drawings = read_art()
        table = np.load(WORK / "placed.npz")
        wanted = np.array([one.held_out is held_out for one in drawings])[table["drawing"]]
        self.drawings = drawings
        self.rows = np.flatnonzero(wanted)
        """Rows of the file that may be used."""
        self.drawing, self.small, self.place = table["drawing"], table["small"], table["place"]
        self.pictures = torch.from_numpy(np.load(WORK / "placed.npy", mmap_mode="c")).to(DEVICE)

    def batch(
        self, rows: NDArray[np.int64], random: np.random.Generator, bare: float = 0.0
    ) -> tuple[Tensor, list[Scene]]:
        """Put backgrounds under the placed drawings `rows` of the file. Returns pictures [B, 3, H, W] and scenes.

        The share `bare` of the pictures gets mid-grey instead, whatever the scene says.
        """
        count = len(rows)
        rgba = self.pictures[torch.from_numpy(rows).to(DEVICE)].float() / 255
        pick = random.integers(len(NAMES), size=(count, 2))
        two = random.random(count) < 0.25
        split = random.integers(28, 50, size=count)
        jitter = random.normal(0, JITTER, size=(count, 2, 3))
        two &= pick[:, 0] != pick[:, 1]
        table = np.array(list(COLOURS.values()), np.float32)
        colours = torch.from_numpy(np.clip(table[pick] + jitter, 0, 255).astype(np.float32) / 255).to(DEVICE)
        lower = torch.from_numpy((np.arange(SIDE)[None] >= split[:, None]) & two[:, None]).to(DEVICE)
        ground = torch.where(lower[:, None, :, None], colours[:, 1, :, None, None], colours[:, 0, :, None, None])
        if bare:
            ground[torch.from_numpy(random.random(count) < bare).to(DEVICE)] = 0.5
        pictures = rgba[:, :3] + (1 - rgba[:, 3:]) * ground
        scenes = [
            Scene(
                self.drawings[self.drawing[row]], bool(self.small[row]), PLACES[self.place[row]],
                NAMES[pick[i, 0]], NAMES[pick[i, 1]] if two[i] else "",
            )
            for i, row in enumerate(rows)
        ]  # fmt: skip
        return pictures * 2 - 1, scenes


def place(rgba: NDArray[np.uint8], random: np.random.Generator, plain: bool) -> tuple[NDArray[np.uint8], bool, int]:
    """Scale, mirror and put one premultiplied drawing on an empty canvas; a plain one large and in the middle.

    Returns the canvas [4, H, W], whether the thing is small, and the index of its place.
    """
    small = not plain and random.random() < 0.35
    where = 0 if plain or random.random() < 0.3 else int(random.integers(1, len(PLACES)))
    side = round(SIDE * (random.uniform(0.34, 0.48) if small else random.uniform(0.66, 0.92)))
    if where and not small:
        side = round(SIDE * random.uniform(0.5, 0.62))
    planes = [
        Image.fromarray(rgba[..., c]).resize(
            (side, side), Image.Resampling.BOX if side <= 48 else Image.Resampling.LANCZOS
        )
        for c in range(4)
    ]
    thing = np.stack([np.asarray(p) for p in planes])
    thing[:3] = np.minimum(thing[:3], thing[3:])
    if random.random() < 0.5:
        thing = thing[..., ::-1]
    free = SIDE - side
    wiggle = max(1, free // 8)
    x, y = (int(np.clip(free // 2 + random.integers(-wiggle, wiggle + 1), 0, free)) for _ in range(2))
    edge = int(random.integers(1, 4))
    x = {1: edge, 2: free - edge}.get(where, x)
    y = {3: edge, 4: free - edge}.get(where, y)
    canvas = np.zeros((4, SIDE, SIDE), np.uint8)
    canvas[:, y : y + side, x : x + side] = thing
    return canvas, small, where


def main() -> None:
    """Run the stage."""
    arguments(__doc__ or "")
    if (WORK / "placed.npz").is_file():
        return
    art, _ = read_art()
    out = np.lib.format.open_memmap(WORK / "placed.npy", "w+", np.uint8, (len(art) * VARIANTS, 4, SIDE, SIDE))
    small, where = np.zeros(len(out), bool), np.zeros(len(out), np.int64)
    for row in range(len(out)):
        random = np.random.default_rng((SEED, row))
        out[row], small[row], where[row] = place(art[row // VARIANTS], random, plain=row % VARIANTS < VARIANTS // 2)
    out.flush()
    np.savez(WORK / "placed.npz", drawing=np.arange(len(out)) // VARIANTS, small=small, place=where)
    log.info("%d placed drawings", len(out))


if __name__ == "__main__":
    main()
