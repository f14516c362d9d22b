"""Preprocessing judged by the pixels that come out."""

import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from ti_core.errors import InputError
from ti_core.images import colour, preprocess
from ti_core.images.colour import seen
from ti_core.images.preprocess import Prepared, png, prepare, square
from ti_core.settings import Settings

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def prepared(data: bytes, resolution: int = 32, mask: bytes | None = None, **wanted: str) -> Prepared:
    return prepare(
        "a.png", data, resolution, wanted.get("crop", "auto"), Settings(), ("a_mask.png", mask) if mask else None
    )


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Colours a few pixels within the corners: top left, top right, bottom left, bottom right."""
    far = image.width - 3
    return [image.getpixel(place) for place in ((2, 2), (far, 2), (2, far), (far, far))]


@pytest.fixture
def quarters() -> Image.Image:
    """Red, green / blue, white: no two orientations of it look the same."""
    image = Image.new("RGB", (32, 32), WHITE)
    image.paste(RED, (0, 0, 16, 16))
    image.paste(GREEN, (16, 0, 32, 16))
    image.paste(BLUE, (0, 16, 16, 32))
    return image


# What a camera held in each way stores, so that the orientation tag turns it upright again.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_comes_out_upright(quarters: Image.Image, orientation: int) -> None:
    stored = quarters if STORED[orientation] is None else quarters.transpose(STORED[orientation])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(stored, exif=exif)
    assert corners(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))) == [RED, GREEN, BLUE, WHITE]
    assert corners(square(data, 32)) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_leaves_the_picture_as_it_is(
    quarters: Image.Image, orientation: int
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert corners(square(encoded(quarters, exif=exif), 32)) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on the malformed tag
def test_a_malformed_tag_beside_the_orientation_does_no_harm(quarters: Image.Image) -> None:
    entry = ">HHLHH"  # tag, type, count, value, padding; the second one says it is text and holds a rational's type
    tags = struct.pack(entry, 0x0112, 3, 1, 3, 0) + struct.pack(entry, 0x011A, 5, 1, 0, 0x20)
    exif = b"Exif\0\0MM\0*" + struct.pack(">LH", 8, 2) + tags + struct.pack(">L", 0)
    data = encoded(quarters.transpose(Image.Transpose.ROTATE_180), "JPEG", exif=exif, quality=100, subsampling=0)
    for found, wanted in zip(corners(square(data, 32)), [RED, GREEN, BLUE, WHITE], strict=True):
        assert np.abs(np.subtract(found, wanted)).max() < 12


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_transparency_shows_white(mode: str) -> None:
    """The left half is black and opaque, the right half is black and transparent."""
    alpha = Image.new("L", (16, 16), 255)
    alpha.paste(0, (8, 0, 16, 16))
    options: dict[str, object] = {}
    if mode in ("RGBA", "LA"):
        image = Image.new(mode[:-1], (16, 16), 0)
        image.putalpha(alpha)
    elif mode == "P":
        image = Image.new("P", (16, 16), 0)
        image.putpalette([0, 0, 0, 1, 1, 1])
        image.paste(1, (8, 0, 16, 16))
        options["transparency"] = 1
    else:
        image = Image.new(mode, (16, 16), 0)
        image.paste((9, 9, 9) if mode == "RGB" else 9, (8, 0, 16, 16))
        options["transparency"] = (9, 9, 9) if mode == "RGB" else 9
    result = np.asarray(square(encoded(image, **options), 16))
    assert (result[:, :7] < 10).all()
    assert (result[:, 9:] > 245).all()


def test_half_transparent_is_mixed_with_white() -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert square(encoded(image), 8).getpixel((4, 4)) == (127, 127, 127)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(form: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    result = np.asarray(square(encoded(Image.fromarray(ramp), form), 64)).astype(float)
    assert np.abs(result - (ramp / 257)[..., None]).max() <= 1
    assert (result[..., 0] == result[..., 2]).all()


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red, green, blue = square(encoded(image, "TIFF"), 8).getpixel((4, 4))
    assert red > 245 and green < 10 and blue < 10


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (GREEN, RED, BLUE)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert square(data, 8).getpixel((4, 4)) == GREEN


@pytest.mark.parametrize("size", [(96, 32), (32, 96)])
def test_the_middle_is_kept_and_nothing_is_stretched(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, RED)
    left, top = (size[0] - 32) // 2, (size[1] - 32) // 2
    image.paste(BLUE, (left, top, left + 32, top + 32))
    assert corners(square(encoded(image), 32, "centre")) == [BLUE] * 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"])
def test_every_mode_becomes_8_bit_rgb(mode: str) -> None:
    assert seen(Image.new(mode, (4, 4))).rgb.mode == "RGB"


def test_a_square_is_kept_without_loss() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8))
    assert (np.asarray(square(png(image), 24)) == np.asarray(image)).all()


def test_without_a_mask_picture_alpha_shows_what_is_to_be_learned() -> None:
    image = Image.new("RGBA", (40, 40), (9, 9, 9, 0))
    image.paste((200, 0, 0, 255), (0, 0, 20, 40))
    shown = prepared(encoded(image), 40).shown
    assert shown and shown.size == (40, 40)
    assert (np.asarray(shown)[:, :20] == 255).all() and (np.asarray(shown)[:, 20:] == 0).all()


def test_an_opaque_picture_shows_everywhere(quarters: Image.Image) -> None:
    assert prepared(encoded(quarters)).shown is None
    assert prepared(encoded(quarters.convert("RGBA"))).shown is None


def test_a_mask_picture_is_turned_and_cropped_like_its_picture_and_wins_over_alpha(quarters: Image.Image) -> None:
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 16, 32))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    data = quarters.convert("RGBA")
    data.putalpha(mask)
    shown = prepared(encoded(data), 32, encoded(mask, exif=exif)).shown
    assert shown
    assert (np.asarray(shown)[:, :16] == 0).all() and (np.asarray(shown)[:, 16:] == 255).all()


def test_the_square_goes_where_the_mask_is_and_its_bands_show_nothing(quarters: Image.Image) -> None:
    wide = Image.new("RGB", (96, 32), RED)
    wide.paste(quarters, (64, 0))
    mask = Image.new("L", (96, 32))
    mask.paste(255, (70, 4, 90, 28))
    made = prepared(encoded(wide), 32, encoded(mask))
    assert made.crop == (64, 0, 96, 32) and corners(made.square) == [RED, GREEN, BLUE, WHITE]
    mask.paste(255, (10, 4, 90, 28))  # more than fits
    made = prepared(encoded(wide), 32, encoded(mask))
    assert made.crop == (6, -28, 94, 60) and made.shown and made.shown.getpixel((16, 1)) == 0


def test_a_large_photograph_is_decoded_smaller_and_looks_the_same() -> None:
    slope = np.linspace(0, 255, 1600).astype(np.uint8)
    image = Image.fromarray(
        np.stack([np.tile(slope, (1200, 1)), np.tile(slope[:1200, None], (1, 1600))] * 2, 2)[..., :3]
    )
    data = encoded(image, "JPEG", quality=95)
    made = prepared(data, 64, crop="centre")
    assert (made.width, made.height, made.crop) == (1600, 1200, (200, 0, 1400, 1200))
    wanted = ImageOps.fit(image, (64, 64), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(made.square).astype(int) - np.asarray(wanted)).max() <= 4


def test_a_mask_of_another_size_is_refused(quarters: Image.Image) -> None:
    with pytest.raises(InputError, match=r"its mask a_mask\.png has another size, 31×32 and not 32×32"):
        prepared(encoded(quarters), 32, encoded(Image.new("L", (31, 32), 255)))


@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255)])
@pytest.mark.parametrize("size", [40, 640])
def test_what_is_transparent_in_a_mask_shows_nothing_whatever_its_colour(
    ground: tuple[int, int, int], size: int
) -> None:
    mask = Image.new("RGBA", (size, size), (*ground, 0))
    mask.paste((255, 255, 255, 255), (0, 0, size // 2, size))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype(np.uint8))
    shown = prepared(encoded(image), 40, encoded(mask)).shown
    assert shown
    assert (np.asarray(shown)[:, :16] == 255).all() and (np.asarray(shown)[:, 24:] == 0).all()


def sixteen_bits(values: np.ndarray, key: tuple[int, ...]) -> bytes:
    """A PNG of 16 bits a channel, one colour of which is transparent."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2 if values.ndim == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = (b"IHDR", header), (b"tRNS", struct.pack(f">{len(key)}H", *key)), (b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [40, 640])
@pytest.mark.parametrize("key", [(100,), (100, 2000, 60_000)], ids=["grey", "colour"])
def test_one_transparent_colour_of_16_bits_is_obeyed(key: tuple[int, ...], size: int) -> None:
    values = np.full((size, size, len(key)), 40_000)
    values[:, : size // 2] = key
    values[: size // 4] = 65_535
    made = prepared(sixteen_bits(values.squeeze(), key), 40)
    assert made.shown and made.notes == ()
    shown, square = np.asarray(made.shown), np.asarray(made.square)
    assert (shown[:6] == 255).all() and (shown[14:, :16] == 0).all() and (shown[:, 24:] == 255).all()
    assert (square[14:, :16] == 255).all() and np.abs(square[14:, 24:].astype(int) - 40_000 // 257).max() <= 1


def test_large_pictures_and_their_masks_are_decoded_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whatever form: how many are in memory whole at the same time is counted."""
    monkeypatch.setattr(preprocess, "LARGE", 64 * 64)
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 65_536, (65, 65)).astype(np.uint16))
    mask = Image.new("1", (65, 65), 1)
    inside, most = list[int](), list[int]()

    def counted(step: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            made = step(*arguments)
            inside.pop()
            return made

        return call

    for name in ("seen", "coverage", "_scaled"):
        monkeypatch.setattr(colour, name, counted(getattr(colour, name)))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: prepared(encoded(deep), 40, encoded(mask)), range(8)))
    assert max(most) == 2  # scaling is a part of seeing


def test_a_mask_of_another_size_is_not_decoded(quarters: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = encoded(Image.new("L", (3000, 3000)))
    monkeypatch.setattr(colour, "coverage", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match="3000×3000 and not 32×32"):
        prepared(encoded(quarters), 32, mask)


def test_deep_pictures_take_little_more_memory_than_their_pixels() -> None:
    values = np.tile(np.linspace(0, 65_535, 2000).astype(np.uint16), (2000, 1))
    image = Image.fromarray(values)
    tracemalloc.start()
    shown = seen(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.abs(np.asarray(shown.rgb)[..., 0] - values / 257).max() <= 1
    assert peak < 12 * values.size  # double precision alone would take eight bytes a pixel, and it takes several
