"""Folders and archives as people drop them, with the right outcome of each. Where they do not lie here, this skips."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ti_core.errors import InputError
from ti_core.images.ingest import Wanted, ingest
from ti_core.images.preprocess import prepare
from ti_core.records import ImageSet
from ti_core.settings import Settings

CASES = Path(__file__).parents[4] / "shared/cases/pictures"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the pictures of the cases do not lie beside the checkout")


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(CASES))


def taken(case: str) -> ImageSet:
    return ingest(str(CASES / case), Wanted(64), Settings())


PROFILES = [f"{name}.{form}" for name in ("p3", "adobe", "prophoto", "rec2020") for form in ("jpg", "png", "webp")]


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_come_within_one_of_what_was_meant(name: str) -> None:
    made = prepare(name, (CASES / "profile" / name).read_bytes(), 96, "centre", Settings()).whole
    with Image.open(CASES / "expected.png") as wanted:
        assert np.abs(np.asarray(made).astype(int) - np.asarray(wanted.convert("RGB"))).mean() < 1


@pytest.mark.parametrize(
    ("case", "used", "named"),
    [
        ("halfalpha", {"white_on_clear.png"}, {"almost.png", "clear.png", "white_on_clear.png"}),
        ("sizes", {"3000x100.jpg", "33x40.png", "64x5000.png", "ok.png"}, set(
            "1x1.png 1x5000.png 31.png blank.png blank_white.jpg clear.png 3000x100.jpg 64x5000.png".split())),
        ("iphone", {f"IMG_{n}.HEIC" for n in range(4)} | {f"IMG_{n}.JPG" for n in (4, 5, 6)}, set()),
        ("allheic", {f"IMG_{n}.HEIC" for n in range(4)}, set()),
        ("othermasks", {"0.jpg", "1.jpg", "2.jpg"}, set()),
        ("nestedmac.zip", {"pics/1.jpg", "pics/2.jpg"}, {"pics/sub"}),
        ("traversal.zip", {"good.jpg"}, {"../..", "/abs.jpg", "C:/win"}),
    ],
)  # fmt: skip
def test_what_is_used_and_what_is_named(case: str, used: set[str], named: set[str]) -> None:
    images = taken(case)
    assert {one.name for one in images.pictures} == used
    assert named <= {one.file for one in images.findings}


def test_every_file_of_any_form_is_used_or_named() -> None:
    images = taken("newforms")
    told = {one.file for one in images.findings}
    assert {one.name for one in images.pictures} | told >= {path.name for path in (CASES / "newforms").iterdir()}
    assert {"j.jxl", "q.pdf", "r.cr2", "s.svg", "z.psd"} <= told
    assert {"a1.avif", "h.heic", "k.jp2", "n.jfif", "n.jpe", "noext"} <= {one.name for one in images.pictures} | {
        one.file for one in images.findings if one.kind in {"twice", "twins"}
    }


def test_masks_of_othermasks_belong_to_their_pictures() -> None:
    assert all(one.mask and one.shown for one in taken("othermasks").pictures)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("masksize", "has another size"),
        ("nested", "The sub-folder a holds 3 pictures"),
        ("twofolders.zip", "The sub-folder b holds 1 picture,"),
        ("password.zip", "o1.jpg is left out: it is encrypted"),
    ],
)
def test_what_cannot_be_used_says_why(case: str, words: str) -> None:
    with pytest.raises(InputError, match="No usable picture") as caught:
        taken(case)
    assert words in str(caught.value) and "ZipInfo" not in str(caught.value)
