"""Pictures in zip and tar files. Nothing is unpacked to the disk under a name of the archive's choice, and no size that
an archive claims is believed: what is read of its list, and what comes out, is counted."""

import gzip
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import PurePosixPath
from threading import Lock
from typing import IO, BinaryIO, cast

from ti_core.errors import InputError
from ti_core.images.names import is_litter, shown
from ti_core.images.sources import HEAD_BYTES, MAX_FILES, MAX_SOURCE_BYTES, Budget, Entry, TooMuchError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_LIST_BYTES = 8 * 2**20
"""Read of what an archive says about its files: all of that is in memory, many times as large."""
_CHUNK = 2**20
_DAMAGED = (
    OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError,
    RecursionError,  # headers of headers
)  # fmt: skip
_PLAIN = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""How members of a zip may be packed: Python bounds what comes out of these alone."""


def is_archive(name: str) -> bool:
    """Whether a file's name is that of an archive that can be read."""
    return name.lower().endswith(SUFFIXES)


@contextmanager
def members(source: str, file: IO[bytes], stamp: str = "") -> Iterator[list[Entry]]:
    """The files in an open archive, but for litter, in order of their paths; they can be read within the block. Its
    first bytes say whether it is a tar; anything else is taken for a zip. The archive's own `stamp` is that of all:
    times and checksums within it are what whoever packed it says.

    Raises InputError when it is damaged or holds too much.
    """
    start = file.read(512)
    file.seek(0)
    zipped = start[257:262] != b"ustar" and not start.startswith(b"\x1f\x8b")
    with ExitStack() as stack:
        try:
            found = _of_zip(source, file, stack, stamp) if zipped else _of_tar(source, file, stack, stamp)
        except _DAMAGED:
            form = "zip" if zipped else "tar"
            raise InputError(f"{shown(source)} does not read as a {form} file.") from None
        yield sorted((one for one in found if not is_litter(one.path)), key=lambda one: one.path)


class _Listing:
    """An open archive of which, until it is `listed`, no more than `MAX_LIST_BYTES` are read."""

    def __init__(self, source: str, file: IO[bytes]) -> None:
        self._source, self._file, self._left = shown(source), file, MAX_LIST_BYTES
        self.listed = False
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if self.listed:
            return self._file.read(size)
        data = self._file.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise TooMuchError(
                f"{self._source} says over {MAX_LIST_BYTES // 2**20} MiB about its files: pack one concept's pictures "
                "alone."
            )
        return data


def _check_count(source: str, count: int) -> None:
    if count > MAX_FILES:
        raise TooMuchError(
            f"{shown(source)} holds more than {MAX_FILES} files and folders: pack one concept's pictures alone."
        )


def _of_zip(source: str, file: IO[bytes], stack: ExitStack, stamp: str) -> list[Entry]:
    listing, budget = _Listing(source, file), Budget(source)
    archive = stack.enter_context(zipfile.ZipFile(cast(BinaryIO, listing)))
    listing.listed = True
    _check_count(source, len(archive.infolist()))
    return [_zip_member(archive, info, budget, stamp) for info in archive.infolist() if not info.is_dir()]


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget, stamp: str) -> Entry:
    path = info.filename.replace("\\", "/")  # some programs on Windows write them so

    def read() -> bytes:
        if info.flag_bits & 1:
            raise InputError(f"{shown(path)} is left out: it is encrypted with a password; unpack the archive first.")
        if info.compress_type not in _PLAIN:
            raise InputError(f"{shown(path)} is left out: it is packed in a rare way; pack it as an ordinary zip file.")
        _check_inside(path)
        try:
            with archive.open(info) as member:
                return budget.read(path, cast(BinaryIO, member))
        except InputError:
            raise
        except Exception as error:  # BadZipFile, zlib's own error, EOFError, RuntimeError, …
            reason = shown(str(error)) or type(error).__name__
            raise InputError(f"{shown(path)} is left out: it does not unpack ({reason}).") from None

    def head() -> bytes:
        if info.compress_type not in _PLAIN:
            return b""
        try:
            with archive.open(info) as member:
                return member.read(HEAD_BYTES)
        except Exception:  # `read` says why
            return b""

    return Entry(path, read, head, stamp)


def _of_tar(source: str, file: IO[bytes], stack: ExitStack, stamp: str) -> list[Entry]:
    if file.read(2) == b"\x1f\x8b":
        file = _gunzipped(source, file, stack)
    file.seek(0)
    listing, budget, lock = _Listing(source, file), Budget(source), Lock()
    archive = stack.enter_context(tarfile.open(fileobj=cast(BinaryIO, listing), mode="r:"))
    found = list[Entry]()
    for number, info in enumerate(archive, 1):
        _check_count(source, number)
        if info.isreg():
            found.append(_tar_member(archive, info, budget, lock, stamp))
    listing.listed = True
    return found


def _gunzipped(source: str, file: IO[bytes], stack: ExitStack) -> IO[bytes]:
    """A temporary file without a name that holds what a gzip file does."""
    file.seek(0)
    plain, size = stack.enter_context(tempfile.TemporaryFile()), 0
    with gzip.GzipFile(fileobj=cast(BinaryIO, file)) as unzipped:
        while chunk := unzipped.read(_CHUNK):
            size += len(chunk)
            if size > MAX_SOURCE_BYTES:
                raise TooMuchError(f"{shown(source)} unpacks to over {MAX_SOURCE_BYTES // 2**20} MiB.")
            plain.write(chunk)
    return plain


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo, budget: Budget, lock: Lock, stamp: str) -> Entry:
    path = info.name.removeprefix("./")

    def read() -> bytes:
        _check_inside(path)
        try:
            with lock:  # all members share one file and its place in it
                return budget.read(path, cast(BinaryIO, archive.extractfile(info)))
        except (OSError, tarfile.TarError) as error:
            raise InputError(f"{shown(path)} is left out: it does not unpack ({error}).") from None

    def head() -> bytes:
        try:
            with lock:
                return cast(BinaryIO, archive.extractfile(info)).read(HEAD_BYTES)
        except (OSError, tarfile.TarError):
            return b""

    return Entry(path, read, head, stamp)


def _check_inside(path: str) -> None:
    """Nothing is unpacked under its name, so such a name does no harm; but nobody packs pictures so."""
    if path.startswith("/") or ".." in PurePosixPath(path).parts or path[1:3] == ":/":
        raise InputError(f"{shown(path)} is left out: its name leads out of the archive.")
