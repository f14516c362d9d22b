"""What people look at: one page per concept, one page per batch, and the contact sheet as a picture.

A page is one file that loads nothing: pictures are data URIs, style is inline, there is no script. Everything on it
comes from the manifest and the blobs it names, which `load` (sha256 → bytes) brings. This module knows neither the
store nor the registry, so a page can tell what was judged, not what became of it afterwards.
"""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from ti_core.curves import COLOURS, Panel, curves
from ti_core.records import Anchors, BatchRow, Decision, Manifest, Scores

Load = Callable[[str], bytes]

_TILE = 192  # pixels a side at which a page keeps pictures: twice the 96 CSS pixels that a tile is shown at


@dataclass(frozen=True)
class Row:
    """One line of a contact sheet. `tiles` follow the grid's prompts; None where this step was not given a prompt."""

    step: int
    chosen: bool
    looks_bad: bool
    tiles: tuple[Image.Image | None, ...]


@dataclass(frozen=True)
class Grid:
    """Pictures by step and prompt. Prompts hold one `{}`; the columns are the plain ones, then the edit ones."""

    plain: tuple[str, ...]
    edit: tuple[str, ...]
    rows: tuple[Row, ...]


def page(manifest: Manifest, load: Load) -> bytes:
    """The page of one judged concept, as UTF-8 HTML.

    `manifest.page` is not read, so the page can be made before the manifest that names it is complete.
    """
    decision, report = manifest.decision, manifest.report
    panels: dict[Panel, str] = {"clip_i": "Curve of CLIP-I by step", "clip_t": "Curve of CLIP-T by step"}
    template = _environment().get_template("concept.html")
    text = template.render(
        manifest=manifest,
        plan=manifest.plan,
        decision=decision,
        report=report,
        chosen=next(candidate for candidate in decision.candidates if candidate.step == decision.step),
        best=next(candidate for candidate in decision.candidates if candidate.step == decision.best_step),
        checkpoints={checkpoint.step: checkpoint for checkpoint in manifest.checkpoints},
        squares=[_data_uri(_open(load(sha256))) for sha256 in manifest.prepared.squares],
        grid=_grid(manifest.anchors, manifest.scores, decision, load),
        report_grid=_grid(report.anchors, [report.chosen], decision, load),
        panels=[_inline(curves(decision, manifest.anchors, [panel]), label) for panel, label in panels.items()],
        example=manifest.plan.protocol.report.edit[0].replace("{}", manifest.plan.concept.placeholder),
    )
    return text.encode()


def batch_page(rows: Iterable[BatchRow], load: Load, title: str = "Batch") -> bytes:
    """The page of a batch, as UTF-8 HTML: worst first, that is failed, rejected, then by score from low to high."""
    worst_first = sorted(rows, key=_badness)
    strips = {row.strip: _data_uri(_open(load(row.strip)), side=_TILE // 2) for row in worst_first if row.strip}
    template = _environment().get_template("batch.html")
    return template.render(title=title, rows=worst_first, strips=strips).encode()


def _badness(row: BatchRow) -> tuple[int, float, str]:
    return {"failed": 0, "rejected": 1}.get(row.status, 2), 2.0 if row.score is None else row.score, row.concept


# --- pictures -------------------------------------------------------------------------------------------------------


def contact_sheet(manifest: Manifest, load: Load, max_width: int = 1600) -> bytes:
    """The grid of steps and prompts as a PNG with labels, at most `max_width` pixels wide; the chosen step is framed."""
    decision, concept = manifest.decision, manifest.plan.concept
    grid = _grid(manifest.anchors, manifest.scores, decision, load)
    prompts = [prompt.replace("{}", concept.placeholder) for prompt in grid.plain + grid.edit]
    native = max(tile.width for row in grid.rows for tile in row.tiles if tile)
    gap, label_width = 6, 120
    side = min((max_width - label_width) // len(prompts) - gap, max(native, 128))
    font, bold = _font("DejaVuSans.ttf"), _font("DejaVuSans-Bold.ttf")
    headers = [_wrap(prompt, font, side) for prompt in prompts]
    line_height = 15
    header_height = line_height * max(len(lines) for lines in headers) + 2 * gap

    size = (label_width + len(prompts) * (side + gap), header_height + len(grid.rows) * (side + gap))
    sheet = Image.new("RGB", size, COLOURS["card"])
    draw = ImageDraw.Draw(sheet)
    lefts = [label_width + column * (side + gap) for column in range(len(prompts))]
    for left, lines in zip(lefts, headers, strict=True):
        draw.multiline_text((left, gap), "\n".join(lines), COLOURS["ink"], font, spacing=line_height - 12)
    for number, row in enumerate(grid.rows):
        top = header_height + number * (side + gap)
        name, notes, colour = "class word", _wrap(concept.class_word, font, label_width - 2 * gap), COLOURS["muted"]
        if row.step:
            name, notes = f"step {row.step}", []
        if row.looks_bad:
            notes, colour = ["starts to", "look bad"], COLOURS["warn"]
            draw.rectangle((0, top, 3, top + side), colour)
        if row.chosen:
            notes, colour = ["chosen"], COLOURS["accent"]
        draw.text((gap + 4, top + gap), name, COLOURS["ink"], bold)
        draw.multiline_text((gap + 4, top + gap + line_height), "\n".join(notes), colour, font)
        for left, tile in zip(lefts, row.tiles, strict=True):
            if tile:
                sheet.paste(tile.resize((side, side), Image.Resampling.LANCZOS), (left, top))
        if row.chosen:
            draw.rectangle((0, top - gap + 1, size[0] - 1, top + side + gap - 2), outline=colour, width=4)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _grid(anchors: Anchors, scores: Sequence[Scores], decision: Decision, load: Load) -> Grid:
    """Cut the strips of all steps into tiles. Steps may have been given different prompts (successive halving)."""
    lines = [anchors.class_word, *scores]
    plain = tuple(dict.fromkeys(prompt for line in lines for prompt in line.clip_i.prompts))
    edit = tuple(dict.fromkeys(prompt for line in lines for prompt in line.clip_t.prompts))
    rows = []
    for line in lines:
        strip = _open(load(line.strip))
        given = [*(("plain", prompt) for prompt in line.clip_i.prompts), *(("edit", p) for p in line.clip_t.prompts)]
        side = strip.width // len(given)
        tiles = {
            where: strip.crop((place * side, 0, (place + 1) * side, strip.height)) for place, where in enumerate(given)
        }
        columns = [*(("plain", prompt) for prompt in plain), *(("edit", prompt) for prompt in edit)]
        rows.append(
            Row(
                step=line.step,
                chosen=line.step == decision.step,
                looks_bad=line.step == decision.looks_bad_from,
                tiles=tuple(tiles.get(where) for where in columns),
            )
        )
    return Grid(plain, edit, tuple(rows))


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _data_uri(picture: Image.Image, side: int = _TILE) -> str:
    """The picture as a data URI, at most `side` pixels high: small ones exactly as they are, larger ones reduced."""
    shrunk = picture.copy()
    shrunk.thumbnail((picture.width, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shrunk.save(buffer, "WEBP", lossless=max(shrunk.size) < _TILE // 2, quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _font(name: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), 12)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break `text` into lines of at most `width` pixels: at spaces, inside a word only when it is longer than a line."""
    lines: list[str] = []
    while text:
        end = next((n for n in range(1, len(text) + 1) if font.getlength(text[:n]) > width), len(text) + 1) - 1
        fits = max(end, 1)
        if fits < len(text) and " " in text[: fits + 1]:
            fits = text.rindex(" ", 0, fits + 1)
        lines.append(text[:fits])
        text = text[fits:].strip()
    return lines


# --- pages ----------------------------------------------------------------------------------------------------------


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ti_core"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["number"] = lambda value: f"{value:.3f}".replace("-", "−")
    environment.filters["signed"] = lambda value: f"{value:+.3f}".replace("-", "−")
    return environment


def _inline(svg: bytes, label: str) -> Markup:
    """An SVG as it may stand in a page: without its prolog and size, and in the page's colours, light or dark."""
    text = svg.decode()
    text = text[text.index("<svg") :].replace("<svg ", f'<svg class="curve" role="img" aria-label="{label}" ', 1)
    for role, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{role})")
    return Markup(text)  # noqa: S704  (drawn by `curves`, from numbers alone)
