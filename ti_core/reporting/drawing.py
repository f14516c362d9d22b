"""Small helpers of whoever draws for pages: pictures from and to bytes, text in a picture."""

import base64
import io
from pathlib import Path

import matplotlib
from PIL import Image, ImageFont

TILE = 160
"""Pixels a side at which a page keeps pictures: twice the CSS pixels that a tile is shown at."""


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def data_uri(picture: Image.Image, side: int = TILE) -> str:
    """The picture as a data URI, at most `side` pixels high. Small tiles keep every pixel as it is."""
    shrunk = picture.copy()
    shrunk.thumbnail((picture.width, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shrunk.save(buffer, "WEBP", lossless=max(shrunk.size) < TILE // 2, quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def load_font(name: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), 12)


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break `text` into lines of at most `width` pixels: at spaces, and inside a word that is longer than a line."""
    lines: list[str] = []
    while text:
        fits = next((end for end in range(len(text), 1, -1) if font.getlength(text[:end]) <= width), 1)
        if fits < len(text) and " " in text[: fits + 1]:
            fits = text.rindex(" ", 0, fits + 1)
        lines.append(text[:fits])
        text = text[fits:].strip()
    return lines
