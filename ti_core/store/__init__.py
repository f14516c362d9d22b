"""Keeping things: objects in a folder or a bucket, blobs by digest, leases. Importing this imports no boto3."""

from pathlib import Path
from urllib.parse import urlsplit

from ti_core.errors import InputError
from ti_core.settings import Settings
from ti_core.store.base import Listed, Store, Stored
from ti_core.store.blobs import bring_back, get_blob, has_blob, put_blob
from ti_core.store.lease import lease

__all__ = ["Listed", "Store", "Stored", "bring_back", "get_blob", "has_blob", "lease", "open_store", "put_blob"]


def open_store(settings: Settings, uri: str | None = None) -> Store:
    """Open the store at `uri`, or the settings' own: `s3://bucket/prefix`, a folder, or an http(s) address to
    read from.

    No connection is made before the first use. Raises InputError for a URI that names neither or an endpoint that is
    no URL, ServiceError for incomplete AWS credentials.
    """
    where = settings.store_uri if uri is None else uri
    try:
        parts = urlsplit(where)
        if parts.scheme in ("http", "https"):
            _ = parts.port  # looked at when it is asked for
            if "@" in parts.netloc or parts.query or parts.fragment:
                raise InputError(
                    f"An http(s) address of a store, here at {parts.hostname}, holds no user, password, ? or #: "
                    "readers need no key there, and s3://bucket/prefix takes one from the environment."
                )
            if any(character.isspace() for character in where):
                raise ValueError("it holds white space")
    except ValueError as error:
        raise InputError(f"{where!r} cannot name a store: {error}.") from None
    scheme, separator, rest = where.partition("://")
    if not separator:
        from ti_core.store.folder import FolderStore

        return FolderStore(Path(where))
    bucket, _, prefix = rest.partition("/")
    if scheme in ("http", "https") and bucket:
        from ti_core.store.http import HttpStore

        return HttpStore(where)
    if scheme != "s3" or not bucket:
        raise InputError(f"{where!r} cannot name a store: use s3://bucket/prefix, a folder, or an http(s) address.")
    from ti_core.store.s3 import S3Store

    return S3Store(bucket, prefix.strip("/"), settings)
