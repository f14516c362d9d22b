"""Prompts: neutral templates for training, and disjoint prompt sets for choosing and for reporting.

Every prompt holds one `{}`, where the new word or the class word goes. This module knows no models.
"""

from ti_core.config import BackboneKind
from ti_core.records import PromptSet

# After the neutral context texts of the textual-inversion paper (arXiv 2208.01618, section 3.3), which derive from
# CLIP's ImageNet templates: they say nothing about the thing, so that all of it goes into the vectors.
OBJECT_TEMPLATES = (
    "a photo of a {}",
    "a photo of the {}",
    "a photo of one {}",
    "a photo of my {}",
    "a good photo of a {}",
    "a good photo of the {}",
    "a bright photo of the {}",
    "a dark photo of the {}",
    "a clean photo of the {}",
    "a cropped photo of a {}",
    "a cropped photo of the {}",
    "a close-up photo of a {}",
    "a close-up photo of the {}",
    "a rendering of a {}",
    "a rendition of the {}",
    "a picture of a {}",
)
STYLE_TEMPLATES = (
    "a painting in the style of {}",
    "a picture in the style of {}",
    "a rendering in the style of {}",
    "a rendition in the style of {}",
    "a small painting in the style of {}",
    "a large painting in the style of {}",
    "a bright painting in the style of {}",
    "a dark painting in the style of {}",
    "a cropped painting in the style of {}",
    "a close-up painting in the style of {}",
    "a cool painting in the style of {}",
    "a nice painting in the style of {}",
)


def templates(kind: str) -> tuple[str, ...]:
    """Training templates for `object` or `style`."""
    return STYLE_TEMPLATES if kind == "style" else OBJECT_TEMPLATES


# A style is judged on what it paints; the class word then stands for the medium (painting, drawing, icon).
_STYLE_PLAIN = {
    "select": (
        "a picture in the style of {}", "a painting in the style of {}", "a rendering in the style of {}",
        "a rendition in the style of {}", "a bright painting in the style of {}", "a cropped picture in the style of {}",
    ),
    "report": (
        "a small painting in the style of {}", "a dark painting in the style of {}", "a nice picture in the style of {}",
        "a close-up painting in the style of {}", "a large painting in the style of {}", "a cool picture in the style of {}",
    ),
}  # fmt: skip

# The miniature knows subjects made of parts, colours of the background, sizes, places and a few styles.
_MINIATURE = {
    "object": {
        "select": (
            ("a photo of a {}", "a rendition of a {}", "a close-up photo of a {}", "a picture of the {}",
             "a photo of the {}", "a rendering of a {}"),
            ("a {} on a blue background", "a {} on a red background", "a {} on a green background",
             "a small {} on a yellow background", "a {} on a black background", "a photo of a {} on a pink background"),
        ),
        "report": (
            ("a good photo of a {}", "a cropped photo of the {}", "a photo of one {}", "a rendition of the {}",
             "a picture of a {}", "a close-up photo of the {}"),
            ("a {} on a purple background", "a {} on an orange background", "a small {} on a white background",
             "a photo of a {} on a gray background", "a {} on a brown background", "a rendering of a {} on a cyan background"),
        ),
    },
    "style": {
        "select": (
            _STYLE_PLAIN["select"],
            ("a robot in the style of {}", "a cat in the style of {}", "a monster in the style of {}",
             "a plant in the style of {}", "a person in the style of {}", "a small robot in the style of {}"),
        ),
        "report": (
            _STYLE_PLAIN["report"],
            ("a spotted cat in the style of {}", "a robot with one eye in the style of {}", "a monster with horns in the style of {}",
             "a cactus in the style of {}", "a person with glasses in the style of {}", "a small cat in the style of {}"),
        ),
    },
}  # fmt: skip

_SD = {
    "object": {
        "select": (
            ("a photo of a {}", "a close-up photo of a {}", "a good photo of the {}", "a rendering of a {}",
             "a bright photo of the {}", "a picture of a {}"),
            ("a {} on a sandy beach", "a {} in a snowy forest", "a {} on a wooden table in a kitchen",
             "a watercolor painting of a {}", "a {} floating on water", "a photo of a {} in front of a city skyline"),
        ),
        "report": (
            ("a photo of the {}", "a cropped photo of a {}", "a rendition of a {}", "a clean photo of the {}",
             "a good photo of a {}", "a picture of the {}"),
            ("a {} in a flower meadow", "a {} on a cobblestone street", "a pencil sketch of a {}",
             "a {} on a bookshelf", "a {} at night under street lights", "an oil painting of a {} by a lake"),
        ),
    },
    "style": {
        "select": (
            _STYLE_PLAIN["select"],
            ("a house in the style of {}", "a cat in the style of {}", "a tree in the style of {}",
             "a bus in the style of {}", "an apple in the style of {}", "a fish in the style of {}"),
        ),
        "report": (
            _STYLE_PLAIN["report"],
            ("a dog in the style of {}", "a flower in the style of {}", "a boat in the style of {}",
             "a car in the style of {}", "a bird in the style of {}", "a mountain in the style of {}"),
        ),
    },
}  # fmt: skip

SELECT_SEED = 1_000
"""First seed of the choosing set; the reporting set starts at `REPORT_SEED`, so that they never meet."""
REPORT_SEED = 2_000


def prompt_sets(backbone: BackboneKind, kind: str, seeds: int) -> tuple[PromptSet, PromptSet]:
    """Return the (choosing, reporting) prompt sets: no prompt and no seed is in both. `seeds` pictures per prompt."""
    texts = (_MINIATURE if backbone == "miniature" else _SD)[kind]

    def one(split: str, first: int) -> PromptSet:
        plain, edit = texts[split]
        return PromptSet(plain=plain, edit=edit, seeds=tuple(range(first, first + seeds)))

    return one("select", SELECT_SEED), one("report", REPORT_SEED)
