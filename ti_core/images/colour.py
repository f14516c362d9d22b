"""Any picture's pixels as 8-bit sRGB: profiles are obeyed, deep ones scaled by their range, transparency gets a ground.

Change what this does to a pixel, and `keys.PREPROCESS_VERSION` must go up. It knows no files.
"""

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageCms

from ti_core.errors import InputError

WHITE, GREY = (255, 255, 255), (119, 119, 119)
"""What shows through transparency: white, which cut-outs are most often made for; the middle of the greys (L* 50)
behind what would vanish on white."""
PALE = 40
"""Of 255: what is cut out and differs from white by less than this on average is put on grey."""
CLEAR = 16
"""Of 255: a picture that is nowhere less transparent shows nothing."""
ALIKE = 16
"""Of 255: a profile that is called sRGB and moves no channel by more is taken for it."""
FLAT = 8
"""Of 255: a picture of which no channel varies by this much, over 64 × 64 places, shows nothing."""


@dataclass(frozen=True)
class Seen:
    """A picture as it is seen: RGB in sRGB; what of it shows, as 8-bit grey, None for all; what was noticed on the
    way."""

    rgb: Image.Image
    alpha: Image.Image | None
    notes: tuple[tuple[str, str], ...] = ()
    """(kind of finding, what it says of the picture)."""


def seen(image: Image.Image) -> Seen:
    """Convert a decoded picture of any mode.

    Raises InputError, whose message goes on from the picture's name, for one that holds no numbers to be shown.
    """
    notes = list[tuple[str, str]]()
    rgb, alpha = _apart(image, notes)
    return Seen(_grounded(rgb, alpha, notes) if alpha else rgb, alpha, tuple(notes))


def coverage(mask: Image.Image) -> Image.Image:
    """What a decoded mask picture of any mode shows, as 8-bit grey: what is black or transparent shows nothing,
    whatever its colour. Raises InputError as `seen` does."""
    rgb, alpha = _apart(mask, [])
    grey = rgb.convert("L")
    return ImageChops.multiply(grey, alpha) if alpha else grey


def emptiness(picture: Seen) -> str:
    """Why a picture shows nothing, as the rest of a sentence; "" for one that shows something."""
    if picture.alpha is not None and np.asarray(picture.alpha).max() < CLEAR:
        return "it is transparent all over"
    values = np.asarray(picture.rgb.resize((64, 64), Image.Resampling.BOX), dtype=np.float32)
    if np.ptp(values, axis=(0, 1)).max() >= FLAT:
        return ""
    mean = float(values.mean())
    return f"it is {'black' if mean < 16 else 'white' if mean > 239 else 'one colour'} all over"


def _apart(image: Image.Image, notes: list[tuple[str, str]]) -> tuple[Image.Image, Image.Image | None]:
    """A picture's colours in sRGB and its alpha channel, None where all of it is opaque."""
    alpha = None
    if _is_deep(image):
        solid = _eight_bit(image, notes)
        if (key := image.info.get("transparency")) is not None:
            alpha = Image.fromarray(np.where(np.asarray(image) == key, np.uint8(0), np.uint8(255)))
    elif image.has_transparency_data:
        rgba = image.convert("LA" if image.mode == "LA" else "RGBA")
        alpha = rgba.getchannel("A")
        solid = rgba.convert("L" if image.mode == "LA" else "RGB")
        solid.info = image.info
    else:
        solid = _eight_bit(image, notes)
    rgb = _in_srgb(solid, notes)
    rgb.info = {}  # a profile that was obeyed, and what a camera wrote, go no further
    if alpha is None or alpha.getextrema() == (255, 255):
        return rgb, None
    alpha.info = {}
    return rgb, alpha


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or image.mode in {"I", "F"}


def _eight_bit(image: Image.Image, notes: list[tuple[str, str]]) -> Image.Image:
    """An opaque picture in a mode with 8 bits a channel that profiles are made for: L, RGB, CMYK or LAB."""
    if image.mode in {"L", "RGB", "CMYK", "LAB"}:
        return image
    if _is_deep(image):
        grey = Image.fromarray(_scaled(np.asarray(image), image.mode, notes))
        grey.info = image.info
        return grey
    converted = image.convert("L" if image.mode == "1" else "RGB")
    converted.info = image.info
    return converted


def _scaled(values: np.ndarray, mode: str, notes: list[tuple[str, str]]) -> np.ndarray:
    """Deep grey values as uint8, by the range that they use: 16 bits, fewer bits in 16 (a scanner's 12), 0 to 1, 0 to
    255, or from the least to the most."""
    low, high = float(values.min()), float(values.max())  # either is NaN where one value is
    if not np.isfinite([low, high]).all():
        raise InputError("holds places without a number (NaN or infinity): export it as an 8-bit or 16-bit picture")
    if mode == "F" and 0 <= low and high <= 1:
        return _in_rows(values, 0, 255)
    if 0 <= low and high <= 255:
        return _in_rows(values, 0, 1)
    if 0 <= low and high <= 65535 and mode != "F":
        bits = 16 if mode == "I" or high >= 2**14 else max(9, int(high).bit_length())
        bits = next(one for one in (10, 12, 14, 16) if bits <= one)
        if bits < 16:
            notes.append(("depth", f"uses {bits} of its 16 bits, and is scaled by them"))
        return _in_rows(values, 0, 255 / (2**bits - 1))
    notes.append(("depth", f"holds numbers from {low:g} to {high:g}, which are shown from black to white"))
    return _in_rows(values, low, 255 / (high - low))


def _in_rows(values: np.ndarray, low: float, scale: float) -> np.ndarray:
    """(values - low) × scale as uint8, some rows after the other: double precision takes eight times the memory."""
    made = np.empty(values.shape, np.uint8)
    step = max(1, 2**20 // values.shape[1])
    for start in range(0, len(values), step):
        made[start : start + step] = np.round((values[start : start + step].astype(np.float64) - low) * scale)
    return made


def _in_srgb(image: Image.Image, notes: list[tuple[str, str]]) -> Image.Image:
    """An opaque 8-bit picture as RGB in sRGB, by its profile if it has one."""
    data = image.info.get("icc_profile")
    if not data:
        if image.mode == "CMYK":
            notes.append(("profile", "is in CMYK without a profile, so its colours are a guess; export it as RGB"))
        return image.convert("RGB")  # a copy where it is RGB
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if image.mode == "RGB" and _is_srgb(profile):
            return image.copy()
        made = ImageCms.profileToProfile(image, profile, _srgb(), ImageCms.Intent.PERCEPTUAL, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append(("profile", "has a colour profile that cannot be used, and is taken as sRGB; check its colours"))
        return image.convert("RGB")
    assert made is not None  # noqa: S101  # for the type checker: only `inPlace` returns none
    return made


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile is sRGB by its name, which is all that most such profiles have in common, and by what it does:
    linear sRGB is called so too. Converting it would round for nothing."""
    if "srgb" not in (profile.profile.profile_description or "").lower():
        return False
    given = Image.fromarray(np.linspace(0, 255, 24).astype(np.uint8).reshape(1, 8, 3))
    made = ImageCms.profileToProfile(given, profile, _srgb(), ImageCms.Intent.PERCEPTUAL, outputMode="RGB")
    return bool(np.abs(np.asarray(made).astype(int) - np.asarray(given)).max() <= ALIKE)


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _grounded(rgb: Image.Image, alpha: Image.Image, notes: list[tuple[str, str]]) -> Image.Image:
    """Lay a picture over the ground on which it is seen. What lies under full transparency has no say in it."""
    on_white = _over(WHITE, rgb, alpha)
    size = min(rgb.width, 256), min(rgb.height, 256)
    weights = np.asarray(alpha.resize(size, Image.Resampling.BOX), dtype=np.float64) / 255
    differs = 255 - np.asarray(on_white.resize(size, Image.Resampling.BOX), dtype=np.float64).min(axis=2)
    if weights.sum() and differs.sum() / weights.sum() < PALE and weights.mean() < 250 / 255:
        notes.append(("ground", "shows something white on transparency, and is put on grey instead of white"))
        return _over(GREY, rgb, alpha)
    return on_white


def _over(ground: tuple[int, int, int], rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    canvas = Image.new("RGBA", rgb.size, (*ground, 255))
    front = rgb.convert("RGBA")
    front.putalpha(alpha)
    return Image.alpha_composite(canvas, front).convert("RGB")
