"""Squares judged by where they lie and what stands beyond the picture."""

import numpy as np
import pytest
from PIL import Image

from ti_core.images.crop import BANDS, Crop, cut, square_of


@pytest.mark.parametrize("how", ["auto", "centre", "pad"])
def test_a_square_picture_is_its_own_square(how: Crop) -> None:
    assert square_of((64, 64), how) == (0, 0, 64, 64)


@pytest.mark.parametrize(
    ("how", "box"),
    [("centre", (20, 0, 120, 100)), ("pad", (0, -20, 140, 120)), ("auto", (8, -12, 132, 112))],
)
def test_squares_of_a_wide_picture(how: Crop, box: tuple[float, ...]) -> None:
    assert square_of((140, 100), how) == pytest.approx(box)
    left, top, right, bottom = box
    assert square_of((100, 140), how) == pytest.approx((top, left, bottom, right))


def test_bands_stay_narrow_however_long_a_picture_is() -> None:
    left, top, right, bottom = square_of((3000, 100), "auto")
    assert (bottom - top - 100) / (right - left) == pytest.approx(BANDS)


def test_a_few_pixels_are_no_reason_for_bands() -> None:
    left, top, right, bottom = square_of((101, 100), "auto")
    assert (right - left, top, bottom) == (100, 0, 100)


@pytest.mark.parametrize(("place", "left"), [(0, 0), (60, 30), (120, 60)])
def test_the_square_follows_what_a_mask_shows(place: int, left: int) -> None:
    mask = Image.new("L", (160, 100))
    mask.paste(255, (place, 30, place + 40, 70))
    assert square_of((160, 100), "auto", mask)[0] == left
    assert square_of((160, 100), "centre", mask)[0] == 30


def test_what_no_square_within_the_picture_holds_gets_a_larger_one() -> None:
    mask = Image.new("L", (160, 100))
    mask.paste(255, (20, 30, 140, 70))
    left, top, right, bottom = square_of((160, 100), "auto", mask)
    assert left <= 20 and right >= 140 and top < 0 and bottom > 100


def test_bands_go_on_from_the_border_without_a_seam() -> None:
    image = Image.fromarray(np.full((40, 80, 3), (250, 250, 250), np.uint8))
    image.paste((200, 0, 0), (30, 10, 50, 30))
    padded = np.asarray(cut(image, square_of(image.size, "pad"), 80))
    assert padded.shape == (80, 80, 3) and (padded[:18] == 250).all() and (padded[62:] == 250).all()
    assert tuple(padded[40, 40]) == (200, 0, 0)


def test_a_mask_shows_nothing_beyond_the_picture() -> None:
    padded = np.asarray(cut(Image.new("L", (80, 40), 255), (0, -20, 80, 60), 80, fill=0))
    assert (padded[:20] == 0).all() and (padded[20:60] == 255).all() and (padded[60:] == 0).all()
