"""Compose the example concepts: thirty-two things, five pictures each, from permissively licensed emoji art.

None of the thirty-two was in the data of the miniature that ships with the package. The pictures are put together the
way its training data was: one object, fully visible, 55 to 90 % of the canvas, on a plain or two-colour background.

Run it anywhere; it needs numpy, Pillow and one extra library, resvg-py, that draws the SVG files:

    npm install --prefix art @iconify-json/noto@1.2.9 @iconify-json/noto-v1@1.2.5 @iconify-json/twemoji@1.2.5 \
        @iconify-json/fluent-emoji@1.2.7 @iconify-json/fluent-emoji-flat@1.2.6 @lobehub/fluent-emoji-3d@1.1.0
    pip install resvg-py
    python examples/compose.py --art art

It writes `concepts/<slug>/NN.png`, `concepts/<slug>/concept.toml` and the picture table at the end of `CREDITS.md`.
Every draw depends on the seed, the slug and nothing else, so with the same versions of the libraries and packages
(resvg-py 0.5.0, Pillow 13.0.0, numpy 2.4.6 made the files kept here) a second run gives the same bytes.

This module does not know ti_core: it makes pictures, it does not train on them.

Shapes: H rows, W columns, C channels (RGB, or RGB and alpha); all values are floats in [0, 1].
"""

import argparse
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import resvg_py
from PIL import Image

Array = npt.NDArray[np.floating[Any]]

SIZE = 160  # pixels of a picture's side
SEED = 7
MARGIN = 3  # pixels that stay free around the object
DRAWN = 512  # width at which an SVG is drawn before it is reduced

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (212, 38, 38),
    "orange": (242, 140, 40),
    "yellow": (248, 206, 60),
    "green": (52, 142, 74),
    "blue": (50, 92, 214),
    "purple": (116, 62, 164),
    "pink": (242, 162, 196),
    "brown": (124, 80, 50),
    "black": (20, 20, 22),
    "white": (248, 248, 248),
    "gray": (150, 152, 156),
    "cyan": (88, 200, 214),
}


@dataclass(frozen=True)
class Source:
    """One art style and the package that holds it."""

    package: str
    style: str


NOTO = Source("@iconify-json/noto", "Noto")
NOTO_V1 = Source("@iconify-json/noto-v1", "Noto, first version")
TWEMOJI = Source("@iconify-json/twemoji", "Twemoji")
FLUENT_3D = Source("@lobehub/fluent-emoji-3d", "Fluent 3D")
FLUENT_COLOUR = Source("@iconify-json/fluent-emoji", "Fluent color")
FLUENT_FLAT = Source("@iconify-json/fluent-emoji-flat", "Fluent flat")

USUAL = (NOTO, NOTO_V1, TWEMOJI, FLUENT_3D, FLUENT_FLAT)
NEWER = (NOTO, TWEMOJI, FLUENT_3D, FLUENT_COLOUR, FLUENT_FLAT)  # the first Noto ends before these emoji
NO_HEAD = (NOTO, FLUENT_3D, FLUENT_COLOUR, FLUENT_FLAT)  # Twemoji's zebra is a head, cut off at the edge


@dataclass(frozen=True)
class Concept:
    """A thing to learn: its folder, its code point (Fluent 3D names files by it), its class and its art."""

    slug: str
    code: str
    class_word: str
    sources: tuple[Source, ...] = USUAL


CONCEPTS = (
    Concept("anchor", "2693", "object"),
    Concept("avocado", "1f951", "fruit"),
    Concept("butterfly", "1f98b", "insect"),
    Concept("cactus", "1f335", "plant"),
    Concept("carrot", "1f955", "vegetable"),
    Concept("crown", "1f451", "hat"),
    Concept("doughnut", "1f369", "dessert"),
    Concept("flamingo", "1f9a9", "bird", NEWER),
    Concept("fox", "1f98a", "animal"),
    Concept("guitar", "1f3b8", "instrument"),
    Concept("hamburger", "1f354", "food"),
    Concept("ice-cream", "1f368", "dessert"),
    Concept("jack-o-lantern", "1f383", "decoration"),
    Concept("lady-beetle", "1f41e", "insect"),
    Concept("lion", "1f981", "animal"),
    Concept("octopus", "1f419", "animal"),
    Concept("owl", "1f989", "bird"),
    Concept("panda", "1f43c", "animal"),
    Concept("penguin", "1f427", "bird"),
    Concept("pineapple", "1f34d", "fruit"),
    Concept("pizza", "1f355", "food"),
    Concept("pretzel", "1f968", "food", NEWER),
    Concept("rocket", "1f680", "vehicle"),
    Concept("sailboat", "26f5", "vehicle"),
    Concept("strawberry", "1f353", "fruit"),
    Concept("sunflower", "1f33b", "flower"),
    Concept("teapot", "1fad6", "pot", NEWER),
    Concept("teddy-bear", "1f9f8", "toy", NEWER),
    Concept("trophy", "1f3c6", "object"),
    Concept("turtle", "1f422", "reptile"),
    Concept("watermelon", "1f349", "fruit"),
    Concept("zebra", "1f993", "animal", NO_HEAD),
)


@cache
def icon_set(path: Path) -> dict[str, Any]:
    """One package's icons, read once: its file is tens of megabytes."""
    icons: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return icons


def read_art(art: Path, source: Source, concept: Concept) -> Array:
    """The object as HWC floats with *premultiplied* alpha, cut to its visible box."""
    folder = art / "node_modules" / source.package
    if source is FLUENT_3D:
        picture = Image.open(folder / "assets" / f"{concept.code}.webp")
    else:
        icons = icon_set(folder / "icons.json")
        icon = icons["icons"][concept.slug]
        width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
        box = f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}" width="{width}" height="{height}"'
        names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        drawn = resvg_py.svg_to_bytes(svg_string=f"<svg {names} {box}>{icon['body']}</svg>", width=DRAWN)
        picture = Image.open(io.BytesIO(bytes(drawn)))
    rgba = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255
    rgba[..., :3] *= rgba[..., 3:]
    rows, columns = (np.flatnonzero((rgba[..., 3] > 0.04).any(axis=axis)) for axis in (1, 0))
    return rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def resize(premultiplied: Array, longest: int) -> Array:
    """Reduce each of the four channels as a plain one: with premultiplied colours no halo can appear."""
    height, width = premultiplied.shape[:2]
    factor = longest / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(premultiplied[..., c])).resize(size, Image.Resampling.BICUBIC))
        for c in range(4)
    ]
    alpha = np.clip(planes[3], 0, 1)
    return np.stack([*(np.clip(plane, 0, alpha) for plane in planes[:3]), alpha], axis=-1)


def outline_colours(thing: Array) -> Array:
    """Colours [N, 3] of the object's outermost three pixels."""
    solid = np.pad(thing[..., 3] > 0.5, 3)
    inner = solid.copy()
    for axis in (0, 1):
        for shift in (-3, 3):
            inner &= np.roll(solid, shift, axis=axis)
    edge = (solid & ~inner)[3:-3, 3:-3]
    return thing[edge][:, :3] / thing[edge][:, 3:]


def hidden_part(thing: Array, name: str) -> float:
    """How much of the object would be hard to see on this colour; its outline counts four times as much as the rest."""
    solid = thing[thing[..., 3] > 0.5]
    near = [
        (np.linalg.norm(colours - np.array(COLOURS[name]) / 255, axis=1) < 0.3).mean()
        for colours in (outline_colours(thing), solid[:, :3] / solid[:, 3:])
    ]
    return float(near[0] + near[1] / 4)


def take_colour(names: list[str], thing: Array, rng: np.random.Generator) -> Array:
    """Take from `names` the first colour on which the object stands out (else the best one), slightly changed."""
    parts = [hidden_part(thing, name) for name in names]
    good = [i for i, part in enumerate(parts) if part < 0.1]
    name = names.pop(good[0] if good else int(np.argmin(parts)))
    return np.clip(np.array(COLOURS[name]) / 255 + rng.uniform(-0.05, 0.05, 3), 0, 1)


def background(kind: str, first: Array, second: Array, rng: np.random.Generator) -> Array:
    """A canvas [SIZE, SIZE, 3]: `plain`, two `halves` with a straight border, or a `gradient` of two colours."""
    if kind == "plain":
        return np.tile(first, (SIZE, SIZE, 1))
    angle = rng.uniform(0, 2 * np.pi)
    steps = (np.arange(SIZE) + 0.5) / SIZE - 0.5
    along = np.cos(angle) * steps[None, :] + np.sin(angle) * steps[:, None]
    border, steepness = (rng.uniform(-0.2, 0.2), SIZE) if kind == "halves" else (0.0, 1.0)
    weight: Array = np.clip((along - border) * steepness + 0.5, 0, 1)[..., None]
    return (1 - weight) * first + weight * second


def compose(concept: Concept, art: Path) -> Iterator[Image.Image]:
    """The pictures of one concept, one per source; sizes, backgrounds and flips are dealt so that each set varies."""
    rng = np.random.default_rng([SEED, *concept.slug.encode()])
    count = len(concept.sources)
    scales = rng.permutation(np.linspace(0.55, 0.83, count)) + rng.uniform(0, 0.07, count)
    kinds = rng.permutation(["plain", "plain", "halves", "gradient", "plain"][:count])
    flips = rng.permutation([False, True, False, True, bool(rng.integers(2))][:count])
    names = [str(name) for name in rng.permutation(list(COLOURS))]
    for source, scale, kind, flip in zip(concept.sources, scales, kinds, flips, strict=True):
        thing = resize(read_art(art, source, concept), round(SIZE * scale))
        if flip:
            thing = thing[:, ::-1]
        first = take_colour(names, thing, rng)
        second = first if kind == "plain" else take_colour(names, thing, rng)
        canvas = background(str(kind), first, second, rng)
        height, width = thing.shape[:2]
        top, left = (int(rng.integers(MARGIN, SIZE - MARGIN - side + 1)) for side in (height, width))
        place = canvas[top : top + height, left : left + width]
        place[...] = place * (1 - thing[..., 3:]) + thing[..., :3]
        yield Image.fromarray(np.round(canvas * 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description="Compose the example concepts.")
    parser.add_argument("--art", type=Path, required=True, help="the folder given to npm install --prefix")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where concepts/ and CREDITS.md lie")
    arguments = parser.parse_args()
    table = ["| file | package | style |", "|---|---|---|"]
    for concept in CONCEPTS:
        folder = arguments.out / "concepts" / concept.slug
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "concept.toml").write_text(f'class_word = "{concept.class_word}"\nkind = "object"\n')
        for number, (source, picture) in enumerate(zip(concept.sources, compose(concept, arguments.art), strict=True)):
            name = f"{number + 1:02d}.png"
            picture.save(folder / name, optimize=True)
            table.append(f"| `{concept.slug}/{name}` | `{source.package}` | {source.style} |")
    credit = arguments.out / "CREDITS.md"
    heading = "## Pictures\n"
    kept = credit.read_text(encoding="utf-8").partition(heading)[0] if credit.exists() else ""
    credit.write_text(kept + heading + "\n" + "\n".join(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
