"""Blobs: immutable objects named by the sha256 of their bytes. This module does not know what is in them."""

import hashlib

from ti_core.errors import IntegrityError
from ti_core.records import blob_key
from ti_core.store.base import Store


def put_blob(store: Store, data: bytes) -> str:
    """Store `data` and return its sha256 in hex. A blob that is there already is left as it is."""
    sha256 = hashlib.sha256(data).hexdigest()
    store.create(blob_key(sha256), data)
    return sha256


def get_blob(store: Store, sha256: str) -> bytes:
    """Read a blob and verify it.

    Raises NotFoundError when it is not there, IntegrityError when its bytes are not those it is named by.
    """
    key = blob_key(sha256)
    data = store.get(key).data
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise IntegrityError(
            f"{store.url(key)} is damaged: its sha256 is {found}; delete it and store it again from its source."
        )
    return data
