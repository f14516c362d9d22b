"""Compose the example concepts: thirty-two subjects of the miniature's world and one style, five pictures each.

    pip install robohash==2.0 dicebear-core==10.7.0 dicebear-styles==10.6.0 resvg-py==0.5.0   # the art
    PYTHONPATH=. python examples/compose.py

No subject was in the data of the miniature that ships with the package: all of its parts were, its combination was not
(`miniature.art.Subject.held_out`). The style was left out as a whole. The pictures are put together the way the
training data was, at 160 pixels: each in another place, size and colour of the background, some mirrored, some with
another expression. No picture has a background that `miniature.measure` asks for as an edit.

It writes `concepts/<slug>/NN.png` and `concept.toml`, and `truth.json`: {slug: {kind, parts}}, what there is to read
off the pictures. Every draw depends on the seed, the slug and nothing else.

Shapes: H = W = SIZE pixels, C channels; values are floats in [0, 255].
"""

import argparse
import json
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from miniature.art import COLOURS, KINDS, Subject, draw, random_subject
from miniature.compose import UNSEEN_STYLE, restyle

SIZE = 160
SEED = 7
GROUNDS = ("red", "yellow", "green", "blue", "pink", "black", "gray")
"""Backgrounds of the examples."""
PICTURES = (("large", ""), ("large", ""), ("middling", "side"), ("middling", "height"), ("small", "side"))
"""Size and place of the pictures of one subject."""
SCALES = {"large": (0.78, 0.94), "middling": (0.6, 0.7), "small": (0.42, 0.5)}


@dataclass(frozen=True)
class Concept:
    """A folder's name and its subject, parts in the order of `KINDS`."""

    slug: str
    kind: str
    parts: str
    """Values, separated by "|"."""

    @property
    def subject(self) -> Subject:
        """The subject; raises ValueError if it is one that the miniature may have learned."""
        subject = Subject(self.kind, tuple(self.parts.split("|")))
        if not subject.held_out:
            raise ValueError(f"{self.slug}: {subject} is not held out")
        return subject


CONCEPTS = (
    Concept("bluebell", "person", "pale|extraLong|blue|happy||frown|checkered|green"),
    Concept("bubblegum", "block robot", "pink|fin|round|zigzag|buttons|yellow"),
    Concept("daisy", "plant", "green|tub|flower pink|happy|ooh"),
    Concept("disco", "cat", "6|9|10|0|6"),
    Concept("drowsy", "monster", "cyan|squat|bobble|white|sleepy|ooh"),
    Concept("ember", "robot", "red|06|09|09|02|05"),
    Concept("ghost", "robot", "white|03|06|09|07|09"),
    Concept("giggle", "monster", "pink|wedgeInv|antennae|white|happy|grin"),
    Concept("goldie", "robot", "yellow|10|06|04|03|03"),
    Concept("granny", "person", "brown|extraLong|white|glasses||surprise|squared|white"),
    Concept("grape", "block robot", "purple||visor|grill||red"),
    Concept("grump", "monster", "yellow|block|earsPointy|yellow|angry|zigzag"),
    Concept("hook", "robot", "blue|07|08|06|08|05"),
    Concept("ketchup", "monster", "red|tower|crown|red|round|zigzag"),
    Concept("lilac", "cat", "3|9|12|1|14"),
    Concept("marmalade", "cat", "14|0|2|8|7"),
    Concept("midnight", "cat", "2|0|0|1|0"),
    Concept("mister", "person", "dark|shortCombover|black|sunglasses|walrus|bigSmile|checkered|yellow"),
    Concept("moss", "monster", "green|dome|horns|green|happy|smile"),
    Concept("ninja", "cat", "11|4|6|0|3"),
    Concept("plum", "plant", "pink|round|tulip purple|round|ooh"),
    Concept("prickle", "plant", "blue|cylinder|cactus|sleepy|smile"),
    Concept("radar", "robot", "gray|07|07|09|05|08"),
    Concept("redbeard", "person", "tan|mohawk|red|sunglasses|beardMustache|surprise|squared|red"),
    Concept("siren", "block robot", "cyan|siren|plus|smile|dial|yellow"),
    Concept("sparky", "robot", "orange|07|05|04|10|09"),
    Concept("thorn", "plant", "orange|tub|grass|angry|frown"),
    Concept("tin", "block robot", "blue|antenna|cyclops|smile|heart|cyan"),
    Concept("trio", "monster", "orange|bell|earsRound|red|trio|grin"),
    Concept("tulip", "plant", "gray|taper|tulip red|sleepy|grin"),
    Concept("vanilla", "cat", "13|2|6|1|13"),
    Concept("walrus", "person", "tan|pigtails|brown|happy|walrus|frown|squared|purple"),
)
STYLE = "blueprint"
"""The style's slug; its pictures show one subject of each kind but one."""


def other_expression(subject: Subject, random: np.random.Generator) -> Subject:
    """The same subject with another mouth."""
    names = list(KINDS[subject.kind].parts)
    at = names.index("mouth")
    mouths = [value for value in KINDS[subject.kind].parts["mouth"] if value != subject.values[at]]
    return replace(subject, values=(*subject.values[:at], str(random.choice(mouths)), *subject.values[at + 1 :]))


def picture(
    subject: Subject, size: str, place: str, ground: str, mirrored: bool, random: np.random.Generator
) -> NDArray[np.float32]:
    """One subject on a plain background, [H, W, 3]."""
    side = round(SIZE * random.uniform(*SCALES[size]))
    thing = draw(subject, side).astype(np.float32)
    if mirrored:
        thing = thing[:, ::-1]
    free = SIZE - side
    x, y = (int(free // 2 + random.integers(-free // 10, free // 10 + 1)) for _ in range(2))
    edge = int(random.choice([3, free - 3]))
    x, y = (edge if place == "side" else x), (edge if place == "height" else y)
    canvas = np.tile(np.array(COLOURS[ground], np.float32) + random.uniform(-8, 8, 3), (SIZE, SIZE, 1))
    here = canvas[y : y + side, x : x + side]
    here[...] = here * (1 - thing[..., 3:] / 255) + thing[..., :3]
    return canvas.clip(0, 255).astype(np.float32)


def of_subject(concept: Concept) -> list[NDArray[np.float32]]:
    """The pictures of one subject; every second subject has one picture with another expression."""
    random = np.random.default_rng([SEED, *concept.slug.encode()])
    subject = concept.subject
    grounds = [str(one) for one in random.permutation([name for name in GROUNDS if name != subject.colour])]
    mirrored = random.permutation([False, True, False, True, bool(random.integers(2))])
    last = other_expression(subject, random) if zlib.crc32(concept.slug.encode()) % 2 else subject
    shown = [subject, subject, last, subject, subject]
    return [
        picture(who, size, place, ground, bool(turned), random)
        for who, (size, place), ground, turned in zip(shown, PICTURES, grounds, mirrored, strict=False)
    ]


def of_style() -> list[NDArray[np.float32]]:
    """Five subjects that the miniature knows, drawn in the style that it does not."""
    random = np.random.default_rng([SEED, *STYLE.encode()])
    made = []
    for kind, (size, place) in zip(KINDS, PICTURES, strict=False):
        one = picture(random_subject(kind, random), size, place, str(random.choice(GROUNDS)), False, random)
        pixels = torch.from_numpy(one).permute(2, 0, 1)[None] / 255
        made.append(restyle(pixels, UNSEEN_STYLE)[0].permute(1, 2, 0).numpy() * 255)
    return made


def write(folder: Path, class_word: str, kind: str, pictures: list[NDArray[np.float32]]) -> None:
    """One concept's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "concept.toml").write_text(f'class_word = "{class_word}"\nkind = "{kind}"\n')
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels.round().astype(np.uint8)).save(folder / f"{number + 1:02d}.png", optimize=True)


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description="Compose the example concepts.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where concepts/ lies")
    out = parser.parse_args().out
    truth = {}
    for concept in CONCEPTS:
        subject = concept.subject
        write(out / "concepts" / concept.slug, KINDS[concept.kind].class_word, "object", of_subject(concept))
        truth[concept.slug] = {"kind": subject.kind, "parts": subject.parts}
    write(out / "concepts" / STYLE, "drawing", "style", of_style())
    (out / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")


if __name__ == "__main__":
    main()
