"""Findings judged on pictures that have a fault, and on ones that have none."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ti_core.images.ingest import Wanted, look
from ti_core.settings import Settings

CASES = Path(__file__).parents[4] / "shared/cases/pictures"
DREAMBENCH = Path(__file__).parents[4] / "shared/data/dreambench"
SIDE = 256


def scene(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Soft patches of colour with sharp edges: as unlike another seed's as two photographs are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(30, 220, (8, 8, 3)).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    return Image.blend(coarse, coarse.resize((4, 4)).resize(size, Image.Resampling.BICUBIC), 0.3)


def findings(tmp_path: Path, *pictures: Image.Image, mirror: bool = False) -> list[tuple[str, str]]:
    """(kind, file) of what is found of pictures 0.png, 1.png, …"""
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    images, _ = look(str(tmp_path), Wanted(SIDE, mirror=mirror), Settings())
    return [(one.kind, one.file) for one in images.findings]


def test_sound_pictures_give_no_finding(tmp_path: Path) -> None:
    assert findings(tmp_path, *map(scene, range(4))) == []


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(8))


def half_blurred(image: Image.Image) -> Image.Image:
    sharp = image.copy()
    sharp.paste(blurred(image).crop((0, 0, SIDE // 2, SIDE)), (0, 0))
    return sharp


def barred(image: Image.Image) -> Image.Image:
    framed = Image.new("RGB", image.size)
    framed.paste(image.resize((SIDE, SIDE - 60)), (0, 30))
    return framed


def on_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size, (255, 255, 255))
    canvas.paste(image.resize((SIDE // 2, SIDE // 2)), (SIDE // 4, SIDE // 3))
    return canvas


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (blurred, "blur"),
        (half_blurred, ""),
        (lambda image: image.point(lambda value: value // 14), "dark"),
        (lambda image: image.point(lambda value: min(255, value // 6 + 235)), "bright"),
        (on_white, ""),
        (barred, "bars"),
        (lambda image: image.resize((600, 200)).resize((600, 256)), "cut"),
        (lambda image: image.resize((200, 200)), "small"),
    ],
    ids=["blurred", "blurred ground", "dark", "bright", "white ground", "bars", "long", "small"],
)
def test_a_fault_is_found_and_named(tmp_path: Path, spoil: object, kind: str) -> None:
    made = findings(tmp_path, spoil(scene(0)), *map(scene, range(1, 4)))
    assert made == ([(kind, "0.png")] if kind else [])


def encoded_again(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.resize((300, 300)).save(buffer, "JPEG", quality=40)
    return Image.open(buffer)


@pytest.mark.parametrize(
    "change",
    [
        encoded_again,
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.point(lambda value: min(255, value * 9 // 8)),
        lambda image: image.crop((12, 12, SIDE - 12, SIDE - 12)).resize(image.size),
    ],
    ids=["encoded again", "mirrored", "brighter", "cropped"],
)
def test_twins_are_found(tmp_path: Path, change: object) -> None:
    twin = change(scene(0))
    assert findings(tmp_path, scene(0), scene(1), scene(2), twin, mirror=True) == [("twins", "3.png")]


def test_one_setting_is_found(tmp_path: Path) -> None:
    pictures = []
    for seed in range(3):
        picture = Image.new("RGB", (SIDE, SIDE), (90, 120, 60))
        picture.paste(scene(seed).resize((150, 150)), (50, 50))
        pictures.append(picture)
    assert findings(tmp_path, *pictures) == [("setting", "")]


def test_a_tiny_subject_is_found_by_its_mask(tmp_path: Path) -> None:
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (100, 100, 140, 140))
    mask.save(tmp_path / "0_mask.png")
    assert findings(tmp_path, *map(scene, range(3))) == [("tiny", "0.png")]


@pytest.mark.skipif(not CASES.is_dir(), reason="the pictures of the cases do not lie beside the checkout")
@pytest.mark.parametrize(
    ("case", "wanted"),
    [
        ("neardup", {("twins", name) for name in "b_q60.jpg c_half.png d_mirror.jpg e_crop.jpg f_bright.jpg".split()}),
        ("blur", {("blur", "0.jpg"), ("blur", "1.jpg")}),
        ("exposure", {("dark", "0.jpg"), ("bright", "1.jpg")}),
        ("outlier", {("unread", "screenshot.png")}),
    ],
)  # fmt: skip
def test_photographs_with_a_fault(case: str, wanted: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(CASES))
    images, _ = look(str(CASES / case), Wanted(SIDE), Settings())
    assert {(one.kind, one.file) for one in images.findings} - {("setting", "")} == wanted


@pytest.mark.skipif(not DREAMBENCH.is_dir(), reason="the DreamBench photographs do not lie beside the checkout")
@pytest.mark.parametrize(("subject", "kinds"), [("cat", []), ("duck_toy", []), ("red_cartoon", ["setting"])])
def test_sound_photographs_give_no_false_alarm(subject: str, kinds: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(DREAMBENCH))
    images, _ = look(str(DREAMBENCH / subject), Wanted(512), Settings())
    assert [one.kind for one in images.findings] == kinds
