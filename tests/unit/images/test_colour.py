"""Colours judged by what comes out in sRGB."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from ti_core.errors import InputError
from ti_core.images.colour import GREY, Seen, emptiness, seen

CASES = Path(__file__).parents[4] / "shared/cases/pictures"
PATCHES = (
    np.array([[(200, 60, 60), (70, 160, 80)], [(60, 80, 190), (230, 230, 220)]], np.uint8).repeat(8, 0).repeat(8, 1)
)
# Primaries adapted to D50, as a profile has them: Adobe RGB (1998), Display P3, ProPhoto RGB.
SPACES = {
    "adobe": ([(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)], 2.19921875),
    "p3": ([(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)], 2.2),
    "prophoto": ([(0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)], 1.8),
}


def profile(primaries: list[tuple[float, float, float]], gamma: float, called: bytes = b"test") -> bytes:
    """An ICC profile (version 2) of three primaries and one gamma: 9 tags, nothing else."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def place(xyz: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, xyz))

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    desc = b"desc" + bytes(4) + struct.pack(">I", len(called) + 1) + called + bytes(80)
    tags = [(b"desc", desc), (b"cprt", b"text\0\0\0\0none\0\0\0\0"), (b"wtpt", place((0.9642, 1.0, 0.8249)))]
    tags += [(name, place(xyz)) for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)]
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    start = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, body in tags:
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    head = struct.pack(">I", start + len(data)) + bytes(4) + b"\2\x40\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    return head + place((0.9642, 1.0, 0.8249))[8:] + bytes(48) + table + data


def through(image: Image.Image, form: str = "PNG", **options: object) -> Seen:
    """An encoded picture as it is seen."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    with Image.open(buffer) as opened:
        opened.load()
        return seen(opened)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_profiles_are_converted_to_srgb(space: str, form: str) -> None:
    """By the profiles' own arithmetic, without lcms: linear light, a matrix to XYZ, the gamma."""
    primaries, gamma = SPACES[space]
    linear = np.where(PATCHES <= 10, PATCHES / 255 / 12.92, ((PATCHES / 255 + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([(0.43607, 0.38515, 0.14307), (0.22249, 0.71687, 0.06061), (0.01392, 0.09708, 0.71410)])
    inside = np.linalg.inv(np.array(primaries).T) @ to_xyz
    values = np.clip(linear @ inside.T, 0, 1) ** (1 / gamma)
    given = Image.fromarray(np.round(values * 255).astype(np.uint8))
    assert np.abs(np.asarray(given).astype(int) - PATCHES).mean() > 4  # ignoring the profile would show
    options = {"lossless": True} if form == "WEBP" else {}
    shown = through(given, form, icc_profile=profile(primaries, gamma), **options)
    assert np.abs(np.asarray(shown.rgb).astype(int) - PATCHES).max() <= 2
    assert shown.notes == () and not shown.rgb.info


def test_transparency_and_a_profile_go_together() -> None:
    primaries, gamma = SPACES["prophoto"]
    image = Image.fromarray(PATCHES).convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.array([255, 0], np.uint8).repeat(8), (16, 1))))
    shown = through(image, icc_profile=profile(primaries, gamma))
    opaque = through(image.convert("RGB"), icc_profile=profile(primaries, gamma))
    assert (np.asarray(shown.rgb)[:, :8] == np.asarray(opaque.rgb)[:, :8]).all()
    assert (np.asarray(shown.rgb)[:, 8:] == 255).all()


def test_a_profile_that_is_called_srgb_and_is_linear_is_converted() -> None:
    """IEC 61966-2-1: what is stored as linear light is encoded by the curve of sRGB."""
    primaries = [(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]
    linear = np.where(PATCHES <= 10, PATCHES / 255 / 12.92, ((PATCHES / 255 + 0.055) / 1.055) ** 2.4)
    given = Image.fromarray(np.round(linear * 255).astype(np.uint8))
    shown = through(given, icc_profile=profile(primaries, 1.0, b"sRGB linear"))
    assert np.abs(np.asarray(shown.rgb).astype(int) - PATCHES).max() <= 4  # 8 bits of linear light tell no more apart
    assert shown.notes == ()


def test_an_srgb_profile_changes_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (np.asarray(through(Image.fromarray(PATCHES), icc_profile=srgb).rgb) == PATCHES).all()


@pytest.mark.parametrize("data", [b"no profile", profile(*SPACES["p3"])[:200]])
def test_a_broken_profile_is_told_and_taken_as_srgb(data: bytes) -> None:
    shown = through(Image.fromarray(PATCHES), icc_profile=data)
    assert (np.asarray(shown.rgb) == PATCHES).all()
    assert [kind for kind, _ in shown.notes] == ["profile"]


def test_cmyk_without_a_profile_is_told() -> None:
    shown = through(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")
    assert shown.rgb.getpixel((4, 4)) == (255, 0, 0) and "CMYK without a profile" in shown.notes[0][1]


@pytest.mark.skipif(not CASES.is_dir(), reason="the pictures of the cases do not lie beside the checkout")
@pytest.mark.parametrize("form", ["jpg", "tif"])
def test_cmyk_with_a_profile_is_converted_by_it(form: str) -> None:
    with Image.open(CASES / f"profile/cmyk_profile.{form}") as image, Image.open(CASES / "expected.png") as wanted:
        image.load()
        assert np.abs(np.asarray(seen(image).rgb).astype(int) - np.asarray(wanted.convert("RGB"))).mean() < 8


# --- depth ------------------------------------------------------------------------------------------------------------

RAMP = np.tile(np.linspace(0, 1, 32), (32, 1))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((RAMP * 65535).astype(np.uint16), ""),
        ((RAMP * 4095).astype(np.uint16), "uses 12 of its 16 bits"),
        ((RAMP * 255).astype(np.int32), ""),
        ((RAMP * 65535).astype(np.int32), ""),
        ((RAMP * 2e9).astype(np.int32), "holds numbers from 0 to 2e+09"),
        (RAMP.astype(np.float32), ""),
        ((RAMP * 255).astype(np.float32), ""),
        ((RAMP * 300 - 100).astype(np.float32), "holds numbers from -100 to 200"),
    ],
    ids=["16 bits", "12 in 16", "8 in 32", "16 in 32", "32 bits", "0 to 1", "0 to 255", "any floats"],
)
def test_deep_pictures_are_scaled_by_their_range(values: np.ndarray, told: str) -> None:
    shown = through(Image.fromarray(values), "TIFF")
    assert np.abs(np.asarray(shown.rgb)[..., 0] - RAMP * 255).max() <= 1
    assert [text[: len(told)] for _, text in shown.notes] == ([told] if told else [])


def test_places_without_a_number_are_refused() -> None:
    values = RAMP.astype(np.float32)
    values[3, 3] = np.nan
    with pytest.raises(InputError, match="places without a number"):
        through(Image.fromarray(values), "TIFF")


# --- what shows nothing -----------------------------------------------------------------------------------------------


def flat(colour: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (40, 40), colour)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (flat((0, 0, 0)), "black"), (flat((255, 255, 255)), "white"), (flat((90, 10, 200)), "one colour"),
        (flat((90, 10, 200, 0), "RGBA"), "transparent"), (flat((90, 10, 200, 3), "RGBA"), "transparent"),
    ],
)  # fmt: skip
def test_what_shows_nothing_is_known(image: Image.Image, reason: str) -> None:
    assert emptiness(seen(image)).startswith(f"it is {reason}")


def test_what_shows_little_shows_something() -> None:
    image = flat((250, 250, 250))
    image.paste((200, 200, 200), (18, 18, 22, 22))
    assert emptiness(seen(image)) == ""
    same_grey = np.zeros((40, 40, 3), np.uint8)
    same_grey[:, :20], same_grey[:, 20:] = (200, 0, 0), (0, 102, 0)  # as bright as each other
    assert emptiness(seen(Image.fromarray(same_grey))) == ""


def test_a_white_thing_on_transparency_is_put_on_grey() -> None:
    image = flat((0, 0, 0, 0), "RGBA")
    image.paste((250, 250, 250, 255), (10, 10, 30, 30))
    shown = seen(image)
    assert shown.rgb.getpixel((2, 2)) == GREY and shown.rgb.getpixel((20, 20)) == (250, 250, 250)
    assert shown.notes[0][0] == "ground"
    image.paste((30, 30, 30, 255), (10, 10, 30, 20))  # half of it is dark: it shows on white
    assert seen(image).rgb.getpixel((2, 2)) == (255, 255, 255)


@pytest.mark.parametrize("under", [(0, 0, 0), (255, 255, 255)])
def test_what_lies_under_transparency_does_not_choose_the_ground(under: tuple[int, int, int]) -> None:
    """White lines, thinner than the size at which the ground is chosen tells apart."""
    values = np.full((1024, 1024, 4), (*under, 0), np.uint8)
    values[:, ::8] = 255
    shown = seen(Image.fromarray(values))
    assert shown.rgb.getpixel((4, 4)) == GREY and shown.rgb.getpixel((8, 4)) == (255, 255, 255)
