"""Blobs: immutable objects named by the sha256 of their bytes. This module does not know what is in them.

A blob that nothing names is first put aside by `ti gc`, and removed for good much later. Whoever puts one, or asks for
it because he is about to name it, brings it back, so that no run can lose what it is about to name. Reading writes
nothing: a reader may have the right to read alone.
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
    """Read a blob, also one that was put aside, and verify it. Writes nothing.

    Raises NotFoundError when it is not there, IntegrityError when its bytes are not those it is named by.
    """
    key = blob_key(sha256)
    # The last look is for one that came back from aside between the first two.
    for place in (key, aside_key(sha256), key):
        try:
            data = store.get(place).data
        except NotFoundError:
            continue
        found = _digest(data)
        if found != sha256:
            raise IntegrityError(
                f"{store.url(place)} is damaged: its sha256 is {found}; `ti audit --repair` mends what can be made "
                "again."
            )
        return data
    raise NotFoundError(f"There is no {key} in the store {store.uri}.")


def has_blob(store: Store, sha256: str) -> bool:
    """Whether a blob is there, whatever its bytes; one that was put aside is brought back."""
    return store.exists(blob_key(sha256)) or bring_back(store, sha256) or store.exists(blob_key(sha256))


def bring_back(store: Store, sha256: str) -> bool:
    """Bring back a blob that was put aside, in place of a missing or damaged one. Returns whether a whole one lay
    there."""
    try:
        data = store.get(aside_key(sha256)).data
    except NotFoundError:
        return False
    if _digest(data) != sha256:
        return False
    put_blob(store, data)
    return True


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
