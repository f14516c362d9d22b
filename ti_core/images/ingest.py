"""Ingestion: read the pictures of one concept from where they lie, check them, keep what training sees of them.

One bad picture is left out with a reason; a set without a usable picture is an error. Nothing is written before the
whole set has been read, and a set whose listing has not changed is not read again. This module knows nothing of models.
"""

import hashlib
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from pydantic import ValidationError

from ti_core import keys
from ti_core.errors import InputError, IntegrityError, NotFoundError
from ti_core.images.crop import Crop
from ti_core.images.forms import decoders
from ti_core.images.layout import arranged
from ti_core.images.measures import Measures, measure
from ti_core.images.names import PICTURES, shown
from ti_core.images.opening import opened
from ti_core.images.preprocess import Prepared, png, prepare, thumbnail
from ti_core.images.quality import findings_of
from ti_core.images.sources import Entry, TooMuchError
from ti_core.records import Finding, ImageSet, Picture
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, has_blob, put_blob

log = logging.getLogger(__name__)

FEW = 3
"""Fewer usable pictures than this train, with a warning: the paper uses three to five (arXiv 2208.01618, section 4)."""
MANY = 200
"""More picture files than this are taken for a mistaken folder."""
READERS = max(1, min(4, os.cpu_count() or 1))
"""Pictures that are decoded at the same time: so many are in memory at once."""
KEPT_BYTES = 64 * 2**20
"""Of squares that were made and may be asked for soon: those of hundreds of pictures."""


@dataclass(frozen=True)
class Wanted:
    """What the squares are made for. `mirror` says whether they are trained on mirrored, too."""

    resolution: int
    crop: Crop = "auto"
    mirror: bool = False


@dataclass(frozen=True)
class Read:
    """A file that was read: the picture with what was measured of it, or why it is left out. `made` is there for who
    wants to show it: a set's pictures together may be large."""

    entry: Entry
    picture: Picture | None = None
    measured: Measures | None = None
    made: Prepared | None = None
    reason: str = ""


def ingest(source: str, wanted: Wanted, settings: Settings) -> ImageSet:
    """Read and check the pictures at `source`; nothing is kept but, in the data folder, what was found.

    A picture whose shorter side is under half the resolution is too small to use, one under the whole is enlarged with
    a warning. Which files count, `ti_core.images.layout` says.

    Raises InputError for a missing or forbidden source and when no picture is usable; ServiceError for an unreachable
    bucket or address.
    """
    with opened(source, settings) as entries:
        note = _note(source, entries, wanted, settings)
        images = _noted(note)
        if images is None:
            images, _ = _checked(source, entries, wanted, settings, showing=False)
            _write_down(images, note)
    return images


def look(source: str, wanted: Wanted, settings: Settings) -> tuple[ImageSet, dict[str, Prepared]]:
    """What `ingest` says of a source, and the pictures by their digests as they would be trained on: for showing."""
    with opened(source, settings) as entries:
        return _checked(source, entries, wanted, settings, showing=True)


def keep_pictures(source: str, images: ImageSet, wanted: Wanted, settings: Settings, store: Store) -> None:
    """Keep the squares of a set that was checked as blobs, and what its pages show of the pictures; where the settings
    say so the files too, unchanged. What the store has is used as it is, whatever would be decoded now.

    Raises InputError when a picture has changed meanwhile; what `ingest` raises for a source that cannot be read.
    """
    pictures = {one.sha256: one for one in images.pictures}
    left = {sha256 for one in images.pictures for sha256 in _made_of(one)}
    for sha256 in sorted(left):
        if (data := _squares.get(sha256)) is not None:
            left.remove(put_blob(store, data))
        elif _is_whole(store, sha256):
            left.remove(sha256)
    if settings.keep_originals:
        files = {sha256 for one in images.pictures for sha256 in (one.sha256, one.mask) if sha256}
        left |= {sha256 for sha256 in files if not has_blob(store, sha256)}
    if not left:
        return
    with opened(source, settings) as entries:
        for pair in arranged(entries).pictures:
            left -= _keep_again(pair, pictures, left, wanted, settings, store)
        if left:
            if note := _note(source, entries, wanted, settings):
                note.unlink(missing_ok=True)  # what it says is true no more
            changed = min(one.name for one in images.pictures if {*_made_of(one), one.sha256, one.mask} & left)
            raise InputError(f"{changed} in {shown(source)} has changed since it was checked: run it again.")


def _is_whole(store: Store, sha256: str) -> bool:
    """Whether a blob is there and has the bytes that it is named by."""
    try:
        return bool(get_blob(store, sha256))
    except (NotFoundError, IntegrityError):
        return False


def _made_of(picture: Picture) -> set[str]:
    """The digests of what was made of a picture."""
    return {picture.square, picture.shown, picture.whole} - {""}


def _keep_again(
    pair: tuple[Entry, Entry | None],
    pictures: Mapping[str, Picture],
    left: set[str],
    wanted: Wanted,
    settings: Settings,
    store: Store,
) -> set[str]:
    """Keep what is `left` to be kept of one picture, if it is one of the `pictures`: its files, and what is made of it,
    which is made anew. Returns the digests of what is kept."""
    entry, mask = pair
    try:
        found = [one.read() for one in pair if one]
        known = pictures.get(hashlib.sha256(found[0]).hexdigest())
        if known and left & _made_of(known):
            beside = (mask.path, found[1]) if mask else None
            made = prepare(entry.path, found[0], wanted.resolution, wanted.crop, settings, beside)
            found += [*(png(one) for one in (made.square, made.shown) if one), thumbnail(made.whole)]
    except TooMuchError:
        raise
    except (InputError, MemoryError):  # it was left out of the set, or is missed afterwards
        return set()
    return {put_blob(store, one) for one in found if hashlib.sha256(one).hexdigest() in left}


def _checked(
    source: str, entries: Sequence[Entry], wanted: Wanted, settings: Settings, *, showing: bool
) -> tuple[ImageSet, dict[str, Prepared]]:
    there = arranged(entries)
    if len(there.pictures) > MANY:
        raise InputError(
            f"{shown(source)} holds more than {MANY} pictures; textual inversion learns from three to five."
        )
    with ThreadPoolExecutor(READERS, "read") as threads:
        reads = list(threads.map(lambda pair: _read(pair, wanted, settings, showing), there.pictures))
    findings, pictures = list(there.findings), dict[str, Picture]()
    measured, made = dict[str, Measures](), dict[str, Prepared]()
    for read in reads:
        if read.picture is None or read.measured is None:
            findings.append(Finding(severity="problem", kind="unread", file=shown(read.entry.path), text=read.reason))
        elif (first := pictures.get(read.picture.sha256)) is not None:
            text = f"{read.picture.name} is the same file as {first.name}; it is used once."
            findings.append(Finding(severity="problem", kind="twice", file=read.picture.name, text=text))
        else:
            pictures[read.picture.sha256], measured[read.picture.sha256] = read.picture, read.measured
            if read.made:
                made[read.picture.sha256] = read.made
    if not pictures:
        looked = ", ".join(sorted(PICTURES))
        reasons = f": {' '.join(one.text for one in findings)}" if findings else f"; looked for {looked} files."
        raise InputError(f"No usable picture in {shown(source)}{reasons}")
    if len(pictures) < FEW:
        text = f"Only {len(pictures)} usable picture{'s' * (len(pictures) > 1)}; three to five work better."
        findings.append(Finding(severity="warning", kind="few", file="", text=text))
    findings += findings_of(
        [(one, measured[one.sha256]) for one in pictures.values()], wanted.resolution, wanted.mirror
    )
    chosen = tuple(pictures[sha256] for sha256 in sorted(pictures))
    return ImageSet(pictures=chosen, findings=tuple(findings)), made


def _read(pair: tuple[Entry, Entry | None], wanted: Wanted, settings: Settings, showing: bool = False) -> Read:
    """Read, check and cut one picture. Raises TooMuchError where the whole source is to be refused."""
    entry, mask = pair
    try:
        data = entry.read()
        mask_data = mask.read() if mask else None
        beside = (mask.path, mask_data) if mask and mask_data is not None else None
        made = prepare(entry.path, data, wanted.resolution, wanted.crop, settings, beside)
    except TooMuchError:
        raise
    except InputError as error:
        return Read(entry, reason=str(error))
    except MemoryError:
        return Read(entry, reason=f"{shown(entry.path)} is left out: this machine has too little memory for it.")
    picture = Picture(
        name=shown(entry.path),
        sha256=hashlib.sha256(data).hexdigest(),
        width=made.width,
        height=made.height,
        mask=hashlib.sha256(mask_data).hexdigest() if mask_data is not None else "",
        crop=made.crop,
        square=_squares.add(png(made.square)),
        shown=_squares.add(png(made.shown)) if made.shown else "",
        whole=_squares.add(thumbnail(made.whole)) if made.crop != (0, 0, made.width, made.height) else "",
    )
    return Read(entry, picture, measure(made), made if showing else None)


class _Squares:
    """What was made of pictures last, so that one that is checked and then kept is decoded once. Squares are small
    where pictures are not. Safe to share between threads."""

    def __init__(self) -> None:
        self._held, self._size, self._lock = OrderedDict[str, bytes](), 0, Lock()

    def add(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        with self._lock:
            if sha256 not in self._held:
                self._held[sha256], self._size = data, self._size + len(data)
            # Whoever made a square, what shows of it and the small whole asks for all three.
            while self._size > KEPT_BYTES and len(self._held) > 3:
                self._size -= len(self._held.popitem(last=False)[1])
        return sha256

    def get(self, sha256: str) -> bytes | None:
        with self._lock:
            return self._held.get(sha256)


_squares = _Squares()


def _note(source: str, entries: Sequence[Entry], wanted: Wanted, settings: Settings) -> Path | None:
    """Where it is written down what a listing's pictures came to; None where a listing does not show every change, and
    where there is no data folder yet: looking ahead makes none."""
    if not all(entry.stamp for entry in entries) or "://" in source.removeprefix("s3://"):
        return None
    if not settings.home.is_dir():
        return None
    listing = {
        "source": source.encode("utf-8", "surrogateescape").hex(),
        "files": [(entry.path.encode("utf-8", "surrogateescape").hex(), entry.stamp) for entry in entries],
        "preprocessing": keys.preprocess_key(wanted.resolution, wanted.crop),
        "mirror": wanted.mirror,
        "limits": settings.max_picture_pixels,
        "decoders": decoders(settings.picture_plugins),
        "version": NOTES_VERSION,
    }
    return settings.home.absolute() / "cache" / "pictures" / f"{keys.digest(listing)}.json"


NOTES_VERSION = 2
"""Bump when the same files are found to be something else: what was written down before is read no more."""


def _noted(note: Path | None) -> ImageSet | None:
    try:
        return ImageSet.model_validate_json(note.read_bytes()) if note else None
    except (OSError, ValidationError):
        return None


def _write_down(images: ImageSet, note: Path | None) -> None:
    """Keep what was found; where that cannot be written, it is found again next time."""
    if note is None:
        return
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        partial = note.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(images.model_dump_json())
        partial.replace(note)
    except OSError as error:
        log.debug("What the pictures came to is not written down: %s", error)
