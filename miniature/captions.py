"""Words for a composed picture: what it is, how it is drawn, how large, where, on what.

It knows scenes, not pictures. Its vocabulary holds every word that `ti_core.planning.prompts` puts around a new word,
used as neutral openings that say nothing about the picture.
"""

from typing import Literal

import numpy as np

from miniature.art import Drawing
from miniature.compose import NAMES, Scene

OPENINGS = (
    "", "", "", "a photo of", "a picture of", "a rendering of", "a rendition of", "a close-up photo of",
    "a good photo of", "a bright photo of", "a dark photo of", "a clean photo of", "a cropped photo of", "an image of",
)  # fmt: skip
STYLES = {
    "noto": "a sticker of", "noto-v1": "an old sticker of", "twemoji": "a flat icon of", "fluent": "a glossy icon of",
    "fluent-flat": "a flat drawing of", "fluent-3d": "a 3d rendering of",
}  # fmt: skip
ARTICLES = ("a", "a", "a", "the", "the", "one", "my")
EXTRA = (
    "a painting in the style of", "a nice large small cool watercolor painting", "a pencil sketch", "an oil painting",
    "toy thing object hat pot vehicle animal picture photo style drawing", "big tiny", "in the middle", "of in at by",
)  # fmt: skip
"""Words the tokenizer should know whole although no caption needs them."""
Subject = Literal["name", "category", "thing"]


def with_article(noun: str, article: str) -> str:
    """`noun` after `article`, where "a" becomes "an" before a vowel."""
    return f"{'an' if article == 'a' and noun[0] in 'aeiou' else article} {noun}"


def caption(
    scene: Scene, random: np.random.Generator, subject: Subject = "name", background: float = 0.6, rest: float = 0.75
) -> str:
    """One caption. `background` is how often it tells the background, `rest` size and place; style a third as often."""
    drawing = scene.drawing
    noun = {"name": drawing.concept, "category": drawing.category, "thing": "thing"}[subject]
    if subject == "name" and drawing.synonyms and random.random() < 0.1:
        noun = str(random.choice(drawing.synonyms))
    if drawing.colour and drawing.colour not in noun and random.random() < 0.2:
        noun = f"{drawing.colour} {noun}"
    if scene.small and random.random() < rest:
        noun = f"small {noun}"
    opening = OPENINGS[random.integers(len(OPENINGS))]
    if random.random() < 0.3 * rest:
        opening = STYLES[drawing.style]
    words = f"{opening} {with_article(noun, ARTICLES[random.integers(len(ARTICLES))])}".strip()
    if scene.place and random.random() < rest:
        words += f" {'at' if scene.place in ('top', 'bottom') else 'on'} the {scene.place}"
    if random.random() < background:
        ground = f"{scene.background} and {scene.second}" if scene.second else scene.background
        words += f" on {with_article(ground, 'a')} background"
    return words


def corpus(drawings: list[Drawing]) -> list[str]:
    """Every word that captions can hold, for the tokenizer. Held-out drawings give none."""
    seen = [one for one in drawings if not one.held_out]
    words = {one.concept for one in seen} | {one.category for one in seen} | {s for one in seen for s in one.synonyms}
    lines = [
        *OPENINGS,
        *STYLES.values(),
        *ARTICLES,
        *EXTRA,
        *NAMES,
        "left right top bottom on at the and an background",
    ]
    return sorted(words) + lines
