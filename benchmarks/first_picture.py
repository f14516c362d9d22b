"""The README's first picture: words learned from five pictures, drawn on backgrounds and in styles that none of them had.

    python benchmarks/first_picture.py disco hook        # names of examples/concepts, a row each

Every picture is drawn with the word of the chosen step for the same seed; none is picked by hand. It needs what
held_out.py has trained and chosen (work/held-out), and trains what is missing. Writes docs/readme.png.
"""

import argparse

from PIL import Image, ImageDraw

from benchmarks.held_out import CONCEPTS, DOCS, WORK, drawn
from ti_core.images.preprocess import square
from ti_core.line import Line
from ti_core.planning.batch import BatchItem, read_batch
from ti_core.settings import Settings
from ti_core.store import open_store
from ti_core.works import Asked

PROMPTS = {
    "a photo of a {}": "a photo of it",
    "a {} on a purple background": "on purple",
    "a {} on a brown background": "on brown",
    "a small {} on a white background": "small, on white",
    "a pencil drawing of a {}": "pencil drawing",
    "a neon drawing of a {}": "neon drawing",
}
"""Prompts, and what stands over their columns."""
SEED, STEPS = 9_000, 20
SHOWN, SIDE, EDGE, TOP = 5, 128, 6, 40
GAP = 24


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    names = parser.parse_args().names
    settings = Settings(home=WORK, clip="", allowed_roots=(CONCEPTS,))
    store = open_store(settings)
    specs = {item.name: item.spec for item in read_batch(str(CONCEPTS), "", settings) if item.spec}
    works = {
        work.name: work
        for work in Line(settings, store).study(
            [BatchItem(name, specs[name]) for name in names], Asked(base_model="miniature")
        )
    }
    step = SIDE + EDGE
    page = Image.new("RGB", ((SHOWN + len(PROMPTS)) * step + GAP, TOP + len(names) * step), "white")
    draw = ImageDraw.Draw(page)
    draw.text((4, 12), "the pictures that went in", fill="black", font_size=15)
    for column, words in enumerate(PROMPTS.values()):
        draw.text((SHOWN * step + GAP + column * step + 4, 12), words, fill="black", font_size=15)
    for row, name in enumerate(names):
        work = works[name]
        made = drawn(work, work.chosen, list(PROMPTS), [SEED], settings, store, STEPS)
        files = sorted((CONCEPTS / name).glob("*.png"))[:SHOWN]
        real = [square(path.read_bytes(), work.planned.protocol.resolution) for path in files]
        for column, picture in enumerate([*real, *map(Image.fromarray, made)]):
            left = column * step + (GAP if column >= SHOWN else 0)
            page.paste(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left, TOP + row * step))
    page.convert("P", palette=Image.Palette.ADAPTIVE, colors=160).save(DOCS / "readme.png", optimize=True)


if __name__ == "__main__":
    main()
