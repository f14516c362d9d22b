"""Stage 1, the art: fetch emoji packages from npm, keep the concepts we want, draw them at one size.

    python -m miniature.art

Writes `art.npz`-like files in the work folder: `art.npy`, uint8 [N, 96, 96, 4], premultiplied RGBA cropped to the
thing and padded to a square, and `art.json`, one entry a drawing: concept, style, category, colour, whether held out.
Held-out concepts are drawn too (they are what is measured on), but flagged; no later stage trains on a flagged one.
"""

import io
import json
import re
import shutil
import subprocess
import tarfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from miniature.common import WORK, arguments, log

DRAWN = 96
"""Pixels of a drawing's side."""
NAMES = "emoji-datasource-google@16.0.0"
"""Read for code points, categories and synonyms alone."""
SVG_STYLES = {
    "noto": "@iconify-json/noto@1.2.9",
    "noto-v1": "@iconify-json/noto-v1@1.2.5",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "fluent": "@iconify-json/fluent-emoji@1.2.7",
    "fluent-flat": "@iconify-json/fluent-emoji-flat@1.2.6",
}
WEBP_STYLE = ("fluent-3d", "@lobehub/fluent-emoji-3d@1.1.0")

CATEGORIES = {
    "face-smiling": "face", "face-affection": "face", "face-tongue": "face", "face-hand": "face",
    "face-neutral-skeptical": "face", "face-sleepy": "face", "face-unwell": "face", "face-hat": "face",
    "face-glasses": "face", "face-concerned": "face", "face-negative": "face", "face-costume": "monster",
    "cat-face": "cat face", "monkey-face": "monkey face", "heart": "heart", "emotion": "sign",
    "hand-fingers-open": "hand", "hand-fingers-partial": "hand", "hand-single-finger": "hand",
    "hand-fingers-closed": "hand", "hands": "hand", "hand-prop": "hand", "body-parts": "body part",
    "animal-mammal": "animal", "animal-bird": "bird", "animal-amphibian": "animal", "animal-reptile": "reptile",
    "animal-marine": "sea animal", "animal-bug": "insect", "plant-flower": "flower", "plant-other": "plant",
    "food-fruit": "fruit", "food-vegetable": "vegetable", "food-prepared": "food", "food-asian": "food",
    "food-sweet": "dessert", "drink": "drink", "dishware": "dish", "food-marine": "sea animal",
    "place-map": "map", "place-geographic": "landscape", "place-building": "building",
    "place-religious": "building", "place-other": "place", "hotel": "building",
    "transport-ground": "vehicle", "transport-water": "boat", "transport-air": "aircraft",
    "sky & weather": "sky", "time": "clock",
    "event": "decoration", "award-medal": "award", "sport": "sport", "game": "game", "arts & crafts": "art",
    "clothing": "clothing", "sound": "sound", "music": "music", "musical-instrument": "instrument",
    "phone": "phone", "computer": "computer", "light & video": "device", "book-paper": "book", "money": "money",
    "mail": "mail", "writing": "pen", "office": "office object", "lock": "lock", "tool": "tool",
    "science": "science object", "medical": "medical object", "household": "household object",
    "other-object": "object",
}  # fmt: skip
"""Category word of each subcategory we take. Not taken: flags, symbols, people, clock faces with hours."""
NEARER = {
    "hat": r"\b(hat|cap|helmet)\b", "toy": r"\b(toy|doll|dolls|kite|yo|balloon|puzzle|pinata|piñata|pistol)\b",
    "pot": r"\b(pot|pan|amphora|jar|vase|urn|fondue)\b", "decoration": r"\b(lantern|streamer|ribbon|tanabata)\b",
}  # fmt: skip
"""Narrower category words, by the concept's name."""
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40), "orange": (244, 140, 40), "yellow": (250, 210, 60), "green": (56, 150, 76),
    "blue": (48, 96, 210), "purple": (120, 64, 170), "pink": (244, 160, 196), "brown": (122, 78, 48),
    "black": (20, 20, 22), "white": (248, 248, 248), "gray": (150, 152, 156), "cyan": (90, 204, 214),
}  # fmt: skip
"""Names of colours, of things and of backgrounds."""
SKIPPED = re.compile(
    r"o’clock|oclock|thirty|moon-face|suit$|^(flag|man|woman|person|men|women|people|family)\b|skin-tone"
)

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "concepts"
HELD_OUT = tuple(sorted(folder.name.replace("-", " ") for folder in EXAMPLES.iterdir()))
"""Concepts that no training stage may see: the names in `examples/concepts`."""
ALIASES = (
    "donut", "burger", "cheeseburger", "icecream", "pumpkin", "ladybug", "ladybird", "teddy", "tortoise", "sailing",
    "yacht", "beetle lady", "cacti", "jack", "lions", "foxes", "owls",
)  # fmt: skip
"""Other words for them."""
SHOWN_IN = {"desert", "leo", "princess", "prince", "soft ice cream", "shaved ice", "shortcake"}
"""Other concepts whose drawings show a held-out one: a cactus, a lion, a crown, ice cream, a strawberry."""

_LEAK = re.compile(rf"\b({'|'.join([*HELD_OUT, *ALIASES])})s?\b")


def leaks(text: str) -> bool:
    """Whether `text` names a held-out concept by its own word or another one."""
    return _LEAK.search(plain(text)) is not None


def plain(name: str) -> str:
    """`name` in lower-case words: no hyphens, apostrophes or accents of file names."""
    return re.sub(r"[^a-z0-9é]+", " ", name.lower().replace("’", "").replace("ñ", "n")).strip()


@dataclass(frozen=True)
class Drawing:
    """One thing in one style. `colour` is its main colour's name, or "" if it has none; `held_out` ones are never
    trained on."""

    concept: str
    style: str
    category: str
    colour: str
    synonyms: tuple[str, ...]
    held_out: bool


def package(spec: str) -> tarfile.TarFile:
    """The npm package `name@version`, fetched once."""
    name, _, version = spec.rpartition("@")
    path = WORK / "npm" / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        log.info("fetching %s", spec)
        if shutil.which("npm") is None:
            raise SystemExit(
                "The art comes from npm packages, and there is no npm here: install it (Debian: apt install npm)."
            )
        with TemporaryDirectory(dir=path.parent) as part:  # a fetch cut short leaves nothing under the final name
            got = subprocess.run(  # noqa: S603
                ["npm", "pack", spec],  # noqa: S607
                cwd=part, check=False, capture_output=True, text=True,
            )  # fmt: skip
            if got.returncode:
                raise SystemExit(f"npm could not fetch {spec}: {got.stderr.strip()[:300]}")
            (Path(part) / path.name).replace(path)
    return tarfile.open(path)


def _read(archive: tarfile.TarFile, member: str) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, member  # noqa: S101
    return file.read()


@lru_cache(maxsize=1)
def catalogue() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """{icon name: (category word, synonyms, code point)} of the concepts we take, held-out ones among them."""
    with package(NAMES) as archive:
        listed = json.loads(_read(archive, "package/emoji.json"))
    by_code = {bare(one["unified"]): one for one in listed}
    with package(SVG_STYLES["noto"]) as archive:
        names = json.loads(_read(archive, "package/chars.json"))
    taken = {}
    for code, name in names.items():
        entry = by_code.get(bare(code))
        word = CATEGORIES.get(entry["subcategory"]) if entry else None
        if entry is None or word is None or SKIPPED.search(name) or plain(name) in SHOWN_IN or len(plain(name)) > 40:
            continue
        word = next((near for near, pattern in NEARER.items() if re.search(pattern, plain(name))), word)
        synonyms = {plain(short.replace("_", " ")) for short in entry["short_names"]} - {plain(name)}
        taken[name] = (word, tuple(sorted(s for s in synonyms if re.fullmatch("[a-z ]{3,24}", s))), bare(code))
    return taken


def bare(code: str) -> str:
    """A code point in lower case without the selector that asks for colour."""
    return code.lower().replace("-fe0f", "")


def _square(picture: Image.Image) -> NDArray[np.uint8]:
    """Premultiplied RGBA, cropped to what is seen, in a square of DRAWN pixels."""
    rgba = np.asarray(picture.convert("RGBA")).astype(np.float32)
    rgba[..., :3] *= rgba[..., 3:] / 255
    rows, columns = np.where(rgba[..., 3] > 8)
    if not len(rows):
        return np.zeros((DRAWN, DRAWN, 4), np.uint8)
    rgba = rgba[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    side = max(rgba.shape[:2])
    top, left = (side - rgba.shape[0]) // 2, (side - rgba.shape[1]) // 2
    square = np.zeros((side, side, 4), np.float32)
    square[top : top + rgba.shape[0], left : left + rgba.shape[1]] = rgba
    # The four channels are resized as plain ones: PIL would un-premultiply an RGBA picture and leave halos.
    planes = [Image.fromarray(square[..., c]).resize((DRAWN, DRAWN), Image.Resampling.LANCZOS) for c in range(4)]
    return np.clip(np.stack([np.asarray(p) for p in planes], -1), 0, 255).round().astype(np.uint8)


def main_colour(rgba: NDArray[np.uint8]) -> str:
    """The name of the colour that more than half of a drawing has, or ""."""
    seen = rgba[rgba[..., 3] > 200]
    if len(seen) < 200:
        return ""
    names, table = list(COLOURS), np.array(list(COLOURS.values()), np.float32)
    nearest = ((seen[:, None, :3].astype(np.float32) - table) ** 2).sum(-1).argmin(1)
    counts = np.bincount(nearest, minlength=len(names)) / len(seen)
    return names[int(counts.argmax())] if counts.max() > 0.55 else ""


def draw_all() -> tuple[NDArray[np.uint8], list[Drawing]]:
    """Every concept in every style that has it."""
    import resvg_py  # noqa: PLC0415 (the one library that nothing else in the project needs)

    pictures: list[NDArray[np.uint8]] = []
    drawings: list[Drawing] = []

    def add(name: str, style: str, picture: Image.Image) -> None:
        word, synonyms, _ = catalogue()[name]
        square = _square(picture)
        if square[..., 3].mean() < 8:
            return
        held_out = leaks(name) or any(map(leaks, synonyms))
        pictures.append(square)
        drawings.append(Drawing(plain(name), style, word, main_colour(square), synonyms, held_out))

    for style, spec in SVG_STYLES.items():
        with package(spec) as archive:
            icons: dict[str, Any] = json.loads(_read(archive, "package/icons.json"))
        side = icons.get("height", 16)
        for name in catalogue():
            icon = icons["icons"].get(name)
            if icon is None:
                continue
            width, height = icon.get("width", icons.get("width", side)), icon.get("height", side)
            head = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
            svg = f'<svg {head} viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
            png = resvg_py.svg_to_bytes(svg_string=svg, width=256)
            add(name, style, Image.open(io.BytesIO(bytes(png))))
        log.info("%s: %d drawings so far", style, len(drawings))
    style, spec = WEBP_STYLE
    with package(spec) as archive:
        members = {bare(Path(m).stem): m for m in archive.getnames() if m.endswith(".webp")}
        for name, (_, _, code) in catalogue().items():
            if code in members:
                add(name, style, Image.open(io.BytesIO(_read(archive, members[code]))))
    return np.stack(pictures), drawings


def read_art() -> tuple[NDArray[np.uint8], list[Drawing]]:
    """What this stage wrote."""
    entries = json.loads((WORK / "art.json").read_text())
    return np.load(WORK / "art.npy"), [Drawing(**e | {"synonyms": tuple(e["synonyms"])}) for e in entries]


def main() -> None:
    """Run the stage."""
    arguments(__doc__ or "")
    if (WORK / "art.json").is_file():
        return
    pictures, drawings = draw_all()
    np.save(WORK / "art.npy", pictures)
    (WORK / "art.json").write_text(json.dumps([asdict(one) for one in drawings]))
    kept = [one for one in drawings if not one.held_out]
    log.info(
        "%d drawings of %d concepts to train on, %d of %d held out",
        len(kept), len({one.concept for one in kept}),
        len(drawings) - len(kept), len({one.concept for one in drawings if one.held_out}),
    )  # fmt: skip


if __name__ == "__main__":
    main()
