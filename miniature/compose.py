"""Stage 2, the composition: place every subject a few times on a canvas; backgrounds and styles come with the batch.

    python -m miniature.compose

Writes `placed.npy`, uint8 [N × VARIANTS, 4, 64, 64], premultiplied RGBA, and `placed.npz` (which subject, how large,
where). `Placed.batch` puts backgrounds under them, draws some as a whole in another style and says what is to be seen
(`Scene`), from which `captions` makes words.

Shapes: B pictures of a batch, 3 or 4 channels, H = W = 64 pixels; pictures are floats in [−1, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from miniature.art import COLOURS, Subject, read_art
from miniature.common import DEVICE, SEED, SIDE, WORK, arguments, log

VARIANTS = 4
"""Placements per subject; half of them plain (large, in the middle), since parts are small."""
NAMES = tuple(COLOURS)
JITTER = 8.0
"""Standard deviation of a background's channels, of 255."""
PLACES = ("", "left", "right", "top", "bottom")
LEFT, RIGHT = PLACES.index("left"), PLACES.index("right")
STYLES = ("", "pencil", "pixel", "gray", "neon")
"""Styles a picture may be drawn in; "" is the drawing's own."""
COLOURLESS = ("pencil", "gray")
"""Those that show no colours."""
PAPER = ("pencil", "gray", "neon")
"""Those that do not show which colour the background has."""
UNSEEN_STYLE = "blueprint"
"""A style that no training picture has."""
STYLED = 0.2
"""Share of pictures drawn in one of the other styles."""
UNSEEN_BACKGROUND = "cyan"
"""A colour that no background has in what the diffusion model learns from; subjects have it. An edit to measure."""


@dataclass(frozen=True)
class Scene:
    """What is to be seen in a picture. `background` is "" in the styles that do not show it; `beside` is a second
    subject, behind the first."""

    subject: Subject
    small: bool
    place: str
    background: str
    style: str
    beside: Subject | None = None


def restyle(pictures: Tensor, style: str) -> Tensor:
    """Pictures [B, 3, H, W] in [0, 1], drawn as `style` says. Lines are where a Sobel filter finds edges."""
    if style == "":
        return pictures
    if style == "pixel":
        return F.interpolate(F.avg_pool2d(pictures, 4), scale_factor=4)
    gray = (pictures * pictures.new_tensor([0.3, 0.59, 0.11])[:, None, None]).sum(1, keepdim=True)
    if style == "gray":
        return gray.expand(-1, 3, -1, -1)
    across = pictures.new_tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]).expand(3, 1, 3, 3)
    padded = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    edges = F.conv2d(padded, across, groups=3).square() + F.conv2d(padded, across.mT, groups=3).square()
    lines = (edges.amax(1, keepdim=True).sqrt() * 0.7).clamp(max=1)
    if style == "pencil":
        return (0.97 - 0.85 * lines).expand(-1, 3, -1, -1)
    if style == "neon":
        bright = pictures / pictures.amax(1, keepdim=True).clamp(min=0.2)
        return (0.04 + lines * bright).clamp(max=1)
    paper = pictures.new_tensor([0.1, 0.25, 0.62])[:, None, None]
    return paper + lines * (0.98 - paper)


class Placed:
    """The placed subjects, those to train on or the held-out ones."""

    def __init__(self, held_out: bool = False) -> None:
        _, self.subjects = read_art()
        table = np.load(WORK / "placed.npz")
        wanted = np.array([one.held_out is held_out for one in self.subjects])[table["subject"]]
        self.rows = np.flatnonzero(wanted)
        """Rows of the file that may be used."""
        self.subject, self.small, self.place = table["subject"], table["small"], table["place"]
        self.sides = {at: self.rows[self.place[self.rows] == at] for at in (LEFT, RIGHT)}
        self.pictures = torch.from_numpy(np.load(WORK / "placed.npy", mmap_mode="c")).to(DEVICE)

    def batch(
        self,
        rows: NDArray[np.int64],
        random: np.random.Generator,
        styled: float = STYLED,
        paired: float = 0.0,
        names: Sequence[str] = NAMES,
    ) -> tuple[Tensor, list[Scene]]:
        """Put backgrounds under the placed subjects `rows` of the file. Returns pictures [B, 3, H, W] and scenes.

        The share `styled` of the pictures is drawn in another style; the share `paired` of those on the left or right
        gets a second subject on the other side. Backgrounds are of `names`, none of its subject's main colour.
        """
        scenes, grounds, behind = [], [], {}
        for number, row in enumerate(rows):
            subject = self.subjects[self.subject[row]]
            ground = str(random.choice([name for name in names if name != subject.colour]))
            grounds.append(ground)
            style = str(random.choice(STYLES[1:])) if random.random() < styled else ""
            other = {LEFT: RIGHT, RIGHT: LEFT}.get(int(self.place[row]))
            if other is not None and random.random() < paired:
                behind[number] = int(random.choice(self.sides[other]))
            scenes.append(
                Scene(
                    subject, bool(self.small[row]), PLACES[self.place[row]], "" if style in PAPER else ground, style,
                    self.subjects[self.subject[behind[number]]] if number in behind else None,
                )
            )  # fmt: skip
        jitter = random.normal(0, JITTER, size=(len(rows), 3))
        wanted = np.array([COLOURS[ground] for ground in grounds])
        colours = torch.from_numpy((np.clip(wanted + jitter, 0, 255) / 255).astype(np.float32)).to(DEVICE)
        pictures = colours[:, :, None, None].expand(-1, -1, SIDE, SIDE).clone()
        if behind:
            second = list(behind)
            pictures[second] = self._over(pictures[second], np.array(list(behind.values())))
        pictures = self._over(pictures, rows)
        for style in STYLES[1:]:
            chosen = [number for number, scene in enumerate(scenes) if scene.style == style]
            pictures[chosen] = restyle(pictures[chosen], style)
        return pictures * 2 - 1, scenes

    def _over(self, under: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """The placed subjects `rows` over pictures [B, 3, H, W] in [0, 1]."""
        rgba = self.pictures[torch.from_numpy(rows).to(DEVICE)].float() / 255
        return rgba[:, :3] + (1 - rgba[:, 3:]) * under


def place(rgba: NDArray[np.uint8], random: np.random.Generator, plain: bool) -> tuple[NDArray[np.uint8], bool, int]:
    """Scale, mirror and put one premultiplied drawing on an empty canvas; a plain one large and in the middle.

    Returns the canvas [4, H, W], whether the subject is small, and the index of its place.
    """
    small = not plain and random.random() < 0.4
    where = 0 if plain or random.random() < 0.3 else int(random.integers(1, len(PLACES)))
    side = round(SIDE * (random.uniform(0.38, 0.5) if small else random.uniform(0.78, 0.96)))
    if where and not small:
        side = round(SIDE * random.uniform(0.6, 0.7))
    planes = [Image.fromarray(rgba[..., c]).resize((side, side), Image.Resampling.BOX) for c in range(4)]
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
    np.savez(WORK / "placed.npz", subject=np.arange(len(out)) // VARIANTS, small=small, place=where)
    log.info("%d placed subjects", len(out))


if __name__ == "__main__":
    main()
