"""Numbers about a picture that say something of its quality: sharpness, light, bars, what it has in common with others.

Pure functions of pixels; what they mean is said by `ti_core.images.quality`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ti_core.images.preprocess import Prepared

Grey = NDArray[np.float64]


@dataclass(frozen=True)
class Measures:
    """What `quality` wants to know of a picture; kilobytes, where the picture itself may be megabytes."""

    notes: tuple[tuple[str, str], ...]
    """(kind of finding, what it says of the picture), noticed on the way."""
    blur: float
    brightest: float
    """Where the brightest tenth begins, 0 to 255."""
    darkest: float
    """Where the darkest tenth ends."""
    bars: float
    masked: float | None
    """Which share of the square a mask or the alpha channel shows; None without."""
    small: NDArray[np.float64]
    ground: NDArray[np.float64]


def measure(made: Prepared) -> Measures:
    """Measure a prepared picture."""
    return Measures(
        made.notes,
        blur(made.square),
        *light(made.whole),
        bars(made.whole),
        float((np.asarray(made.shown) > 127).mean()) if made.shown else None,
        small(made.whole),
        ground(made.whole),
    )


def grey(image: Image.Image, size: tuple[int, int]) -> Grey:
    """Luma of a picture at another size, [height, width], 0 to 255."""
    return np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), dtype=np.float64)


def blur(image: Image.Image) -> float:
    """How blurred the sharpest part of a picture is, 0 to 1, at 256 pixels along its shorter side; 0 for a smaller one,
    whose pixels are too few to tell.

    The blur effect of Crété et al., "The blur effect: perception and estimation with a new no-reference perceptual
    blur metric" (2007): what blurring it again takes away of the differences between neighbours. It is measured in 16
    parts, of which the least counts: a blurred background is no fault. Parts without a difference to speak of do not
    count.
    """
    scale = 256 / min(image.size)
    if scale > 1:
        return 0.0
    values = grey(image, (round(image.width * scale), round(image.height * scale)))
    parts = [part for rows in np.array_split(values, 4) for part in np.array_split(rows, 4, axis=1)]
    busy = [part for part in parts if part.std() > 8 and min(part.shape) > 12]
    return min((max(_blur_along(part), _blur_along(part.T)) for part in busy), default=0.0)


def light(image: Image.Image) -> tuple[float, float]:
    """How bright the brightest tenth of a picture begins and the darkest tenth ends, 0 to 255. A white background does
    not hide that its subject is dark, nor a black one that it is bright."""
    values = grey(image, (64, 64))
    return float(np.quantile(values, 0.9)), float(np.quantile(values, 0.1))


def bars(image: Image.Image) -> float:
    """Which share of a picture's height or width are bars of one colour on two sides that face each other, the more of
    the two; 0 for none. A ground of one colour is none: a bar ends everywhere at once."""
    values = np.asarray(image.convert("RGB"), dtype=np.float64)
    return max(_bars_along(values), _bars_along(values.transpose(1, 0, 2)))


def small(image: Image.Image) -> NDArray[np.float64]:
    """A picture as 16 × 16 × 3 numbers of mean 0 and length 1, whole and cut to 95, 90 and 85% of its sides, [4, 768]:
    products are correlations."""
    made = []
    for share in (1, 0.95, 0.9, 0.85):
        x, y = image.width * (1 - share) / 2, image.height * (1 - share) / 2
        box = (x, y, image.width - x, image.height - y)
        values = np.asarray(image.resize((16, 16), Image.Resampling.BOX, box=box), dtype=np.float64)
        values = values - values.mean(axis=(0, 1))
        made.append(values.ravel() / max(float(np.linalg.norm(values)), 1e-9))
    return np.stack(made)


def likeness(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Correlation of two pictures as `small` gives them, and of one with the other's mirror image; either may be the
    other's middle."""
    mirrored = one.reshape(-1, 16, 16, 3)[:, :, ::-1].reshape(one.shape)
    whole, turned = (max(float((each @ other[0]).max()), float((each[0] @ other.T).max())) for each in (one, mirrored))
    return whole, turned


def ground(image: Image.Image) -> NDArray[np.float64]:
    """The colours along a picture's border, [12, 3], 0 to 255: four to the left, top and right."""
    values = np.asarray(image.resize((16, 16), Image.Resampling.BOX), dtype=np.float64)
    sides = values[:, :2].mean(axis=1), values[:2].mean(axis=0), values[:, -2:].mean(axis=1)
    return np.concatenate([side.reshape(4, 4, 3).mean(axis=1) for side in sides])


def _blur_along(values: Grey) -> float:
    width = 9
    sums = np.cumsum(values, axis=1)
    after = np.abs(np.diff((sums[:, width:] - sums[:, :-width]) / width, axis=1))
    start = width // 2 + 1  # where the first whole window has its middle
    before = np.abs(np.diff(values, axis=1))[:, start : start + after.shape[1]]
    total = float(before.sum())
    return float((total - np.maximum(0, before - after).sum()) / total) if total else 1.0


def _bars_along(values: NDArray[np.float64]) -> float:
    height = len(values)
    top, bottom = _bar(values), _bar(values[::-1])
    return (top + bottom) / height if min(top, bottom) >= max(2, 0.02 * height) else 0.0


def _bar(values: NDArray[np.float64]) -> int:
    """How many first rows are of one colour and end everywhere at once."""
    same = np.abs(values - values[0, 0]).max(axis=(1, 2)) <= 12
    count = len(values) if same.all() else int(np.argmin(same))
    if not 0 < count < len(values) - 2:
        return 0
    inside = np.abs(values[count + 1] - values[0, 0]).max(axis=1) > 20
    return count if inside.mean() > 0.8 else 0
