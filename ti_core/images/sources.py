"""Where pictures come from: files of a folder, objects of a bucket, and the texts that lie beside them.

It finds files, tells what shows that one has changed, and reads them when it is asked to, never more than is allowed:
what an archive or a server claims is not believed, what comes is counted. It decodes none.
"""

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from ti_core.errors import InputError, NotFoundError
from ti_core.images.names import is_litter, is_mask_folder, is_picture_by_name, shown
from ti_core.settings import Settings
from ti_core.store import Store, open_store

MAX_FILE_BYTES = 100 * 2**20
MAX_SOURCE_BYTES = 2**30
"""Read of all files of one source together."""
MAX_FILES = 10_000
"""Files and folders of one source that are looked at."""
MAX_TEXT_BYTES = 2**20
"""Of a text that lies beside pictures."""
HEAD_BYTES = 64
"""So many first bytes show what a file is."""


class TooMuchError(InputError):
    """A source holds more than is read: the whole source is refused."""


class Budget:
    """How much of a source may be read. Safe to share between threads."""

    def __init__(self, source: str) -> None:
        self._source, self._left, self._lock = shown(source), MAX_SOURCE_BYTES, Lock()

    def read(self, name: str, file: BinaryIO) -> bytes:
        """All of an open file. Raises InputError for one over the limit, TooMuchError where the source is."""
        data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise InputError(f"{shown(name)} is left out: the file is over {MAX_FILE_BYTES // 2**20} MiB.")
        with self._lock:
            self._left -= len(data)
            if self._left < 0:
                raise TooMuchError(
                    f"{self._source} holds over {MAX_SOURCE_BYTES // 2**20} MiB of pictures: name fewer or "
                    "smaller ones."
                )
        return data


@dataclass(frozen=True)
class Entry:
    """A file that has been found but not read. `path` is relative to the source, '/'-separated, as it was found."""

    path: str
    read: Callable[[], bytes]
    """All of it. Raises InputError with the reason why it cannot be read."""
    head: Callable[[], bytes] | None
    """Its first bytes, none for what cannot be read; None where looking would cost a request."""
    stamp: str = ""
    """Changes whenever the file does; "" where nothing tells that without reading it."""


def files(source: str, root: Path, settings: Settings) -> list[Entry]:
    """The files of a folder. Links to files are followed as far as the settings allow, links to folders are not: they
    may go round in circles."""
    found, budget, seen = list[Entry](), Budget(source), 0
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as inside:
                there = list(inside)
        except OSError as error:
            if not folder:
                raise InputError(f"{shown(source)} cannot be read: {error.strerror}.") from None
            continue  # a sub-folder's pictures are not used anyway
        seen += len(there)
        if seen > MAX_FILES:
            raise TooMuchError(
                f"{shown(source)} holds more than {MAX_FILES} files: name the folder of one concept's pictures."
            )
        for one in there:
            path = f"{folder}/{one.name}" if folder else one.name
            if is_litter(one.name):
                continue
            if one.is_dir(follow_symlinks=False):
                folders.append(path)
            elif not (root / path).is_dir():
                found.append(_file(path, root / path, settings, budget))
    return sorted(found, key=lambda entry: entry.path)


def _file(name: str, place: Path, settings: Settings, budget: Budget) -> Entry:
    def read() -> bytes:
        path = settings.allowed(place)  # again for every file: a link may lead out of an allowed folder
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise InputError(f"{shown(name)} is left out: it is no file but a pipe, a socket or a device.")
            with path.open("rb") as file:
                return budget.read(name, file)
        except OSError as error:
            raise InputError(f"{shown(name)} is left out: it cannot be read ({error.strerror}).") from None

    def head() -> bytes:
        try:
            path = settings.allowed(place)
            if not stat.S_ISREG(path.stat().st_mode):
                return b""
            with path.open("rb") as file:
                return file.read(HEAD_BYTES)
        except (InputError, OSError):
            return b""

    try:
        stamp = stamp_of(place.stat())
    except OSError:
        stamp = ""
    return Entry(name, read, head, stamp)


def stamp_of(about: os.stat_result) -> str:
    """What changes whenever a file on disk does."""
    return f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns} {about.st_ino}"


def objects(source: str, settings: Settings) -> list[Entry]:
    """The objects of a bucket under a prefix."""
    check_not_store(source, settings)
    bucket, budget = open_store(settings, source), Budget(source)
    found = list[Entry]()
    for listed in bucket.entries(""):
        if len(found) == MAX_FILES:
            raise TooMuchError(
                f"{source} holds more than {MAX_FILES} objects: name the prefix of one concept's pictures."
            )
        if not is_litter(listed.key):
            read = _object(bucket, listed.key, listed.size, budget)
            found.append(Entry(listed.key, read, None, f"{listed.size} {listed.etag}"))
    return found


def _object(bucket: Store, key: str, size: int, budget: Budget) -> Callable[[], bytes]:
    def read() -> bytes:
        import io

        if size > MAX_FILE_BYTES:
            raise InputError(f"{shown(key)} is left out: the file is over {MAX_FILE_BYTES // 2**20} MiB.")
        try:
            return budget.read(key, io.BytesIO(bucket.get(key).data))
        except NotFoundError:
            raise InputError(f"{shown(key)} is left out: it was removed from the bucket meanwhile.") from None

    return read


OF_STORE = frozenset(
    {"aside", "awaiting", "batches", "blobs", "concepts", "index", "leases", "looks", "namespaces", "outbox", "paces"}
)
"""What a store has at its top. Pictures may lie beside these where the store is a whole bucket."""


def check_not_store(source: str, settings: Settings) -> None:
    """Raise InputError for a source that is the store, or one of its own folders, in whatever namespace: what is kept
    there would be trained on again."""
    store = settings.store_root.rstrip("/")
    inside = f"{source.rstrip('/')}/".removeprefix(f"{store}/")
    parts = inside.split("/")
    if parts[0] == "namespaces" and len(parts) > 2:  # the folder, a team, and what lies in its store
        parts = parts[2:]
    if inside == "" or (source.startswith(f"{store}/") and parts[0] in {*OF_STORE, ""}):
        raise InputError(f"{source} lies in the store ({store}): name a prefix of pictures outside of it.")


def concept_folders(source: str, settings: Settings) -> dict[str, str]:
    """Map the name of each sub-folder at `source` to its own source string, in order of name.

    Raises InputError for a missing or forbidden folder.
    """
    if source.startswith("s3://"):
        check_not_store(source, settings)
        root, store = source.rstrip("/"), settings.store_root.rstrip("/")
        names = {key.split("/", 1)[0] for key in open_store(settings, root).keys("") if "/" in key}
        places = {name: f"{root}/{name}" for name in sorted(names) if not is_litter(name)}
        return {name: place for name, place in places.items() if place != store}
    path = settings.allowed(Path(source))
    if not path.is_dir():
        raise InputError(
            f"There is no folder {shown(source)}: name one with a sub-folder of pictures for each concept."
        )
    try:
        return {sub.name: str(sub) for sub in sorted(path.iterdir()) if sub.is_dir() and not is_litter(sub.name)}
    except OSError as error:
        raise InputError(f"{shown(source)} cannot be read: {error.strerror}.") from None


def read_text(source: str, name: str, settings: Settings) -> bytes | None:
    """The bytes of the file `name` at `source` (a folder or s3:// prefix), whatever the case of its letters, or None
    where there is none.

    Raises InputError when it lies outside the allowed folders, is too large or cannot be read.
    """

    def named(names: Iterable[str]) -> str | None:
        return min(
            (one for one in names if one.lower() == name.lower()), key=lambda one: (one != name, one), default=None
        )

    def check_size(size: int) -> None:
        if size > MAX_TEXT_BYTES:
            raise InputError(f"{shown(source)}/{name} is over {MAX_TEXT_BYTES // 2**20} MiB, and is not read.")

    if source.startswith("s3://"):
        bucket = open_store(settings, source)
        # In either case of its first letter alone: the whole listing may be long.
        begun = sorted({name[0].lower(), name[0].upper()})
        sizes = {one.key: one.size for first in begun for one in bucket.entries(first)}
        if (found := named(sizes)) is None:
            return None
        check_size(sizes[found])
        return bucket.get(found).data
    folder = settings.allowed(Path(source))
    try:
        found = named(os.listdir(folder)) if folder.is_dir() else None
        path = settings.allowed(folder / found) if found else None
        if not path or not path.is_file():
            return None
        check_size(path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{shown(source)}/{name} cannot be read: {error.strerror}.") from None


def holds_concepts(source: str, settings: Settings) -> bool:
    """Whether there are folders of pictures at a folder or s3:// prefix, and none beside them. On disk no more is
    looked at than it takes to tell.

    Raises InputError when it is forbidden.
    """
    if source.startswith("s3://"):
        keys = [key for key in open_store(settings, source).keys("") if is_picture_by_name(key) and not is_litter(key)]
        first = {key.partition("/")[0] for key in keys}
        beside = any("/" not in key for key in keys)
        return len(first) > 1 and not beside and not any(map(is_mask_folder, first))
    root, looked, first = settings.allowed(Path(source)), 0, set[str]()
    for folder, folders, names in os.walk(root):
        folders[:] = [one for one in folders if not is_litter(one)]
        top, *_ = (*Path(folder).relative_to(root).parts, "")
        if not top and any(map(is_mask_folder, folders)):
            return False
        if any(is_picture_by_name(one) and not is_litter(one) for one in names):
            if not top:
                return False
            first.add(top)
            folders.clear()
        looked += len(names) if top else 0
        if len(first) > 1 or looked > MAX_FILES:
            break
    return len(first) > 1
