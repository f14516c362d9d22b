"""A store in a local folder: the embedded default, one file per key.

Every write goes to a temporary file in the same folder, is synced, and appears under its name in one step, so a
reader never sees half an object, and a crash leaves at most a hidden temporary file. Several threads and processes
may share the folder; it must lie on a file system with hard links and `flock` (any local one). This module does not
know what is stored.
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ti_core.errors import ConflictError, InputError, NotFoundError, ServiceError
from ti_core.settings import expanded
from ti_core.store.base import RESERVED, Listed, Stored, check_key, check_prefix, is_key


class FolderStore:
    """A `Store` in `folder`, which is created by the first write. The tag of an object is the sha256 of its bytes.

    Unlike in S3, one key cannot be the folder of another: after `a`, writing `a/b` raises InputError.
    Raises InputError when `folder` is a file.
    """

    def __init__(self, folder: Path) -> None:
        self._root = expanded(folder).absolute()
        self.uri = str(self._root)
        if self._root.exists() and not self._root.is_dir():
            raise InputError(f"The store {self.uri} is a file: name a folder.")

    def get(self, key: str) -> Stored:
        """Read one object. Raises NotFoundError."""
        path = self._path(key)
        with self._told("read"):
            try:
                data = path.read_bytes()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise NotFoundError(f"There is no {key} in the store {self.uri}.") from None
        return Stored(data, hashlib.sha256(data).hexdigest())

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite one object."""
        path = self._path(key)
        with self._told("written"), self._temporary(path, data) as temporary, self._locked():
            temporary.replace(path)

    def create(self, key: str, data: bytes) -> bool:
        """Write one object only if none is there. Returns whether this call wrote it."""
        path = self._path(key)
        with self._told("written"):
            if path.is_file():
                return False
            with self._temporary(path, data) as temporary:
                try:
                    # A hard link fails when the name is taken, where a rename would overwrite.
                    path.hardlink_to(temporary)
                except FileExistsError:
                    return False
        return True

    def replace(self, key: str, data: bytes, etag: str) -> None:
        """Overwrite one object only if its tag is still `etag`. Raises ConflictError if it changed or is gone."""
        path = self._path(key)
        with self._told("written"):
            if path.is_file():
                with self._temporary(path, data) as temporary, self._locked():
                    if path.is_file() and self.get(key).etag == etag:
                        temporary.replace(path)
                        return
        raise ConflictError(f"{key} in the store {self.uri} was changed meanwhile: read it again.")

    def exists(self, key: str) -> bool:
        """Whether an object is there."""
        path = self._path(key)
        with self._told("read"):
            return path.is_file()

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that start with `prefix`, in lexical order. The listing is taken at the first step."""
        return self._keys(check_prefix(prefix))

    def entries(self, prefix: str) -> Iterator[Listed]:
        """What `keys` gives, with sizes and tags of their own: size and time, which tell a change without reading."""
        for key in self.keys(prefix):
            with self._told("read"):
                try:
                    about = self._path(key).stat()
                except FileNotFoundError:
                    continue  # gone since it was listed
            tag = f"{about.st_size} {about.st_mtime_ns} {about.st_ino}"
            yield Listed(key, about.st_size, tag, datetime.fromtimestamp(about.st_mtime, UTC))

    def delete(self, key: str) -> None:
        """Remove one object; an absent one is no error. Folders stay, so that no writer loses the one it writes to."""
        path = self._path(key)
        with self._told("written"):
            if path.is_file():
                with self._locked():
                    path.unlink(missing_ok=True)

    def url(self, key: str) -> str:
        """The path of the object's file."""
        return str(self._path(key))

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _keys(self, prefix: str) -> Iterator[str]:
        found = []
        with self._told("read"):
            for folder, _, names in os.walk(self._root / prefix.rpartition("/")[0], onerror=_raise_unless_gone):
                for name in names:
                    key = (Path(folder) / name).relative_to(self._root).as_posix()
                    if key.startswith(prefix) and is_key(key):
                        found.append(key)
        # Sorted as whole strings, as S3 does: 'a-b/x' comes before 'a/x'.
        yield from sorted(found)

    @contextmanager
    def _temporary(self, path: Path, data: bytes) -> Iterator[Path]:
        """A synced file with `data` beside `path`; removed at the end unless it was renamed."""
        if path.is_dir():
            raise IsADirectoryError
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{RESERVED}{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the store's lock. All overwriting takes it, else a plain `put` could vanish inside a `replace`."""
        with (self._root / f"{RESERVED}lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        """Put the operating system's errors into a sentence."""
        try:
            yield
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            raise InputError(
                f"The store {self.uri} cannot hold this key beside the ones it has: one would have to be a file and a "
                "folder at once; choose another key."
            ) from None
        except OSError as error:
            raise ServiceError(
                f"The store {self.uri} cannot be {verb} ({error.strerror}): check its permissions and its disk."
            ) from error


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
