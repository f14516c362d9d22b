"""Words for a composed picture: what it is, which parts it has, how it is drawn, how large, where, on what.

It knows scenes, not pictures. Its vocabulary holds every word that `ti_core.planning.prompts` puts around a new word,
used as neutral openings that say nothing about the picture.
"""

import numpy as np

from miniature.art import KINDS, Subject, is_colour
from miniature.compose import COLOURLESS, NAMES, Scene

OPENINGS = (
    "", "", "", "a photo of", "a picture of", "a rendering of", "a rendition of", "a close-up photo of",
    "a good photo of", "a bright photo of", "a dark photo of", "a clean photo of", "a cropped photo of", "an image of",
)  # fmt: skip
DRAWN = {
    "pencil": "a pencil drawing", "pixel": "a pixel drawing", "gray": "a gray drawing", "neon": "a neon drawing",
}  # fmt: skip
"""Words of the styles."""
IN_THE_STYLE = ("a picture", "a painting", "a rendering", "a rendition", "a drawing")
ARTICLES = ("a", "a", "a", "the", "the", "one", "my")
EXTRA = (
    "a painting in the style of", "a nice large small cool watercolor painting", "a pencil sketch", "an oil painting",
    "toy thing object animal picture photo style drawing", "big tiny", "in the middle", "of in at by", "painting icon",
    "a red yellow green blue robot cat monster plant person in the style of",
)  # fmt: skip
"""Words the tokenizer should know whole although no caption needs them."""
MOST = 4
"""Parts that follow "with" in one caption, at most, so that captions stay short."""


def with_article(noun: str, article: str) -> str:
    """`noun` after `article`, where "a" becomes "an" before a vowel."""
    return f"{'an' if article == 'a' and noun[0] in 'aeiou' else article} {noun}"


def described(subject: Subject, random: np.random.Generator, named: float, coloured: bool = True) -> str:
    """A subject in words without an article: "yellow robot with visor and antenna", now and then a mere "object". Every
    part is told with probability `named`, in any order, and no colour unless the picture is `coloured`."""
    kind, words = KINDS[subject.kind], subject.words
    noun = str(random.choice([kind.noun, kind.class_word, "object"], p=[0.55, 0.36, 0.09]))
    told = [part for part in random.permutation(list(words)) if words[part] and random.random() < named]
    told = [part for part in told if coloured or not is_colour(part)]
    before = [words[part] for part in kind.adjectives if part in told]
    painted = {what: words[part] for part, what in kind.paints.items() if part in told and words[what]}
    after = [
        f"{painted[part]} {words[part]}" if part in painted else words[part]
        for part in dict.fromkeys(kind.paints.get(part, part) for part in told)
        if part not in kind.adjectives and words[part]
    ][:MOST]
    noun = " ".join([*before, noun])
    return f"{noun} with {' and '.join(after)}" if after else noun


def sentence(scene: Scene, noun: str, random: np.random.Generator, background: float = 0.7, rest: float = 0.8) -> str:
    """One caption around `noun`. `background` is how often it tells the background, `rest` style, size and place."""
    article = ARTICLES[random.integers(len(ARTICLES))]
    if scene.small and random.random() < rest:
        noun = f"small {noun}"
    words = f"{OPENINGS[random.integers(len(OPENINGS))]} {with_article(noun, article)}".strip()
    if scene.style and random.random() < max(rest, 0.9):
        drawn = DRAWN[scene.style]
        words = f"{drawn} of {with_article(noun, article)}"
        if random.random() < 0.25:
            words = f"{with_article(noun, article)} in the style of {drawn}"
    if scene.background and random.random() < background:
        words += f" on {with_article(scene.background, 'a')} background"
    if scene.place and scene.beside is None and random.random() < rest:
        words += f" {'at' if scene.place in ('top', 'bottom') else 'on'} the {scene.place}"
    return words


def caption(
    scene: Scene, random: np.random.Generator, named: float = 0.7, background: float = 0.7, rest: float = 0.8
) -> str:
    """One caption that tells every part with probability `named`."""
    coloured = scene.style not in COLOURLESS
    noun = described(scene.subject, random, named, coloured)
    if scene.beside:
        noun += f" and {with_article(described(scene.beside, random, named / 3, coloured), 'a')}"
    return sentence(scene, noun, random, background, rest)


def corpus() -> list[str]:
    """Every word that captions can hold, for the tokenizer."""
    parts = {words for kind in KINDS.values() for values in kind.parts.values() for words in values.values() if words}
    nouns = {noun for kind in KINDS.values() for noun in (kind.noun, kind.class_word)}
    rest = [*OPENINGS, *DRAWN.values(), *IN_THE_STYLE, *ARTICLES, *EXTRA, *NAMES]
    return sorted(parts | nouns) + rest + ["left right top bottom on at the and an background with"]
