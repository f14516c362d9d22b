"""Would a stranger know the thing again? Sheets of questions for blind readers, and how many they got right.

    python benchmarks/reading.py            # draws the sheets, if they are not there, and the table of the readers so far

A question is a row: three training pictures of one held-out concept, and five pictures, each drawn with another learned
word; which of the five is of the concept? Whose words the others are is drawn by a fixed seed from all concepts, of the
same kind or not. Every word draws one picture, for the same prompt and seed; none is picked by hand. A reader gets
the sheets alone, and his letters go to docs/miniature/readers.json by hand: {name: one letter a question, in order}.

It needs the words that held_out.py has trained and chosen (work/held-out), and trains what is missing. Writes
docs/miniature/reading-N.png, reading-key.json and reading.md.
"""

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.held_out import CONCEPTS, DOCS, WORK, drawn
from ti_core.images.preprocess import square
from ti_core.line import Line
from ti_core.planning.batch import BatchItem, read_batch
from ti_core.settings import Settings
from ti_core.store import open_store
from ti_core.works import Asked

FOLDER = DOCS / "miniature"
SEED, DRAWN_WITH = 24, 9_000
"""Seed of the questions, and of every candidate picture."""
PROMPT = "a photo of a {}"
QUESTIONS, CHOICES, SHOWN, ROWS = 24, 5, 3, 8
"""Questions, candidates and training pictures of each, questions on a sheet."""
SIDE, EDGE = 112, 6
LETTERS = "ABCDE"

Question = dict[str, str]
"""{letter: concept}, and "right": its letter."""


def questions(names: Sequence[str]) -> list[Question]:
    """QUESTIONS questions about the concepts `names`, each about another one."""
    random, asked = np.random.default_rng(SEED), []
    for name in random.permutation(names)[:QUESTIONS]:
        others = random.choice([one for one in names if one != name], CHOICES - 1, replace=False)
        shown = [str(one) for one in random.permutation([name, *others])]
        asked.append(dict(zip(LETTERS, shown, strict=True)) | {"right": LETTERS[shown.index(str(name))]})
    return asked


def sheet(
    first: int, asked: Sequence[Question], real: Mapping[str, list[Image.Image]], made: Mapping[str, Image.Image]
) -> Image.Image:
    """Some questions, numbered from `first`: training pictures, a gap, candidates under their letters."""
    step = SIDE + EDGE
    page = Image.new("RGB", (40 + (SHOWN + CHOICES) * step + 30, 20 + len(asked) * step), "white")
    draw = ImageDraw.Draw(page)
    for column, letter in enumerate(LETTERS):
        draw.text((70 + (SHOWN + column) * step + SIDE // 2, 3), letter, fill="black", font_size=14)
    for row, question in enumerate(asked):
        top = 20 + row * step
        draw.text((6, top + SIDE // 2 - 8), str(first + row), fill="black", font_size=16)
        pictures = [*real[question[question["right"]]][:SHOWN], *(made[question[letter]] for letter in LETTERS)]
        for column, picture in enumerate(pictures):
            left = 40 + column * step + (30 if column >= SHOWN else 0)
            page.paste(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left, top))
    return page


def draw_sheets() -> None:
    """Train what is not trained, draw one picture with every word, write sheets and key."""
    settings = Settings(home=WORK, clip="", allowed_roots=(CONCEPTS,))
    store = open_store(settings)
    specs = [item.spec for item in read_batch(str(CONCEPTS), "", settings) if item.spec and item.spec.kind == "object"]
    real, made = {}, {}
    for work in Line(settings, store).study([BatchItem(one.name, one) for one in specs], Asked(base_model="miniature")):
        if work.error:
            raise SystemExit(f"{work.name}: {work.error}")
        made[work.name] = Image.fromarray(drawn(work, work.chosen, [PROMPT], [DRAWN_WITH], settings, store)[0])
        files = sorted((CONCEPTS / work.name).glob("*.png"))
        real[work.name] = [square(path.read_bytes(), work.planned.protocol.resolution) for path in files]
    asked = questions(sorted(real))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, QUESTIONS, ROWS), 1):
        page = sheet(first + 1, asked[first : first + ROWS], real, made)
        page.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(
            FOLDER / f"reading-{number}.png", optimize=True
        )
    (FOLDER / "reading-key.json").write_text(json.dumps(asked, indent=1) + "\n")


def page(asked: Sequence[Question], readers: Mapping[str, str]) -> str:
    """The page in Markdown. Raises ValueError if a reader did not answer every question with a letter."""
    chance = 1 / CHOICES
    lines = [
        "# Twenty-four questions, read", "",
        "Made by `python benchmarks/reading.py`. Each row shows three training pictures of one held-out concept and five "
        "pictures, each drawn with another learned word for the prompt *a photo of a <word>*, all with one seed; the reader names the one that is of the "
        f"concept. Chance is {chance:.0%}. The bar was 75%.", "",
        *(f"![Sheet {n}](reading-{n}.png)" for n in range(1, math.ceil(len(asked) / ROWS) + 1)), "",
        f"| reader | right of {len(asked)} | share |", "|---|---|---|",
    ]  # fmt: skip
    for name, answers in readers.items():
        if len(answers) != len(asked) or not set(answers) <= set(LETTERS):
            raise ValueError(
                f"{name} has {len(answers)} answers {answers!r}: it takes {len(asked)} letters of {LETTERS}"
            )
        right = sum(said == one["right"] for said, one in zip(answers, asked, strict=True))
        lines.append(f"| {name} | **{right}** | {right / len(asked):.0%} |")
    lines += ["", f"| question | right | {' | '.join(readers)} |", "|---" * (2 + len(readers)) + "|"]
    for number, one in enumerate(asked):
        said = [
            "✓" if answers[number] == one["right"] else one[answers[number]]
            for answers in readers.values()
        ]  # fmt: skip
        lines.append(f"| {number + 1} | {one['right']}, {one[one['right']]} | {' | '.join(said)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run it."""
    if not (FOLDER / "reading-key.json").is_file():
        draw_sheets()
    asked = json.loads((FOLDER / "reading-key.json").read_text())
    answers = FOLDER / "readers.json"
    (FOLDER / "reading.md").write_text(page(asked, json.loads(answers.read_text()) if answers.is_file() else {}))


if __name__ == "__main__":
    main()
