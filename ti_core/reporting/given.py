"""What went in, for people: each picture as it came, with its square framed, as it is trained on, and what was found.

Cards of a page (`given.html`) and a sheet as one picture are made of the same rows. It reads no files.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ti_core.records import Finding, Picture, Plan
from ti_core.reporting.curves import COLOURS
from ti_core.reporting.drawing import TILE, load_font, opened, wrap

_FRAME = (230, 60, 140)
_GAP, _LINE, _TEXT = 8, 15, 420  # pixels of a sheet: between things, of a text line, of the text's width


@dataclass(frozen=True)
class Given:
    """A picture that went in. `whole` is None where the square is all of it, both are where it is not to be shown."""

    picture: Picture
    findings: Sequence[Finding]
    square: Image.Image | None
    whole: Image.Image | None

    @property
    def told(self) -> str:
        """Its size, and what became of it."""
        picture = self.picture
        parts = [f"{picture.width} × {picture.height}"]
        if picture.square:  # up to schema 3 it was not written down
            parts += [f"{picture.outside:.0%} cut"] if picture.outside >= 0.005 else []
            parts += [f"{picture.bands:.0%} bands"] if picture.bands >= 0.005 else []
            parts += ["masked"] if picture.shown else []
        return ", ".join(parts)


def given_of(plan: Plan, load: Callable[[str], bytes], squares: Iterable[str]) -> list[Given]:
    """The pictures of a plan by name; `squares` are their blobs, in the plan's order. Nothing is loaded where the
    concept is not to be shown."""
    made = []
    for picture, blob in zip(plan.images.pictures, squares, strict=True):
        square = whole = None
        if plan.concept.show_pictures:
            square = opened(load(blob))
            whole = framed(picture, opened(load(picture.whole))) if picture.whole else None
        made.append(Given(picture, plan.images.findings_of(picture), square, whole))
    return sorted(made, key=lambda one: one.picture.name)


def framed(picture: Picture, whole: Image.Image) -> Image.Image:
    """The whole picture, small, with its square framed; what the square adds is not shown."""
    drawn = whole.copy()
    drawn.thumbnail((2 * TILE, TILE))
    scale = drawn.width / picture.width, drawn.height / picture.height
    left, top, right, bottom = (side * scale[place % 2] for place, side in enumerate(picture.crop))
    left, top = max(left, 0), max(top, 0)
    frame = left, top, max(left, min(right, drawn.width) - 1), max(top, min(bottom, drawn.height) - 1)
    ImageDraw.Draw(drawn).rectangle(frame, outline=_FRAME, width=2)
    return drawn


def sheet(given: Sequence[Given]) -> bytes:
    """The pictures one below the other as a PNG: as they came, as they are trained on, what was found."""
    font, bold = load_font("DejaVuSans.ttf"), load_font("DejaVuSans-Bold.ttf")
    rows = [
        [(bold, [one.picture.name]), (font, [one.told])]
        + [(font, wrap(f"{finding.severity}: {finding.text}", font, _TEXT)) for finding in one.findings]
        for one in given
    ]
    widths = [max((one.whole.width for one in given if one.whole), default=0) + _GAP, TILE + _GAP]
    heights = [max(TILE, _LINE * sum(len(lines) for _, lines in row)) + _GAP for row in rows]
    drawn = Image.new("RGB", (sum(widths) + _TEXT + 2 * _GAP, sum(heights) + _GAP), COLOURS["card"])
    draw, top = ImageDraw.Draw(drawn), _GAP
    for one, row, height in zip(given, rows, heights, strict=True):
        if one.whole:
            drawn.paste(one.whole, (_GAP, top))
        if one.square:
            drawn.paste(one.square.resize((TILE, TILE), Image.Resampling.LANCZOS), (_GAP + widths[0], top))
        at = top
        for face, lines in row:
            for line in lines:
                draw.text((_GAP + sum(widths), at), line, COLOURS["ink"], face)
                at += _LINE
        top += height
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    return buffer.getvalue()
