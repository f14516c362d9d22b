"""What names say, and how they are shown."""

import os

import pytest

from ti_core.images.names import is_litter, masked_key, shown


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        (os.fsdecode(b"caf\xe9.jpg"), "caf\\xe9.jpg"),
        ("two\nlines.png", "two\\x0alines.png"),
        ("\x1b[31mred.png", "\\x1b[31mred.png"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("café 写真 🦝.png", "café 写真 🦝.png"),
        ("a" * 300 + ".png", "a" * 55 + "…" + "a" * 20 + ".png"),
    ],
    ids=["no UTF-8", "newline", "escape", "right to left", "any script", "long"],
)
def test_names_are_shown_safely(name: str, safe: str) -> None:
    assert shown(name) == safe
    assert shown(name).encode("utf-8")


@pytest.mark.parametrize(
    "path",
    [
        "__MACOSX/a.png",
        "a/.ipynb_checkpoints/1.png",
        "@eaDir/a.jpg",
        ".Trash-0/a.png",
        "$RECYCLE.BIN/a.png",
        "Thumbs.db",
    ],
)
def test_what_systems_leave_behind_is_litter(path: str) -> None:
    assert is_litter(path)


@pytest.mark.parametrize(
    ("path", "of"),
    [
        ("1-masklabel.png", "1"), ("1_mask.png", "1"), ("IMG_1-Mask.PNG", "img_1"), ("a/1.mask.png", "a/1"),
        ("mask/1.png", "1"), ("a/masks/1.png", "a/1"), ("masks/1_mask.png", "1"),
        ("mask.png", None), ("unmask.png", None), ("1.png", None), ("a_mask/1.png", None),
    ],
)  # fmt: skip
def test_masks_are_known_by_their_names(path: str, of: str | None) -> None:
    assert masked_key(path) == of
