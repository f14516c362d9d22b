"""Files judged by what they are, not by what they are called."""

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from ti_core.errors import InputError
from ti_core.images.forms import looks_like_picture, open_picture
from ti_core.images.preprocess import prepare
from ti_core.settings import Settings

HEIC = Path(__file__).parents[1] / "data/quarters.heic"
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8))


def encoded(form: str, size: tuple[int, int] = NOISE.size, **options: object) -> bytes:
    buffer = io.BytesIO()
    NOISE.resize(size).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO"])
def test_every_form_is_read_whatever_it_is_called(form: str) -> None:
    data = encoded(form)
    assert looks_like_picture(data[:64])
    with open_picture("photo.jpg", data, Settings()) as image:
        assert image.format == form


def test_phones_pictures_are_read() -> None:
    data = HEIC.read_bytes()
    assert looks_like_picture(data[:64])
    made = prepare("IMG_1.HEIC", data, 48, "centre", Settings())
    assert np.abs(np.subtract(made.square.getpixel((4, 4)), (200, 40, 40))).max() < 12


def test_a_targa_is_known_by_its_name_alone() -> None:
    with open_picture("a.tga", encoded("TGA"), Settings()) as image:
        assert image.format == "TGA"
    with pytest.raises(InputError, match="no picture"):
        open_picture("a.dat", encoded("TGA"), Settings())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\x0a" + bytes(70), "is JPEG XL: name a plugin"),
        (b"%PDF-1.4 ...", "is a document"),
        (b"<?xml version='1.0'?>\n<svg xmlns='x'></svg>", "is a drawing in SVG"),
        (b"8BPS\0\1" + bytes(50), "is a Photoshop file"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(90), "is a camera's raw file"),
        (b"\0\0\0\x18ftypmp42" + bytes(40), "is a video"),
        (b"hello", "is no picture in a form"),
        (b"", "is empty"),
    ],
)
def test_what_cannot_be_read_is_called_by_its_name(data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=f"^a.jpg is left out: it {reason}"):
        open_picture("a.jpg", data, Settings())


def test_a_raw_file_s_preview_is_not_taken_for_the_picture() -> None:
    with pytest.raises(InputError, match="is a camera's raw file"):
        open_picture("a.dng", encoded("TIFF", tiffinfo={50706: b"\1\4\0\0"}), Settings())


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_only_its_end_marker_is_whole(progressive: bool) -> None:
    data = encoded("JPEG", progressive=progressive)
    whole = prepare("a.jpg", data, 48, "centre", Settings()).square
    cut = prepare("a.jpg", data[:-2], 48, "centre", Settings()).square
    assert (np.asarray(whole) == np.asarray(cut)).all()
    with pytest.raises(InputError, match="does not read as a picture"):
        prepare("a.jpg", data[: len(data) // 2], 48, "centre", Settings())


def test_a_plugin_brings_its_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain_plugin.py").write_text(
        "from PIL import Image\n"
        "def opened(file, name):\n"
        "    return Image.new('RGB', (48, 48), (1, 2, 3))\n"
        "Image.register_open('PLAIN', opened, lambda head: head.startswith(b'PLAIN'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with open_picture("a.plain", b"PLAIN and simple", Settings(picture_plugins=("plain_plugin",))) as image:
        assert image.size == (48, 48)
    for name in ("no_such_plugin", "../plugin"):
        with pytest.raises(InputError, match=f"PSEUDOWORD_PICTURE_PLUGINS names {name}"):
            open_picture("a.plain", b"PLAIN", Settings(picture_plugins=(name,)))
    del sys.modules["plain_plugin"], Image.OPEN["PLAIN"]
    Image.ID.remove("PLAIN")


# --- sizes are checked before anything is decoded ---------------------------------------------------------------------

LIMIT = Settings(max_picture_pixels=64 * 64)


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding any pixel fails the test."""
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("it was decoded"))


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("cut", [0, 2, 200])
def test_a_jpeg_that_is_too_large_is_not_decoded_with_or_without_its_end(cut: int) -> None:
    data = encoded("JPEG", size=(65, 64))
    with pytest.raises(InputError, match="65×64 is over 4096 pixels"):
        open_picture("a.jpg", data[: len(data) - cut], LIMIT)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("form", ["PNG", "DIB"])
def test_an_icon_is_not_believed_about_the_picture_in_it(form: str) -> None:
    inner = encoded(form, size=(100, 90))
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 24, len(inner), 22)
    with pytest.raises(InputError, match="100×90 is over 4096 pixels"):
        open_picture("a.ico", struct.pack("<HHH", 0, 1, 1) + entry + inner, LIMIT)


@pytest.mark.usefixtures("undecoded")
def test_a_tile_is_no_larger_than_a_picture_may_be() -> None:
    data = encoded("TIFF", tiffinfo={65000: 4096, 65001: 4096})
    for spare, tag in ((65000, 322), (65001, 323)):
        data = data.replace(struct.pack("<HH", spare, 3), struct.pack("<HH", tag, 4))
    with pytest.raises(InputError, match="4096×4096 is over 4096 pixels"):
        open_picture("a.tif", data, LIMIT)
