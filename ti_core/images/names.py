"""What a file's name says: whether it may be a picture, a mask, or litter; and how a name is shown.

One rule for folders, archives and buckets. Names are relative paths with '/' between their parts, as they were found:
they may hold anything that a disk or an archive can. This module opens nothing.
"""

import re
from pathlib import PurePosixPath

from ti_core.quoting import escaped

PICTURES = frozenset(
    ".apng .avif .avifs .bmp .dib .gif .heic .heif .hif .ico .j2k .jfif .jp2 .jpe .jpeg .jpg .jpx .jxl .pbm .pgm .png "
    ".pnm .ppm .tga .tif .tiff .webp".split()
)
"""Suffixes of pictures. What a file is, its first bytes say; a file of one of these names is never passed over."""
UNREAD = frozenset(".arw .cr2 .cr3 .dng .eps .nef .orf .pdf .psd .raf .rw2 .svg".split())
"""Suffixes of what people drop as pictures and what is none that can be read: named, too."""
ARCHIVES = frozenset(".7z .gz .rar .tar .tgz .xz .zip".split())

_LITTER = {
    "__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information", "thumbs.db",
    "desktop.ini", "__pycache__", "thumbnails",
}  # fmt: skip
_MASK = re.compile(r"[-_. ]mask(label)?$", re.IGNORECASE)
_MASKS = {"mask", "masks", "masklabel"}
_LONGEST = 80


def is_litter(path: str) -> bool:
    """Whether a system or a program left it: hidden files and folders, thumbnails, trash."""
    return any((part.startswith(".") and part != "..") or part.lower() in _LITTER for part in path.split("/"))


def suffix(path: str) -> str:
    """The suffix in lower case, with its dot; "" for none."""
    return PurePosixPath(path).suffix.lower()


def is_picture_by_name(path: str) -> bool:
    """Whether its suffix is one that pictures have, readable or not."""
    return suffix(path) in PICTURES | UNREAD


def key(path: str) -> str:
    """What a picture and its mask have in common: folder and name without suffix, in any case of letters."""
    return path.removesuffix(PurePosixPath(path).suffix).casefold()


def is_mask_folder(path: str) -> bool:
    """Whether a folder holds masks, by its last part."""
    return PurePosixPath(path).name.lower() in _MASKS


def masked_key(path: str) -> str | None:
    """The `key` of the picture whose mask a file is, None for a file that is no mask.

    `a-masklabel.png` (OneTrainer's convention), `a_mask.png`, and `a.png` in a folder `mask` or `masks` beside the
    picture or beside its folder are masks of `a`.
    """
    pure = PurePosixPath(path)
    if is_mask_folder(str(pure.parent)):
        inside = str(pure.parent.parent / pure.stem)
        return _MASK.sub("", inside).casefold()
    stem = path.removesuffix(pure.suffix)
    return _MASK.sub("", stem).casefold() if _MASK.search(pure.stem) else None


def shown(name: str) -> str:
    """A name as it may stand on a page, in a record and on a terminal: control characters, signs that turn the
    direction of writing and bytes that are no UTF-8 are written as escapes, and a long one loses its middle."""
    safe = escaped(name)
    return safe if len(safe) <= _LONGEST else f"{safe[: _LONGEST - 25]}…{safe[-24:]}"
