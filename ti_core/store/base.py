"""The store: one small protocol over a bucket or a folder.

Objects are small (pictures, kilobyte vectors, JSON), so they travel as bytes. The two conditional writes are what
publishing rests on: `create` (only if absent) and `replace` (only if unchanged). This module knows neither boto3
nor what is stored.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ti_core.errors import InputError

RESERVED = ".pseudoword-"
"""File names that start so are a folder store's own (temporary files, its lock) and never part of a key."""


@dataclass(frozen=True)
class Stored:
    """An object as read: its bytes and the tag that `replace` compares."""

    data: bytes
    etag: str


@dataclass(frozen=True)
class Listed:
    """An object as a listing shows it: its key, bytes, a tag that changes when it does, and when it was written last,
    by the store's clock (UTC)."""

    key: str
    size: int
    etag: str
    written: datetime


class Store(Protocol):
    """Keys are relative, '/'-separated, without '.' or '..' parts. All methods raise ServiceError when the store cannot
    be reached, InputError for a malformed key."""

    uri: str
    """What a person would call this store: a folder path or s3://bucket/prefix."""

    def get(self, key: str) -> Stored:
        """Read one object. Raises NotFoundError."""

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite one object; a reader sees the old bytes or the new, never a mixture."""

    def create(self, key: str, data: bytes) -> bool:
        """Write one object only if none is there. Returns whether this call wrote it."""

    def replace(self, key: str, data: bytes, etag: str) -> None:
        """Overwrite one object only if its tag is still `etag`. Raises ConflictError if it changed or is gone."""

    def exists(self, key: str) -> bool:
        """Whether an object is there."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that start with `prefix`, in lexical order. Foreign objects whose names are no keys (the empty
        'folder' objects of S3 consoles, say) are passed over."""

    def entries(self, prefix: str) -> Iterator[Listed]:
        """What `keys` gives, with sizes, tags and times: one listing, without a request for each object."""

    def delete(self, key: str) -> None:
        """Remove one object; an absent one is no error."""

    def url(self, key: str) -> str:
        """Where a person or another tool finds the object: a file path or an s3:// URL."""


def is_key(key: str) -> bool:
    """Whether `key` can name an object: relative, '/'-separated, no empty, '.' or '..' part, no backslash, no control
    character or lone surrogate, no part that starts with `RESERVED`."""
    return (
        not any(part in {"", ".", ".."} or part.startswith(RESERVED) for part in key.split("/"))
        and "\\" not in key
        and not any(unicodedata.category(character) in {"Cc", "Cs"} for character in key)
    )


def check_key(key: str) -> str:
    """Return `key` unchanged. Raises InputError when it cannot name an object (see `is_key`)."""
    if not is_key(key):
        raise InputError(
            f"{key!r} cannot name an object in a store: use a relative path of '/'-separated names, without empty "
            f"parts, '.', '..', backslashes, control characters, or names that start with {RESERVED}."
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix` unchanged if it is empty or the beginning of a key. Raises InputError otherwise."""
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix
