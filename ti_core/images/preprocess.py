"""Caption-free preprocessing: any picture file becomes an upright sRGB square. Nothing is written here; no models.

Change what this does to a pixel, and `keys.PREPROCESS_VERSION` must go up.
"""

import io
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Lock

from PIL import ExifTags, Image, PngImagePlugin

from ti_core.errors import InputError
from ti_core.images import colour
from ti_core.images.crop import Box, Crop, cut, square_of
from ti_core.images.forms import ended, frames, open_picture, unreadable
from ti_core.images.names import shown
from ti_core.settings import Settings

SPARE = 1.4
"""A large picture is decoded to so many times the resolution along its shorter side, or more: Lanczos does the rest."""
WHOLE = 256
"""Pixels along the longer side at which the whole picture is looked at by checks and on pages."""

LARGE = 24_000_000
"""Pictures of more pixels are decoded and cut one after the other, with their masks, whoever asks: that bounds the
memory."""
_alone = Lock()

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture of each EXIF orientation upright; 1 and anything unknown is upright."""


@dataclass(frozen=True)
class Prepared:
    """A picture as training sees it. `width` and `height` are the upright file's, `crop` is its square in pixels."""

    width: int
    height: int
    crop: tuple[int, int, int, int]
    square: Image.Image
    shown: Image.Image | None
    """What a mask picture or the alpha channel shows of the square, 8-bit grey; None where all of it shows."""
    whole: Image.Image
    """The picture before it was cut, `WHOLE` pixels along its longer side at most."""
    notes: tuple[tuple[str, str], ...] = ()
    """(kind of finding, what it says of the picture)."""


def prepare(
    name: str, data: bytes, resolution: int, crop: Crop, settings: Settings, mask: tuple[str, bytes] | None = None
) -> Prepared:
    """Decode a picture once, completely, and make its square of `resolution` pixels a side.

    `mask` is the name and the file of its mask picture, white where it shows; it wins over the picture's own alpha.
    Raises InputError with the reason why the picture is not used.
    """
    with open_picture(name, data, settings) as image, _room(image):
        several = frames(image)
        upright, (width, height) = _decoded(name, image, data, resolution)
        if min(width, height) * 2 < resolution:
            raise InputError(
                f"{shown(name)} is left out: {width}×{height} is too small, at least {resolution // 2} pixels a side "
                "are needed."
            )
        try:
            picture = colour.seen(upright)
        except InputError as error:
            raise InputError(f"{shown(name)} is left out: it {error}.") from None
        if empty := colour.emptiness(picture):
            where = f"the first picture of {several} shows nothing" if several else "it shows nothing"
            raise InputError(f"{shown(name)} is left out: {where}; {empty}.")
        rgb, covering = picture.rgb, picture.alpha
        if mask:
            covering = _mask(*mask, resolution, (width, height), rgb.size, name, settings)
        box = square_of(rgb.size, crop, covering)
        scale = width / rgb.width, height / rgb.height
        notes = picture.notes + ((("frames", f"is {several}; its first picture is used"),) if several else ())
        whole = rgb.copy()
        whole.thumbnail((WHOLE, WHOLE), Image.Resampling.BOX)
        return Prepared(
            width=width,
            height=height,
            crop=_in_pixels(box, scale),
            square=cut(rgb, box, resolution),
            shown=None if covering is None else cut(covering, box, resolution, fill=0),
            whole=whole,
            notes=notes,
        )


def square(data: bytes, resolution: int, crop: Crop = "auto") -> Image.Image:
    """Return a picture file as an upright sRGB square of `resolution` pixels a side, of whatever size it is."""
    settings = Settings()
    with open_picture("the picture", data, settings) as image, _room(image):
        upright, _ = _decoded("the picture", image, data, resolution)
        picture = colour.seen(upright)
        return cut(picture.rgb, square_of(picture.rgb.size, crop, picture.alpha), resolution)


def png(image: Image.Image) -> bytes:
    """Encode without loss, quickly: a harder compression takes four times as long for a tenth of the size."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def thumbnail(image: Image.Image) -> bytes:
    """Encode for showing, small."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def _room(image: Image.Image) -> AbstractContextManager[object]:
    """Held while a picture and its mask, which has the same size, are in memory whole."""
    return _alone if image.width * image.height > LARGE else nullcontext()


def _decoded(name: str, image: Image.Image, data: bytes, resolution: int) -> tuple[Image.Image, tuple[int, int]]:
    """The upright picture, large ones reduced towards `SPARE` × `resolution`, and its full size. The first frame of an
    animation.

    `ImageOps.exif_transpose` would also write the other EXIF tags anew, and fails where one of them is malformed.
    """
    full, least = image.size, round(SPARE * resolution)
    try:
        image = ended(image, data)
        if getattr(image, "is_animated", False):
            image.seek(0)
        factor = min(full) // least
        if factor > 1 and image.format == "JPEG":
            # libjpeg skips what it need not decode. The size it gives is never under the one asked for.
            image.draft(image.mode, (-(-full[0] // factor), -(-full[1] // factor)))
        halved = isinstance(image, PngImagePlugin.PngImageFile) and any("16" in str(one.args) for one in image.tile)
        image.load()
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly anything
        raise unreadable(name, error) from None
    key = image.info.get("transparency")
    if key is not None and image.mode in {"L", "RGB"}:  # one colour, which no longer is that colour once it is mixed
        if halved and image.mode == "RGB":  # of 16 bits a channel Pillow keeps the upper ones, but not of this
            image.info["transparency"] = tuple(value >> 8 for value in key)
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    factor = min(image.size) // least
    mixes = not image.mode.startswith("I;") and image.mode not in {"1", "P", "F"}  # whose values have a mean
    reduced = image.reduce(factor) if factor > 1 and mixes else image.copy()
    reduced.info = dict(image.info)
    if turn is None:
        return reduced, full
    upright = reduced.transpose(turn)
    return upright, full[::-1] if turn in _SIDEWAYS else full


_SIDEWAYS = {
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
}


def _mask(
    name: str,
    data: bytes,
    resolution: int,
    full: tuple[int, int],
    size: tuple[int, int],
    picture: str,
    settings: Settings,
) -> Image.Image:
    """A mask picture as 8-bit grey of `size`, which stands for the picture's `full` size."""
    with open_picture(name, data, settings) as image:
        own = image.size
        if sorted(own) == sorted(full):  # whichever way it lies: nothing larger than the picture is decoded
            upright, own = _decoded(name, image, data, resolution)
        if own != full:
            raise InputError(
                f"{shown(picture)} is left out: its mask {shown(name)} has another size, {own[0]}×{own[1]} and not "
                f"{full[0]}×{full[1]}."
            )
    try:
        return colour.coverage(upright).resize(size, Image.Resampling.BOX)
    except InputError as error:
        raise InputError(f"{shown(picture)} is left out: its mask {shown(name)} {error}.") from None


def _in_pixels(box: Box, scale: tuple[float, float]) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    return round(left * scale[0]), round(top * scale[1]), round(right * scale[0]), round(bottom * scale[1])
