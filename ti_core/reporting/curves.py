"""Curves of CLIP-I and CLIP-T by step, drawn by matplotlib without its global state.

The picture says what the decision says and nothing more: each judged step with its interval, the two ends of the
scale as labelled lines, the chosen step, and from where it starts to look bad. This module does not know pages; it
draws in the few colours of `COLOURS`, which a page may replace by its own.
"""

import io
import re
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ti_core.records import Anchors, Decision

Panel = Literal["clip_i", "clip_t"]

COLOURS = {
    "ink": "#1b1e22",
    "muted": "#596069",
    "line": "#d9dde2",
    "card": "#fefefe",
    "accent": "#0a5bab",
    "warn": "#8a4a00",
}
"""Every colour of a figure by its role; no other is used."""

_INK, _MUTED, _LINE, _CARD, _ACCENT, _WARN = COLOURS.values()
_PANEL = (4.5, 3.2)  # inches of 72 SVG units: text stays readable when a panel is as wide as a phone
_LEAST_GAP = 0.15  # between two labels of two lines, as a part of the panel's height


def curves(
    decision: Decision,
    anchors: Anchors,
    panels: Sequence[Panel] = ("clip_i", "clip_t"),
    form: Literal["svg", "png"] = "svg",
) -> bytes:
    """Draw one panel per score, side by side.

    The same input gives the same bytes with the same matplotlib. Text in an SVG is drawn as outlines, and its ids
    start with the names of the panels, so that several can stand in one page.
    """
    width, height = _PANEL
    figure = Figure(figsize=(width * len(panels), height), facecolor=_CARD, dpi=144)
    for place, panel in enumerate(panels):
        box = ((place + 0.115) / len(panels), 0.155, 0.615 / len(panels), 0.73)
        _draw(figure.add_axes(box, facecolor="none"), decision, anchors, panel)
    buffer = io.BytesIO()
    if form == "png":
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _settle_ids(buffer.getvalue().decode(), "-".join(panels)).encode()


def plane(decision: Decision, anchors: Anchors) -> bytes:
    """Draw the steps in the plane of CLIP-T (does it follow prompts?) and CLIP-I (is it the thing?), joined in the
    order of training, between the class word and the training pictures, as an SVG. Crosses are the intervals."""
    width, height = _PANEL
    figure = Figure(figsize=(width, height), facecolor=_CARD, dpi=144)
    axes = figure.add_axes((0.16, 0.155, 0.81, 0.73), facecolor="none")
    steps = decision.candidates
    across, up = [one.clip_t.value for one in steps], [one.clip_i.value for one in steps]
    for one in steps:
        axes.plot([one.clip_t.low, one.clip_t.high], [one.clip_i.value] * 2, color=_ACCENT, alpha=0.35, linewidth=1)
        axes.plot([one.clip_t.value] * 2, [one.clip_i.low, one.clip_i.high], color=_ACCENT, alpha=0.35, linewidth=1)
    axes.plot(across, up, color=_ACCENT, linewidth=1.6, marker="o", markersize=3.5)
    word = anchors.class_word
    marks = {
        "class word": (word.clip_t.mean, word.clip_i.mean, _MUTED),
        "training pictures": (anchors.real_text, anchors.real, _MUTED),
        f"first: {steps[0].step}": (across[0], up[0], _ACCENT),
        f"last: {steps[-1].step}": (across[-1], up[-1], _ACCENT),
    }
    chosen = next(one for one in steps if one.step == decision.step)
    marks = {name: at for name, at in marks.items() if name.rpartition(" ")[2] != str(chosen.step)}
    marks[f"chosen: {chosen.step}"] = (chosen.clip_t.value, chosen.clip_i.value, _ACCENT)
    axes.margins(0.12)
    for name, (x, y, colour) in marks.items():
        if colour == _MUTED:
            axes.plot([x], [y], marker="D", markersize=5, color=_MUTED)
    axes.plot([chosen.clip_t.value], [chosen.clip_i.value], marker="o", markersize=8, color=_CARD, mec=_ACCENT, mew=2.2)
    _label_points(axes, marks)
    axes.set_title("Both at once: up is likeness, right is prompt-following", loc="left", fontsize=10, color=_INK,
                   fontweight="bold")  # fmt: skip
    axes.set_xlabel("CLIP-T, edit prompts", fontsize=9, color=_MUTED)
    axes.set_ylabel("CLIP-I, plain prompts", fontsize=9, color=_MUTED, labelpad=1)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=9, labelcolor=_MUTED, color=_LINE)
    axes.grid(color=_LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _settle_ids(buffer.getvalue().decode(), "plane").encode()


def _label_points(axes: Axes, marks: dict[str, tuple[float, float, str]]) -> None:
    """Write the name of each point beside it, on the side with more room; names that would meet are moved apart."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    taken: list[float] = []
    for name, (x, y, colour) in sorted(marks.items(), key=lambda item: item[1][1]):
        place = (y - bottom) / (top - bottom)
        wanted = max([place, *(other + 0.075 for other in taken if other + 0.075 > place and other - place < 0.075)])
        taken.append(wanted)
        leftwards = x > left + 0.3 * (right - left)  # training goes from right to left, so the left is freer
        axes.annotate(
            name, (x, bottom + wanted * (top - bottom)), (-8 if leftwards else 8, 0), textcoords="offset points",
            ha="right" if leftwards else "left", va="center", fontsize=8.7, color=colour, annotation_clip=False,
            fontweight="bold" if colour == _ACCENT else "normal",
            bbox={"facecolor": _CARD, "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip


def _draw(axes: Axes, decision: Decision, anchors: Anchors, panel: Panel) -> None:
    if panel == "clip_i":
        title = "CLIP-I, plain prompts: is it the thing?"
        intervals = [candidate.clip_i for candidate in decision.candidates]
        baselines = {"real against real": anchors.real, "class word": anchors.class_word.clip_i.mean}
    else:
        title = "CLIP-T, edit prompts: does it follow them?"
        intervals = [candidate.clip_t for candidate in decision.candidates]
        baselines = {"class word": anchors.class_word.clip_t.mean, "training pictures": anchors.real_text}
    steps = [candidate.step for candidate in decision.candidates]
    values = [interval.value for interval in intervals]
    lows, highs = [interval.low for interval in intervals], [interval.high for interval in intervals]

    bottom, top = min([*lows, *baselines.values()]), max([*highs, *baselines.values()])
    margin = max(0.16 * (top - bottom), 0.005)
    axes.set_ylim(bottom - margin, top + margin)
    right = max(steps) * 1.04
    axes.set_xlim(0, right)

    for value in baselines.values():
        axes.axhline(value, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
    _label_lines(axes, baselines)
    axes.fill_between(steps, lows, highs, color=_ACCENT, alpha=0.14, linewidth=0)
    axes.vlines(steps, lows, highs, color=_ACCENT, linewidth=1)
    axes.plot(steps, values, color=_ACCENT, linewidth=1.6, marker="o", markersize=3.5)
    if decision.looks_bad_from is not None:
        axes.axvspan(decision.looks_bad_from, right, color=_WARN, alpha=0.10, linewidth=0)
        _note(axes, "starts to\nlook bad", decision.looks_bad_from, at_head=False, colour=_WARN)
    axes.axvline(decision.step, color=_ACCENT, linewidth=1.2)
    chosen = values[steps.index(decision.step)]
    axes.plot([decision.step], [chosen], marker="o", markersize=8, color=_CARD, mec=_ACCENT, mew=2.2)
    _note(axes, f"chosen: {decision.step}", decision.step, at_head=True, colour=_ACCENT)

    axes.set_title(title, loc="left", fontsize=10, color=_INK, fontweight="bold")
    axes.set_xlabel("step", fontsize=9, color=_MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=9, labelcolor=_MUTED, color=_LINE)
    axes.grid(axis="y", color=_LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_LINE)


def _label_lines(axes: Axes, baselines: dict[str, float]) -> None:
    """Write name and value of each horizontal line beside it, to the right of the panel, never over one another."""
    bottom, top = axes.get_ylim()
    ordered = sorted(baselines.items(), key=lambda item: item[1])
    places = [(value - bottom) / (top - bottom) for _, value in ordered]
    push = max(0.0, _LEAST_GAP - (places[1] - places[0])) / 2
    for (name, value), place in zip(ordered, (places[0] - push, places[1] + push), strict=True):
        text = f"{name}\n{value:.3f}"
        axes.annotate(
            text, (1, place), (5, 0), xycoords="axes fraction", textcoords="offset points", va="center", fontsize=8.7,
            color=_MUTED, annotation_clip=False,
        )  # fmt: skip


def _note(axes: Axes, text: str, step: int, *, at_head: bool, colour: str) -> None:
    """Write `text` beside the vertical at `step`, on the side with more room, at the panel's head or foot."""
    leftwards = step > axes.get_xlim()[1] / 2
    offset = (-4 if leftwards else 4, -3 if at_head else 3)
    axes.annotate(
        text, (step, 1 if at_head else 0), offset, xycoords=("data", "axes fraction"), textcoords="offset points",
        color=colour, fontsize=8.7, fontweight="bold", ha="right" if leftwards else "left",
        va="top" if at_head else "bottom", bbox={"facecolor": _CARD, "edgecolor": "none", "pad": 0.5},
    )  # fmt: skip


def _settle_ids(svg: str, prefix: str) -> str:
    """Number the ids in the order they appear: matplotlib salts them at random, and fixes the salt only globally."""
    numbers: dict[str, int] = {}

    def renamed(match: re.Match[str]) -> str:
        return f"{match[1]}{prefix}-{numbers.setdefault(match[2], len(numbers))}"

    return re.sub(r'(\bid="|href="#|url\(#)([^")]+)', renamed, svg)
