"""What a file is, by its content: a picture that can be opened, or a reason in a sentence why it is none.

Only the decoders of forms that people keep pictures in are asked; Pillow has more. It knows no folders and changes no
pixel.
"""

import hashlib
import importlib
import io
import re
from functools import cache

from PIL import IcoImagePlugin, Image, TiffImagePlugin, UnidentifiedImageError, features

from ti_core.errors import InputError
from ti_core.images.names import shown, suffix
from ti_core.settings import Settings

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit warns or fails at other sizes than `Settings.max_picture_pixels`

FORMS = (
    "JPEG", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "ICO",
)  # fmt: skip

_PICTURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|BM.{4}\0\0\0\0|II\*\0|MM\0\*|RIFF.{4}WEBP|.{4}ftyp(?:avif|avis|hei|hev|mif1|msf1)"
    rb"|\0\0\0\x0cjP  |\xff\x4f\xff\x51|P[1-6]\s|\0\0\x01\0[\x01-\x20]\0|\xff\x0a|\0\0\0\x0cJXL |8BPS",
    re.DOTALL,
)
_RAW = "is a camera's raw file: develop it, and save it as JPEG or PNG"
_OTHERS = (
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "is JPEG XL: name a plugin for it in PSEUDOWORD_PICTURE_PLUGINS, or save it as PNG"),
    (rb"8BPS", "is a Photoshop file: export it as PNG"),
    (rb"%PDF|%!PS", "is a document: export its pictures as PNG"),
    (rb"\s*(?:<\?xml.*)?(?:<!--.*-->\s*)?<svg|<\?xml.*<svg", "is a drawing in SVG: export it as PNG"),
    (rb".{4}ftyp", "is a video, or a form of HEIF that cannot be read: export a frame as JPEG or PNG"),
    (rb".{8}CR\x02\0|.{4}ftypcrx|IIRO|IIU\0|FUJIFILMCCD-RAW", _RAW),
)  # fmt: skip
_DNG_VERSION, _SUB_IFDS, _REDUCED = 50706, 330, 254
"""TIFF tags of raw files: the first picture in them is a preview."""
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_DECODERS = ("pil", "jpg", "libjpeg_turbo", "jpg_2000", "webp", "avif", "libtiff", "zlib", "littlecms2")
"""As Pillow names what it is made of."""


def looks_like_picture(head: bytes) -> bool:
    """Whether a file's first bytes are those of a picture, readable or not."""
    return bool(_PICTURES.match(head))


def open_picture(name: str, data: bytes, settings: Settings) -> Image.Image:
    """Open a picture of an allowed size. Its pixels are not decoded yet, but for an icon's.

    Raises InputError with the reason why it cannot be used.
    """
    forms = [*FORMS, *_registered(settings.picture_plugins)]
    if suffix(name) == ".tga":  # it has no first bytes of its own: anything may look like it
        forms.append("TGA")
    try:
        if data.startswith(b"\0\0\1\0"):
            with _in_icon(data) as inner:  # Pillow decodes it when it opens the icon
                _check_size(name, inner.size, settings)
        image = Image.open(io.BytesIO(data), formats=forms)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{shown(name)} is left out: it {_what(data)}.") from None
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly anything
        raise unreadable(name, error) from None
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_raw(image, data):
        raise InputError(f"{shown(name)} is left out: it {_RAW}.")
    _check_size(name, image.size, settings)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile = image.tag_v2.get(_TILE_WIDTH), image.tag_v2.get(_TILE_LENGTH)  # which is decoded whole
        if isinstance(tile[0], int) and isinstance(tile[1], int):
            _check_size(name, (tile[0], tile[1]), settings)
    return image


def ended(image: Image.Image, data: bytes) -> Image.Image:
    """A JPEG that lacks nothing but its end marker, opened anew with one; all else as it is.

    What follows a picture's last pixel is skipped, what follows a cut is taken for pixels: so two different tails give
    the same picture only where all of it is there. To see that it is decoded twice.
    """
    if image.format not in {"JPEG", "MPO"} or b"\xff\xd9" in data[-2048:]:
        return image
    whole, other = (data + tail + b"\xff\xd9" for tail in (b"", b"\x5a" * 512))
    try:
        return Image.open(io.BytesIO(whole), formats=["JPEG"]) if _digest(whole) == _digest(other) else image
    except Exception:  # it is told when it is decoded
        return image


def unreadable(name: str, error: Exception) -> InputError:
    """What is said of a picture whose decoder gave up."""
    reason = shown(str(error)) or type(error).__name__
    return InputError(f"{shown(name)} is left out: it does not read as a picture ({reason}).")


def frames(image: Image.Image) -> str:
    """What a file with more than one picture is called, "" for a single picture. A phone's JPEG or HEIF may hold a
    second one (depth, light); that is of no interest."""
    if image.format in {"MPO", "HEIF", "ICO"} or not getattr(image, "is_animated", False):
        return ""
    return "a file of several pages" if image.format == "TIFF" else "an animation"


@cache
def decoders(plugins: tuple[str, ...]) -> tuple[str, ...]:
    """What decodes, with its version: another one may make other pixels of the same file.

    Raises InputError for a plugin that cannot be imported.
    """
    import pi_heif

    _registered(plugins)
    found = {name: features.version(name) for name in _DECODERS}
    found |= {"pi_heif": pi_heif.__version__, "libheif": pi_heif.libheif_version()}
    found |= {name: getattr(importlib.import_module(name), "__version__", "") for name in plugins}
    return tuple(f"{name} {version}" for name, version in found.items())


@cache
def _registered(plugins: tuple[str, ...]) -> tuple[str, ...]:
    """Teach Pillow HEIF and what the plugins bring; returns the names of the plugins' forms.

    Raises InputError for a plugin that cannot be imported.
    """
    import pi_heif

    Image.init()
    pi_heif.register_heif_opener()
    before = set(Image.OPEN)
    for plugin in plugins:
        try:
            importlib.import_module(plugin)
        except Exception as error:  # a module may raise anything; a name may be none
            raise InputError(
                f"PSEUDOWORD_PICTURE_PLUGINS names {plugin}, which cannot be imported ({error}): install it."
            ) from None
    return tuple(sorted(set(Image.OPEN) - before))


def _what(data: bytes) -> str:
    for pattern, reason in _OTHERS:
        if re.match(pattern, data[:1024], re.DOTALL):
            return reason
    return "is empty" if not data else "is no picture in a form that can be read"


def _is_raw(image: TiffImagePlugin.TiffImageFile, data: bytes) -> bool:
    tags = image.tag_v2
    return data[8:10] == b"CR" or _DNG_VERSION in tags or _SUB_IFDS in tags or tags.get(_REDUCED) == 1


def _check_size(name: str, size: tuple[int, int], settings: Settings) -> None:
    width, height = size
    if width * height > settings.max_picture_pixels:
        raise InputError(f"{shown(name)} is left out: {width}×{height} is over {settings.max_picture_pixels} pixels.")


def _in_icon(data: bytes) -> Image.Image:
    """The picture of an icon that Pillow uses: it may be of another size than the icon says."""
    entry = IcoImagePlugin.IcoFile(io.BytesIO(data)).entry[0]
    return Image.open(io.BytesIO(data[entry.offset :]), formats=["PNG", "DIB"])


def _digest(data: bytes) -> str:
    """Of a JPEG's pixels."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return hashlib.sha256(image.tobytes()).hexdigest()
