"""Digests of files, remembered across processes: reading the gigabytes of a base model takes longer than a known run.

What was read once is kept in the user's cache folder (`$XDG_CACHE_HOME/pseudoword/digests`, else `~/.cache/…`), one
small file each, named by the weights' path, inode, size and times of change. It knows no models. Losing the folder
costs time alone.
"""

import hashlib
import os
import re
import secrets
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

REMEMBERED_FROM = 2**25
"""Bytes from which a digest is worth a file of its own; less is read in hundredths of a second."""
SETTLED = 2_000_000_000
"""Nanoseconds since its last change after which a file is remembered: within the clock's grain of a file system a
second change could bear the same time."""


def digest_files(folder: Path, names: list[str], *, named: bool = True) -> str:
    """One sha256 over the files `names` of `folder`, of their bytes and, if `named`, their names; in any order."""
    whole = hashlib.sha256()
    for name in sorted(names):
        whole.update(f"{name if named else ''}\0{digest_file(folder / name)}\n".encode())
    return whole.hexdigest()


def digest_file(path: Path) -> str:
    """The sha256 of a file's bytes, from memory where the file is the one that was read."""
    path = path.resolve()  # a hub's cache links many snapshots to one file
    stat = path.stat()
    return _digest(path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=256)
def _digest(path: Path, inode: int, size: int, modified: int, changed: int) -> str:
    """Inode, size and times are part of both memories' keys. `changed` is the one that nobody can set: a copy that
    keeps the time of modification is another file all the same."""
    if size < REMEMBERED_FROM:
        return _read(path)
    key = hashlib.sha256(f"{path}\0{inode}\0{size}\0{modified}\0{changed}".encode()).hexdigest()
    kept = _folder() / key
    with suppress(OSError):
        found = kept.read_bytes()
        if re.fullmatch(rb"[0-9a-f]{64}", found):  # not what a full disk left of it
            return found.decode()
    made = _read(path)
    if time.time_ns() - max(modified, changed) > SETTLED:
        with suppress(OSError):  # without a cache folder everything works, more slowly
            _write(kept, made)
    return made


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "pseudoword", "digests")


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
