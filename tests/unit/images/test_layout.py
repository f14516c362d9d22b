"""Which files of a source are its pictures."""

import pytest

from ti_core.images.layout import arranged
from ti_core.images.sources import Entry

JPEG = b"\xff\xd8\xff\xe0" + bytes(60)


def entry(path: str) -> Entry:
    """A file whose bytes are a JPEG's where its name begins with `photo`."""
    head = JPEG if path.rpartition("/")[2].startswith("photo") else b"words of some length"
    return Entry(path, lambda: head, lambda: head)


def sorted_out(*paths: str) -> tuple[dict[str, str | None], list[str]]:
    """Pictures with their masks, and the kinds and files of what is told."""
    made = arranged([entry(path) for path in sorted(paths)])
    pairs = {picture.path: mask.path if mask else None for picture, mask in made.pictures}
    return pairs, [f"{one.kind} {one.file}" for one in made.findings]


@pytest.mark.parametrize(
    ("paths", "pictures", "told"),
    [
        (["1.jpg", "2.HEIC", "notes.txt"], ["1.jpg", "2.HEIC"], []),
        (["photo", "photo.dat", "text", "1.jxl", "r.cr2"], ["1.jxl", "photo", "photo.dat", "r.cr2"], []),
        (["pics/1.jpg", "pics/sub/3.jpg"], ["pics/1.jpg"], ["folders pics/sub"]),
        (["a/1.jpg", "b/1.jpg", "b/2.jpg"], [], ["folders a", "folders b"]),
        (["a/b/c/1.jpg", "a/readme.txt"], ["a/b/c/1.jpg"], []),
        (["1.jpg", "more.zip"], ["1.jpg"], ["archives more.zip"]),
    ],
)
def test_pictures_lie_side_by_side(paths: list[str], pictures: list[str], told: list[str]) -> None:
    found, findings = sorted_out(*paths)
    assert list(found) == pictures
    assert findings == told


@pytest.mark.parametrize(
    ("paths", "masks"),
    [
        (["0.jpg", "0_mask.png", "1.jpg"], {"0.jpg": "0_mask.png", "1.jpg": None}),
        (["0.jpg", "0-masklabel.png"], {"0.jpg": "0-masklabel.png"}),
        (["0.jpg", "masks/0.png"], {"0.jpg": "masks/0.png"}),
        (["images/0.jpg", "masks/0.png"], {"images/0.jpg": "masks/0.png"}),
        (["images/0.jpg", "images/mask/0.png"], {"images/0.jpg": "images/mask/0.png"}),
    ],
)
def test_masks_belong_to_their_pictures(paths: list[str], masks: dict[str, str | None]) -> None:
    assert sorted_out(*paths) == (masks, [])


def test_a_mask_is_never_a_picture() -> None:
    found, told = sorted_out("0.jpg", "0_mask.png", "0-masklabel.png", "9_mask.png")
    assert found == {"0.jpg": "0-masklabel.png"}
    assert told == ["mask 9_mask.png", "mask 0_mask.png"]


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (["pics/0.jpg", "masks/0.png", "masks/9.png"], ["mask masks/9.png"]),
        (["pics/0.jpg", "9_mask.png"], ["mask 9_mask.png"]),
        (["0.jpg", "masks/deep/9_mask.png"], ["mask masks/deep/9_mask.png"]),
        (["0.jpg", "more/1.jpg", "more/1_mask.png", "more/masks/2.png"], ["folders more"]),
        (["masks/0.png"], ["mask masks/0.png"]),
    ],
)
def test_a_mask_without_its_picture_is_named_wherever_it_lies(paths: list[str], told: list[str]) -> None:
    assert sorted_out(*paths)[1] == told
