"""Any picture's pixels as 8-bit sRGB: profiles are obeyed, deep ones scaled by their range, transparency gets a ground.

Change what this does to a pixel, and `keys.PREPROCESS_VERSION` must go up. It knows no files.
"""

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageCms

from ti_core.errors import InputError

WHITE, GREY = (255, 255, 255), (119, 119, 119)
"""What shows through transparency: white, which cut-outs are most often made for; the middle of the greys (L* 50)
behind what would vanish on white."""
PALE = 40
"""Of 255: what is cut out and differs from white by less than this on average is put on grey."""
CLEAR = 16
"""Of 255: a picture that is nowhere less transparent shows nothing."""
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
    alpha = None
    if image.has_transparency_data:
        rgba = image.convert("LA" if image.mode == "LA" else "RGBA")
        alpha = rgba.getchannel("A")
        solid = rgba.convert("L" if image.mode == "LA" else "RGB")
        solid.info = image.info
    else:
        solid = _eight_bit(image, notes)
    rgb = _in_srgb(solid, notes)
    rgb.info = {}  # a profile that was obeyed, and what a camera wrote, go no further
    if alpha is None or np.asarray(alpha).min() == 255:
        return Seen(rgb, None, tuple(notes))
    alpha.info = {}
    return Seen(_grounded(rgb, alpha, notes), alpha, tuple(notes))


def emptiness(picture: Seen) -> str:
    """Why a picture shows nothing, as the rest of a sentence; "" for one that shows something."""
    if picture.alpha is not None and np.asarray(picture.alpha).max() < CLEAR:
        return "it is transparent all over"
    values = np.asarray(picture.rgb.resize((64, 64), Image.Resampling.BOX), dtype=np.float32)
    if np.ptp(values, axis=(0, 1)).max() >= FLAT:
        return ""
    mean = float(values.mean())
    return f"it is {'black' if mean < 16 else 'white' if mean > 239 else 'one colour'} all over"


def _eight_bit(image: Image.Image, notes: list[tuple[str, str]]) -> Image.Image:
    """An opaque picture in a mode with 8 bits a channel that profiles are made for: L, RGB, CMYK or LAB."""
    if image.mode in {"L", "RGB", "CMYK", "LAB"}:
        return image
    if image.mode.startswith("I;16") or image.mode in {"I", "F"}:
        grey = Image.fromarray(_scaled(np.asarray(image), image.mode, notes))
        grey.info = image.info
        return grey
    converted = image.convert("L" if image.mode == "1" else "RGB")
    converted.info = image.info
    return converted


def _scaled(values: np.ndarray, mode: str, notes: list[tuple[str, str]]) -> np.ndarray:
    """Deep grey values as uint8, by the range that they use: 16 bits, fewer bits in 16 (a scanner's 12), 0 to 1, 0 to
    255, or from the least to the most."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError("holds places without a number (NaN or infinity): export it as an 8-bit or 16-bit picture")
    low, high = float(values.min()), float(values.max())
    if mode == "F" and 0 <= low and high <= 1:
        return np.round(values * 255).astype(np.uint8)
    if 0 <= low and high <= 255:
        return np.round(values).astype(np.uint8)
    if 0 <= low and high <= 65535 and mode != "F":
        bits = 16 if mode == "I" or high >= 2**14 else max(9, int(high).bit_length())
        bits = next(one for one in (10, 12, 14, 16) if bits <= one)
        if bits < 16:
            notes.append(("depth", f"uses {bits} of its 16 bits, and is scaled by them"))
        most: float = 2**bits - 1
        return np.round(values * (255 / most)).astype(np.uint8)
    notes.append(("depth", f"holds numbers from {low:g} to {high:g}, which are shown from black to white"))
    return np.round((values - low) * (255 / (high - low))).astype(np.uint8)


def _in_srgb(image: Image.Image, notes: list[tuple[str, str]]) -> Image.Image:
    """An opaque 8-bit picture as RGB in sRGB, by its profile if it has one."""
    data = image.info.get("icc_profile")
    if not data:
        if image.mode == "CMYK":
            notes.append(("profile", "is in CMYK without a profile, so its colours are a guess; export it as RGB"))
        return image.convert("RGB")  # a copy where it is RGB
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if _is_srgb(profile) and image.mode == "RGB":
            return image.copy()
        made = ImageCms.profileToProfile(image, profile, _srgb(), ImageCms.Intent.PERCEPTUAL, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append(("profile", "has a colour profile that cannot be used, and is taken as sRGB; check its colours"))
        return image.convert("RGB")
    assert made is not None  # noqa: S101  # for the type checker: only `inPlace` returns none
    return made


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile calls itself sRGB: converting it would round for nothing. 'sRGB' is all that most such profiles
    have in common."""
    return "srgb" in (profile.profile.profile_description or "").lower()


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _grounded(rgb: Image.Image, alpha: Image.Image, notes: list[tuple[str, str]]) -> Image.Image:
    """Lay a picture over the ground on which it is seen."""
    size = min(rgb.width, 256), min(rgb.height, 256)
    weights = np.asarray(alpha.resize(size, Image.Resampling.BOX), dtype=np.float64)
    darkest = np.asarray(rgb.resize(size, Image.Resampling.BOX), dtype=np.float64).min(axis=2)
    ground = WHITE
    if weights.sum() and np.average(255 - darkest, weights=weights) < PALE and weights.mean() < 250:
        notes.append(("ground", "shows something white on transparency, and is put on grey instead of white"))
        ground = GREY
    canvas = Image.new("RGBA", rgb.size, (*ground, 255))
    front = rgb.convert("RGBA")
    front.putalpha(alpha)
    return Image.alpha_composite(canvas, front).convert("RGB")
