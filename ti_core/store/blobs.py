"""Blobs: immutable objects named by the sha256 of their bytes. This module does not know what is in them.

A blob that nothing names is first put aside by `ti gc`, and removed for good much later. Whoever puts, reads or asks
for one meanwhile brings it back, so that no run can lose what it is about to name.
"""

import hashlib

from ti_core.errors import IntegrityError, NotFoundError
from ti_core.records import aside_key, blob_key
from ti_core.store.base import Store


def put_blob(store: Store, data: bytes) -> str:
    """Store `data` and return its sha256 in hex. A blob that is there and whole is left as it is; a damaged one is
    written anew."""
    sha256 = _digest(data)
    key = blob_key(sha256)
    if not store.create(key, data):
        try:
            whole = _digest(store.get(key).data) == sha256
        except NotFoundError:  # put aside just now
            whole = False
        if not whole:
            store.put(key, data)
    return sha256


def get_blob(store: Store, sha256: str) -> bytes:
    """Read a blob and verify it.

    Raises NotFoundError when it is not there, IntegrityError when its bytes are not those it is named by.
    """
    key = blob_key(sha256)
    try:
        data = store.get(key).data
    except NotFoundError:
        if not _bring_back(store, sha256):
            raise
        data = store.get(key).data
    found = _digest(data)
    if found != sha256:
        raise IntegrityError(
            f"{store.url(key)} is damaged: its sha256 is {found}; `ti audit --repair` mends what can be made again."
        )
    return data


def has_blob(store: Store, sha256: str) -> bool:
    """Whether a blob is there, whatever its bytes."""
    return store.exists(blob_key(sha256)) or _bring_back(store, sha256)


def _bring_back(store: Store, sha256: str) -> bool:
    """Bring back a blob that was put aside. Returns whether there was one."""
    try:
        data = store.get(aside_key(sha256)).data
    except NotFoundError:
        return False
    store.create(blob_key(sha256), data)
    return True


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
