"""Which files of a source are its pictures, which are their masks, and why the others are not used. One rule for
folders, archives and buckets:

- The pictures lie side by side. Where none lies at the top and one sub-folder alone holds pictures, that is the source,
  as in a zip of a folder; else sub-folders are named and not used.
- What has a picture's name or a picture's first bytes is used or named with a reason.

It decodes nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ti_core.images.forms import looks_like_picture
from ti_core.images.names import (
    ARCHIVES,
    is_mask_folder,
    is_picture_by_name,
    key,
    masked_key,
    shown,
    suffix,
)
from ti_core.images.sources import Entry
from ti_core.records import Finding


@dataclass(frozen=True)
class Arranged:
    """The files of a source, sorted out. `findings` tell what is not used."""

    pictures: tuple[tuple[Entry, Entry | None], ...]
    """Each with its mask, in order of their paths."""
    findings: tuple[Finding, ...]


def arranged(entries: Sequence[Entry]) -> Arranged:
    """Sort out the files of a source."""
    masks, loose, spare = dict[str, Entry](), list[Entry](), list[Entry]()
    for entry in entries:
        of = masked_key(entry.path) if is_picture_by_name(entry.path) else None
        if of is None:
            loose.append(entry)
        elif masks.setdefault(of, entry) is not entry:
            spare.append(entry)
    folder, below = _where(loose)
    here = [entry for entry in loose if _parent(entry.path) == folder]
    pictures = [entry for entry in here if _is_picture(entry)]
    # A folder of masks may lie beside the pictures or, where there is one folder of pictures, beside that.
    beside = _parent(folder)
    paired = []
    for entry in pictures:
        name = key(entry.path)
        other = key(f"{beside}/{entry.path.rpartition('/')[2]}".lstrip("/"))
        paired.append((entry, masks.pop(name, None) or (masks.pop(other, None) if other != name else None)))
    findings = [
        Finding(
            severity="warning", kind="folders", file=shown(path),
            text=f"The sub-folder {shown(path)} holds {count} picture{'s' * (count > 1)}, which are not used: put all "
            "pictures of the concept side by side, or name that folder; a batch takes sub-folders as concepts.",
        )
        for path, count in below.items()
    ]  # fmt: skip
    findings += [
        Finding(
            severity="warning", kind="archives", file=shown(entry.path),
            text=f"{shown(entry.path)} is an archive within the source; what it holds is not used: unpack it.",
        )
        for entry in here
        if suffix(entry.path) in ARCHIVES
    ]  # fmt: skip
    findings += [
        Finding(
            severity="problem", kind="mask", file=shown(entry.path),
            text=f"{shown(entry.path)} is the mask of no picture here, or a second one: give it its picture's "
            "name, or rename it if it is a picture itself.",
        )
        for entry in (*masks.values(), *spare)
        if not _masked_folders(entry.path) & below.keys()  # whose pictures are told not to be used
    ]  # fmt: skip
    return Arranged(tuple(paired), tuple(findings))


def _where(entries: Sequence[Entry]) -> tuple[str, Counter[str]]:
    """The folder of the pictures, "" for the top, and the folders below it that hold others, with their number."""
    folder = ""
    while True:
        below = Counter[str]()
        for entry in entries:
            parent = _parent(entry.path)
            inside = parent.startswith(f"{folder}/") if folder else bool(parent)
            if inside and is_picture_by_name(entry.path) and not is_mask_folder(parent):
                below[parent] += 1
        first = {path.removeprefix(folder).lstrip("/").partition("/")[0] for path in below}
        if len(first) != 1 or any(_parent(entry.path) == folder and _is_picture(entry) for entry in entries):
            return folder, below
        folder = f"{folder}/{first.pop()}".lstrip("/")


def _masked_folders(path: str) -> set[str]:
    """The folders where the picture of a mask may lie."""
    parent = _parent(path)
    return {parent, _parent(parent)} if is_mask_folder(parent) else {parent}


def _is_picture(entry: Entry) -> bool:
    """By its name or, whatever it is called, by its first bytes. Where these cost a request, as in a bucket, what has
    no suffix is read to see."""
    if is_picture_by_name(entry.path):
        return True
    return looks_like_picture(entry.head()) if entry.head else not suffix(entry.path)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
