"""Stage 1, the art: a world of subjects made of parts, drawn from two packages of part pictures.

    python -m miniature.art

A subject is a kind (robot, block robot, cat, monster, plant, person) and one value for each of its parts. Robots and
cats are layers of `robohash`, the others `dicebear` drawings with chosen variants and colours. Which values are taken,
and the words for them, stand in `KINDS`: they were written by looking at the parts at 64 pixels and leaving out what
cannot be told apart there. Writes `art.npy`, uint8 [N, 96, 96, 4], premultiplied RGBA cropped to the subject and padded
to a square, and `art.json`, the subjects. One combination in ten, by a hash of its parts, is held out: drawn, because
it is what is measured on, and flagged; no training stage reads a flagged one. Every part of it was seen elsewhere.
"""

import hashlib
import io
import json
import multiprocessing
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from miniature.common import SEED, WORK, arguments, log

DRAWN = 96
"""Pixels of a drawing's side."""
SEEN, KEPT = 1_000, 100
"""Subjects drawn of each kind to train on, and of held-out ones."""
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40), "orange": (244, 140, 40), "yellow": (250, 210, 60), "green": (56, 150, 76),
    "blue": (48, 96, 210), "purple": (120, 64, 170), "pink": (244, 160, 196), "brown": (122, 78, 48),
    "black": (20, 20, 22), "white": (248, 248, 248), "gray": (150, 152, 156), "cyan": (90, 204, 214),
}  # fmt: skip
"""Names of colours, of subjects and of backgrounds."""
_NOT_BLACK = tuple(name for name in COLOURS if name != "black")


@dataclass(frozen=True)
class Kind:
    """One kind of subject. `adjectives` are parts whose words go before the noun (or, "colour what", before another
    part's words: `{"hair colour": "hair"}`); `parts` maps every part's values to their words; "" says nothing."""

    noun: str
    class_word: str
    parts: dict[str, dict[str, str]]
    adjectives: tuple[str, ...]
    paints: dict[str, str]


def _plain(*values: str) -> dict[str, str]:
    return {value: value for value in values}


KINDS: dict[str, Kind] = {
    "robot": Kind(
        "robot", "robot",
        {
            "colour": _plain("blue", "brown", "green", "gray", "orange", "pink", "purple", "red", "white", "yellow"),
            "body": {"10": "broad shoulders", "03": "thin body", "07": "round body", "06": "bare neck"},
            "head": {"07": "wedge head", "08": "hooked head", "05": "can head", "10": "box head", "09": "cone head",
                     "06": "bulb head"},
            "mouth": {"07": "grille", "04": "yellow grin", "06": "slot mouth", "09": "orange teeth"},
            "eyes": {"07": "yellow eyes", "10": "visor", "02": "goggles", "03": "red visor", "05": "one eye",
                     "08": "slit eyes"},
            "top": {"": "", "03": "antenna", "05": "dish", "09": "springs", "10": "spike", "06": "moustache",
                    "08": "aerial"},
        },
        ("colour",), {},
    ),
    "cat": Kind(
        "cat", "cat",
        {
            "colour": {"1": "green", "2": "black", "3": "purple", "4": "red", "6": "pink", "7": "brown", "8": "blue",
                       "9": "yellow", "11": "gray", "13": "white", "14": "orange"},
            "fur": {"2": "", "0": "striped", "4": "patched", "9": "spotted"},
            "eyes": {"0": "big eyes", "2": "dot eyes", "4": "monocle", "6": "closed eyes", "10": "fierce eyes",
                     "12": "glasses"},
            "mouth": {"0": "open mouth", "1": "smile", "8": "grin"},
            "wears": {"15": "", "0": "red scarf", "3": "red headband", "4": "red bow", "5": "black hat",
                      "6": "red headphones", "7": "blue scarf", "12": "blue bow", "13": "red hat",
                      "14": "white headphones"},
        },
        ("colour", "fur"), {},
    ),
    "monster": Kind(
        "monster", "monster",
        {
            "colour": _plain(*_NOT_BLACK),
            "body": {"dome": "dome body", "block": "square body", "tower": "tall body", "squat": "wide body",
                     "bell": "bell body", "wedgeInv": "funnel body"},
            "top": {"": "", "horns": "horns", "spike": "spike", "antennae": "antennae", "earsRound": "round ears",
                    "earsPointy": "pointed ears", "crown": "crown", "sprout": "sprout", "bobble": "bobble"},
            "top colour": _plain("red", "yellow", "green", "blue", "white"),
            "eyes": {"round": "two eyes", "mono": "one eye", "trio": "three eyes", "happy": "happy eyes",
                     "sleepy": "sleepy eyes", "angry": "angry eyes"},
            "mouth": {"smile": "smile", "grin": "open mouth", "teeth": "teeth", "ooh": "round mouth", "frown": "frown",
                      "zigzag": "zigzag mouth"},
        },
        ("colour",), {"top colour": "top"},
    ),
    "plant": Kind(
        "plant", "plant",
        {
            "colour": _plain(*_NOT_BLACK),
            "pot": {"taper": "plain pot", "cylinder": "narrow pot", "tub": "wide pot", "round": "round pot"},
            "plant": {"sprout": "sprout", "cactus": "cactus", "succulent": "spiky leaves", "bush": "bush",
                      "flower yellow": "yellow flower", "flower pink": "pink flower", "tulip red": "red tulip",
                      "tulip purple": "purple tulip", "palm": "palm leaves", "grass": "grass"},
            "eyes": {"round": "two eyes", "happy": "happy eyes", "sleepy": "sleepy eyes", "angry": "angry eyes"},
            "mouth": {"smile": "smile", "grin": "open mouth", "frown": "frown", "ooh": "round mouth"},
        },
        ("colour",), {},
    ),
    "block robot": Kind(
        "block robot", "robot",
        {
            "colour": _plain(*(name for name in COLOURS if name not in ("black", "brown"))),
            "top": {"": "", "antenna": "antenna", "twin": "two antennas", "dish": "dish", "fin": "fin",
                    "siren": "siren"},
            "eyes": {"round": "two eyes", "visor": "visor", "cyclops": "one eye", "happy": "happy eyes",
                     "plus": "plus eyes"},
            "mouth": {"grill": "grille", "smile": "smile", "zigzag": "zigzag mouth"},
            "chest": {"": "", "heart": "heart", "buttons": "buttons", "screen": "screen", "dial": "dial"},
            "lights": _plain("cyan", "yellow", "red", "white"),
        },
        ("colour",), {"lights": "eyes"},
    ),
    "person": Kind(
        "person", "person",
        {
            "skin": _plain("pale", "tan", "brown", "dark"),
            "hair": {"bobCut": "short hair", "curly": "curly hair",
                     "extraLong": "long hair", "mohawk": "mohawk", "pigtails": "pigtails", "shortCombover": "quiff",
                     "curlyHighTop": "high hair"},
            "hair colour": _plain("black", "brown", "orange", "yellow", "white", "red", "blue"),
            "eyes": {"open": "open eyes", "happy": "happy eyes", "glasses": "glasses", "sunglasses": "sunglasses"},
            "beard": {"": "", "beardMustache": "beard", "walrus": "moustache"},
            "mouth": {"bigSmile": "grin", "frown": "frown", "surprise": "open mouth"},
            "shirt": {"squared": "shirt", "checkered": "checked shirt"},
            "shirt colour": _plain("red", "yellow", "green", "blue", "purple", "white", "orange"),
        },
        ("skin",), {"hair colour": "hair", "shirt colour": "shirt"},
    ),
}  # fmt: skip
"""All kinds. A robot's and a cat's values name files, the others' variants and colours of the drawings."""
STYLES = {
    "monster": ("critters", {"bodyVariant": "body", "topVariant": "top", "eyesVariant": "eyes",
                             "mouthVariant": "mouth"},
                {"bodyColor": "colour", "accentColor": "top colour"}),
    "plant": ("sprouts", {"potVariant": "pot", "eyesVariant": "eyes", "mouthVariant": "mouth"}, {"potColor": "colour"}),
    "block robot": ("voxel-bot", {"topVariant": "top", "eyesVariant": "eyes", "mouthVariant": "mouth",
                                  "chestVariant": "chest"}, {"bodyColor": "colour", "glowColor": "lights"}),
    "person": ("personas", {"hairVariant": "hair", "eyesVariant": "eyes", "facialHairVariant": "beard",
                            "mouthVariant": "mouth", "clothesVariant": "shirt"},
               {"skinColor": "skin", "hairColor": "hair colour", "facialHairColor": "hair colour",
                "clothingColor": "shirt colour"}),
}  # fmt: skip
"""{kind: (dicebear style, {option: part}, {colour option: part})}."""
FIXED: dict[str, dict[str, Any]] = {
    "monster": {"animationVariant": "none", "patternProbability": 0, "cheeksProbability": 0},
    "plant": {"animationVariant": "none", "patternProbability": 0, "cheeksProbability": 0, "plantColor": "#2f9e44"},
    "block robot": {"animationVariant": "none", "accentColor": "#495057", "screenColor": "#161a21"},
    "person": {"noseVariant": "smallRound"},
}
SKINS = {"pale": "#f6cdbb", "tan": "#e0a07e", "brown": "#a9694f", "dark": "#623d36"}
DIM = 0.2
"""How far drawn colours go towards mid-grey, so that outlines and eyes show on white and on black subjects."""
LAYERS = {
    "robot": (("01Body", "body"), ("02Face", "head"), ("Mouth", "mouth"), ("Eyes", "eyes"), ("Accessory", "top")),
    "cat": (("00body", "colour"), ("01fur", "fur"), ("02eyes", "eyes"), ("03mouth", "mouth"),
            ("04accessories", "wears")),
}  # fmt: skip
"""{kind: (folder's name after its number, part)}, from back to front."""


def is_colour(part: str) -> bool:
    """Whether a part's values are colours."""
    return part.endswith("colour") or part in ("skin", "lights")


@dataclass(frozen=True)
class Subject:
    """One subject: its kind and the value of every part, in the order of the kind's parts."""

    kind: str
    values: tuple[str, ...]

    @property
    def held_out(self) -> bool:
        """Whether no training stage may see this combination."""
        return hashlib.sha256("|".join((self.kind, *self.values)).encode()).digest()[0] % 10 == 0

    @property
    def parts(self) -> dict[str, str]:
        """{part: value}."""
        return dict(zip(KINDS[self.kind].parts, self.values, strict=True))

    @property
    def words(self) -> dict[str, str]:
        """{part: its words, "" where it says nothing}."""
        return {part: KINDS[self.kind].parts[part][value] for part, value in self.parts.items()}

    @property
    def colour(self) -> str:
        """The name of the main colour, which no background behind it has; "" for a person."""
        return self.words.get("colour", "")


def random_subject(kind: str, random: np.random.Generator) -> Subject:
    """One combination, every value equally likely."""
    return Subject(kind, tuple(str(random.choice(list(values))) for values in KINDS[kind].parts.values()))


@cache
def _layer(kind: str, folder: str, name: str) -> Image.Image:
    package = find_spec("robohash")
    if package is None or package.origin is None:
        raise SystemExit("The art of robots and cats comes from the package robohash, which is not installed.")
    art = "set4" if kind == "cat" else f"set1/{name.partition('_')[0]}"
    root = Path(package.origin).parent / "sets" / art
    (path,) = root.glob(f"*#{folder}/*#{name}.png")
    return Image.open(path).convert("RGBA")


def _layers(subject: Subject) -> Image.Image:
    parts = subject.parts
    made = None
    for folder, part in LAYERS[subject.kind]:
        if parts[part] == "":
            continue
        what = folder.lstrip("0123456789").lower()
        if subject.kind == "cat":
            name = f"{'accessory' if part == 'wears' else what}{parts[part]}"
        else:
            name = f"{parts['colour'].replace('gray', 'grey')}_*{what}-{parts[part]}"  # one file has two underscores
        layer = _layer(subject.kind, folder, name)
        made = layer if made is None else Image.alpha_composite(made, layer.resize(made.size))
    assert made is not None  # noqa: S101  # for the type checker: every kind has layers that are never left out
    return made


def _hex(name: str) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(round(c + DIM * (140 - c)) for c in COLOURS[name]))


@cache
def _style(name: str) -> Any:
    import dicebear
    import dicebear_styles

    return dicebear.Style(json.loads((Path(next(iter(dicebear_styles.__path__))) / f"{name}.json").read_text()))


def _avatar(subject: Subject) -> Image.Image:
    import resvg_py
    from dicebear import Avatar

    parts = subject.parts
    name, variants, colours = STYLES[subject.kind]
    options = {"seed": "same", "backgroundColor": "#00000000", **FIXED[subject.kind]}
    for option, part in variants.items():
        options[option.replace("Variant", "Probability")] = 100 if parts[part] else 0
        if parts[part]:
            options[option] = parts[part]
    for option, part in colours.items():
        options[option] = SKINS[parts[part]] if part == "skin" else _hex(parts[part])
    if subject.kind == "plant":
        options["plantVariant"], _, bloom = parts["plant"].partition(" ")
        options["bloomColor"] = _hex(bloom or "yellow")
    svg = Avatar(_style(name), options).to_string()
    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * DRAWN))))


def draw(subject: Subject, side: int = DRAWN) -> NDArray[np.uint8]:
    """Premultiplied RGBA [side, side, 4] of a subject, cropped to what is seen and padded to a square."""
    picture = _layers(subject) if subject.kind in LAYERS else _avatar(subject)
    rgba = np.asarray(picture.convert("RGBA")).astype(np.float32)
    rgba[..., :3] *= rgba[..., 3:] / 255
    rows, columns = (np.flatnonzero((rgba[..., 3] > 8).any(axis=axis)) for axis in (1, 0))
    rgba = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    high, wide = rgba.shape[:2]
    square = np.zeros((max(high, wide),) * 2 + (4,), np.float32)
    top, left = (len(square) - high) // 2, (len(square) - wide) // 2
    square[top : top + high, left : left + wide] = rgba
    planes = [np.asarray(Image.fromarray(square[..., c]).resize((side, side), Image.Resampling.BOX)) for c in range(4)]
    out: NDArray[np.uint8] = np.stack(planes, -1).round().clip(0, 255).astype(np.uint8)
    out[..., :3] = np.minimum(out[..., :3], out[..., 3:])
    return out


def choose(seen: int, kept: int) -> list[Subject]:
    """Distinct subjects: of every kind `seen` to train on and `kept` held-out ones."""
    chosen: list[Subject] = []
    for number, kind in enumerate(KINDS):
        random = np.random.default_rng((SEED, number))
        wanted = {False: seen, True: kept}
        found: dict[Subject, None] = {}
        while any(wanted.values()):
            one = random_subject(kind, random)
            if one not in found and wanted[one.held_out]:
                found[one] = None
                wanted[one.held_out] -= 1
        chosen += found
    return chosen


def read_art() -> tuple[NDArray[np.uint8], list[Subject]]:
    """What this stage wrote."""
    entries = json.loads((WORK / "art.json").read_text())
    return np.load(WORK / "art.npy"), [Subject(e["kind"], tuple(e["values"])) for e in entries]


def main() -> None:
    """Run the stage."""
    scale = arguments(__doc__ or "")
    if (WORK / "art.json").is_file():
        return
    subjects = choose(max(30, int(SEEN * min(1.0, scale * 4))), max(10, int(KEPT * min(1.0, scale * 4))))
    with multiprocessing.Pool() as pool:
        np.save(WORK / "art.npy", np.stack(pool.map(draw, subjects, chunksize=16)))
    (WORK / "art.json").write_text(json.dumps([asdict(one) for one in subjects]))
    log.info("%d subjects, %d of them held out", len(subjects), sum(one.held_out for one in subjects))


if __name__ == "__main__":
    main()
