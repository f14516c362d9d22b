"""What people look at: one page per concept, one page per batch, and the contact sheet as a picture.

A page is one file that loads nothing: pictures are data URIs, style is inline, there is no script. Everything on it
comes from the manifest and the blobs it names, which `load` (sha256 → bytes) brings. This module knows neither the
store nor the registry, so a page can tell what was judged, not what became of it afterwards.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from ti_core.backbone.hub import hub_name
from ti_core.formats import diffusers_lines
from ti_core.planning.protocols import published
from ti_core.records import Anchors, BatchRow, Decision, Manifest, Plan, Scores, blob_key
from ti_core.reporting.curves import COLOURS, Panel, curves, plane
from ti_core.reporting.drawing import TILE, data_uri, load_font, opened, wrap
from ti_core.reporting.figures import averages, caveats, figures
from ti_core.reporting.given import given_of
from ti_core.reporting.words import TOY, command_of, in_words, is_toy, namer, real_lines

Load = Callable[[str], bytes]

_MARGIN, _GAP, _LINE = 110, 6, 15  # pixels of a contact sheet: room for a row's label, between tiles, of a text line


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
    template = environment().get_template("concept.html")
    drawn = [_inline(curves(decision, manifest.anchors, [panel]), label) for panel, label in panels.items()]
    drawn.append(_inline(plane(decision, manifest.anchors), "Steps in the plane of CLIP-T and CLIP-I"))
    text = template.render(
        manifest=manifest,
        plan=manifest.plan,
        decision=decision,
        report=report,
        chosen=next(candidate for candidate in decision.candidates if candidate.step == decision.step),
        best=next(candidate for candidate in decision.candidates if candidate.step == decision.best_step),
        checkpoints={checkpoint.step: checkpoint for checkpoint in manifest.checkpoints},
        scores={one.step: one for one in manifest.scores},
        checks=checks(manifest),
        words=in_words(manifest),
        toy=TOY if is_toy(manifest.plan) else "",
        real_lines=real_lines(command_of(manifest.plan.concept)),
        given=given_of(manifest.plan, load, manifest.prepared.squares),
        grid=_grid(manifest.anchors, manifest.scores, decision, load),
        report_grid=_grid(report.anchors, [report.chosen], decision, load),
        panels=drawn,
        protocol=published(manifest.plan.evaluation.protocol),
        figures=figures(manifest),
        caveats=caveats(manifest.plan),
        judging=[(name, value) for name, value in manifest.plan.evaluation if name != "prompts" and value != ""],
        blob_key=blob_key,
        load_lines=partial(_load_lines, manifest.plan),
        example=manifest.plan.protocol.report.edit[0].replace("{}", manifest.plan.concept.placeholder),
    )
    return text.encode()


def _load_lines(plan: Plan, filename: str) -> str:
    """Python that makes a stock pipeline which knows the word of the file."""
    large = plan.base.kind == "sdxl"
    where = plan.base.folder if plan.base.kind == "miniature" else plan.base.name
    at = hub_name(where)
    given = {"revision": at.revision if at else "", "variant": plan.base.variant}
    told = ", ".join(
        [f'"{at.repository if at else where}"', *(f'{key}="{value}"' for key, value in given.items() if value)]
    )
    origin = "single_file" if where.endswith(".safetensors") else "pretrained"
    pipeline = f"StableDiffusion{'XL' if large else ''}Pipeline"
    return "\n".join(
        [
            f"from diffusers import {pipeline}\n",
            f"pipeline = {pipeline}.from_{origin}({told}, torch_dtype=torch.float32)",
            diffusers_lines(("clip_l", "clip_g") if large else ("clip_l",), filename, plan.concept.placeholder),
        ]
    )


def checks(manifest: Manifest) -> list[tuple[bool, str]]:
    """What decides whether to trust the choice at a glance: (all is well, what was found)."""
    decision, report = manifest.decision, manifest.report
    last = decision.candidates[-1].step
    sure = report.gain.low > 0
    scale = decision.scale
    scaled = scale.image_usable and scale.text_usable
    stopped = last > decision.step
    obeys = not scale.text_usable or report.scaled_t >= 0.5
    found = [
        (sure, f"{'Surely' if sure else 'Not surely'} nearer to its pictures than the class word, on new prompts too"),
        (obeys, "Still does what prompts ask" if obeys else "Often repeats its pictures whatever the prompt asks"),
        (scaled, "Both scales are long enough to rank by" if scaled else "A scale is too short to rank by"),
    ]
    if not manifest.plan.concept.imported:
        later = "Later steps were judged and are no better" if stopped else "The last step is the choice: train on"
        found.append((stopped, later))
    return found


def batch_page(rows: Iterable[BatchRow], load: Load, title: str = "Batch") -> bytes:
    """The page of a batch, as UTF-8 HTML: worst first."""
    ordered = worst_first(rows)
    blobs = {blob for row in ordered for blob in (row.strip, row.picture) if blob}
    pictures = {blob: data_uri(opened(load(blob)), side=TILE // 2) for blob in sorted(blobs)}
    template = environment().get_template("batch.html")
    averaged = [row for row in ordered if row.figures]
    return template.render(
        title=title,
        rows=ordered,
        name_of=namer(ordered),
        spent=spent(ordered),
        toy=TOY if any(row.toy for row in ordered) else "",
        real_lines=real_lines("ti batch SOURCE"),
        pictures=pictures,
        averaged=averaged,
        protocol=published(averaged[0].protocol) if averaged else None,
        averages=averages(ordered),
        caveats=list(dict.fromkeys(text for row in averaged for text in row.caveats)),
    ).encode()


def spent(rows: Iterable[BatchRow]) -> str:
    """Time and cost of what was done, in words; "" where nothing was."""
    done = [row for row in rows if row.seconds is not None]
    if not done:
        return ""
    seconds, costs = sum(row.seconds or 0 for row in done), [row.cost for row in done if row.cost is not None]
    text = f"{seconds:.0f} s of a worker, {seconds / len(done):.0f} s a word"
    return f"{text}; cost {sum(costs):.4g}, {sum(costs) / len(done):.3g} a word" if costs else text


def worst_first(rows: Iterable[BatchRow]) -> list[BatchRow]:
    """The rows in the order in which a person should look: failed, rejected, undecided, paused, then by
    score from low to high."""
    return sorted(rows, key=_badness)


def _badness(row: BatchRow) -> tuple[int, float, str]:
    return (
        {"failed": 0, "rejected": 1, "undecided": 2, "paused": 3}.get(row.status, 4),
        2.0 if row.score is None else row.score,
        row.concept,
    )


# --- pictures -------------------------------------------------------------------------------------------------------


def contact_sheet(manifest: Manifest, load: Load, max_width: int = 1600) -> bytes:
    """The grid of steps and prompts as a labelled PNG, at most `max_width` pixels wide; the chosen step is framed."""
    concept = manifest.plan.concept
    grid = _grid(manifest.anchors, manifest.scores, manifest.decision, load)
    prompts = [prompt.replace("{}", concept.placeholder) for prompt in grid.plain + grid.edit]
    native = max(tile.width for row in grid.rows for tile in row.tiles if tile)
    side = min((max_width - _MARGIN) // len(prompts) - _GAP, max(native, 128))
    font, bold = load_font("DejaVuSans.ttf"), load_font("DejaVuSans-Bold.ttf")
    headers = [wrap(prompt, font, side) for prompt in prompts]
    head = _LINE * max(len(lines) for lines in headers) + 2 * _GAP

    pitch = side + _GAP
    sheet = Image.new("RGB", (_MARGIN + len(prompts) * pitch, head + len(grid.rows) * pitch), COLOURS["card"])
    draw = ImageDraw.Draw(sheet)

    def write(x: int, y: int, lines: Iterable[str], font: ImageFont.FreeTypeFont, colour: str) -> None:
        for number, line in enumerate(lines):
            draw.text((x, y + number * _LINE), line, COLOURS[colour], font)

    for column, lines in enumerate(headers):
        write(_MARGIN + column * pitch, _GAP, lines, font, "ink")
    for number, row in enumerate(grid.rows):
        top = head + number * pitch
        note, colour = ("", "muted") if row.step else (concept.class_word, "muted")
        if row.chosen:
            note, colour = "chosen", "accent"
            draw.rectangle((0, top - _GAP + 1, sheet.width - 1, top + pitch - 2), outline=COLOURS[colour], width=4)
        elif row.looks_bad:
            note, colour = "starts to look bad", "warn"
            draw.rectangle((0, top, 3, top + side), COLOURS[colour])
        write(10, top + _GAP, [f"step {row.step}" if row.step else "class word"], bold, "ink")
        write(10, top + _GAP + _LINE, wrap(note, font, _MARGIN - 20), font, colour)
        for column, tile in enumerate(row.tiles):
            if tile:
                sheet.paste(tile.resize((side, side), Image.Resampling.LANCZOS), (_MARGIN + column * pitch, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _grid(anchors: Anchors, scores: Sequence[Scores], decision: Decision, load: Load) -> Grid:
    """Cut the strips of the class word and of all steps into tiles. Steps may have been given different prompts."""
    lines = [anchors.class_word, *scores]
    plain = tuple(dict.fromkeys(prompt for line in lines for prompt in line.clip_i.prompts))
    edit = tuple(dict.fromkeys(prompt for line in lines for prompt in line.clip_t.prompts))
    rows = []
    for line in lines:
        strip = opened(load(line.strip))
        given = [(True, prompt) for prompt in line.clip_i.prompts] + [(False, prompt) for prompt in line.clip_t.prompts]
        side = strip.width // len(given)
        tiles = {key: strip.crop((n * side, 0, (n + 1) * side, strip.height)) for n, key in enumerate(given)}
        columns = [(True, prompt) for prompt in plain] + [(False, prompt) for prompt in edit]
        rows.append(
            Row(
                step=line.step,
                chosen=line.step == decision.step,
                looks_bad=line.step == decision.looks_bad_from,
                tiles=tuple(tiles.get(key) for key in columns),
            )
        )
    return Grid(plain, edit, tuple(rows))


# --- pages ----------------------------------------------------------------------------------------------------------


def environment() -> Environment:
    """How templates become pages."""
    environment = Environment(
        loader=PackageLoader("ti_core.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = data_uri
    environment.filters["code"] = _code
    environment.filters["number"] = lambda value: f"{value:.3f}".replace("-", "−")
    environment.filters["signed"] = lambda value: f"{value:+.3f}".replace("-", "−")
    return environment


def _code(text: str) -> Markup:
    """A sentence in which what stands between backticks is code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def _inline(svg: bytes, label: str) -> Markup:
    """An SVG as it may stand in a page: without its prolog and size, and in the page's colours, light or dark."""
    text = svg.decode()
    text = text[text.index("<svg") :].replace("<svg ", f'<svg class="curve" role="img" aria-label="{label}" ', 1)
    for role, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{role})")
    return Markup(text)  # noqa: S704  (drawn by `curves`, from numbers alone)
