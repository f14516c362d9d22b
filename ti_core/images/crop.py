"""Which square of a picture is trained on, and what stands where the square is larger than the picture.

No saliency: on photographs whose subject's box is known, no method without a network of its own placed the square
better than the middle, while bands at the sides save what would be cut (docs/decisions/0020). It knows no files.
"""

from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

Crop = Literal["auto", "centre", "pad"]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels; a square, which may reach beyond the picture."""

SHARE = 0.6
"""Of what a centre square would cut, so much is kept by bands at the sides."""
BANDS = 0.25
"""Bands take this share of the square's side at most."""
ALIKE = 0.02
"""Sides that differ by less are taken for a square: nobody misses it, and a band of a few pixels helps nobody."""
MARGIN = 0.1
"""Around what a mask shows, as a share of it."""


def square_of(size: tuple[int, int], how: Crop, shown: Image.Image | None = None) -> Box:
    """The square of a picture of `size` (width, height).

    `shown`, 8-bit grey of that size, is what a mask or the alpha channel shows. With "auto" the square is as large as
    the shorter side and moved to where that is, larger where that does not fit; without `shown` it lies in the middle
    and grows by `SHARE`.
    """
    width, height = size
    least, most = min(size), max(size)
    x, y, side = width / 2, height / 2, float(least)
    if how == "pad":
        side = float(most)
    elif how == "auto" and most > least * (1 + ALIKE):
        box = shown.point(lambda value: 255 * (value > 127)).getbbox() if shown else None
        if box:
            side = min(max(least, (1 + MARGIN) * max(box[2] - box[0], box[3] - box[1])), most)
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        else:
            side = min(least + SHARE * (most - least), least / (1 - BANDS))
    left, top = _start(x, side, width), _start(y, side, height)
    return left, top, left + side, top + side


def cut(image: Image.Image, box: Box, side: int, fill: int | None = None) -> Image.Image:
    """The square of `image`, `side` pixels wide and high. Where it reaches beyond the picture it is `fill`, or without
    one the picture's border, drawn out and softened."""
    left, top, right, bottom = box
    inner = max(left, 0.0), max(top, 0.0), min(right, image.width), min(bottom, image.height)
    if inner == box:
        return image.resize((side, side), Image.Resampling.LANCZOS, box=box)
    scale = side / (right - left)
    start = round((inner[0] - left) * scale), round((inner[1] - top) * scale)
    end = round((inner[2] - left) * scale), round((inner[3] - top) * scale)
    size = max(end[0] - start[0], 1), max(end[1] - start[1], 1)
    part = image.resize(size, Image.Resampling.LANCZOS, box=inner)
    if fill is not None:
        canvas = Image.new(image.mode, (side, side), fill)
        canvas.paste(part, start)
        return canvas
    return _drawn_out(part, start, side)


def _start(middle: float, side: float, length: int) -> float:
    """Where a square begins along one axis: within the picture if it fits, else around it."""
    if side >= length:
        return (length - side) / 2
    return min(max(middle - side / 2, 0.0), length - side)


def _drawn_out(part: Image.Image, start: tuple[int, int], side: int) -> Image.Image:
    """A picture in a square whose bands show the picture's own edge, softened the more the further out they are."""
    before = start[::-1]
    after = side - part.height - before[0], side - part.width - before[1]
    around = np.pad(np.asarray(part), ((before[0], after[0]), (before[1], after[1]), (0, 0)), mode="edge")
    canvas = Image.fromarray(around).filter(ImageFilter.GaussianBlur(side / 24))
    canvas.paste(part, start)
    return canvas
