"""Which blobs are named, and what becomes of those that are not: `collect` is `ti gc`.

A blob counts as named where its digest stands anywhere in a document, a state or a copy under `concepts/`: that errs
on the side of keeping, and knows no format. One that nothing names goes in two steps, each after the time of grace:
first it is put aside, much later removed. Whoever puts, reads or asks for it in between brings it back
(`ti_core.store.blobs`), so a run that is about to name it loses nothing, as long as no run takes longer than the grace.
"""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ti_core.errors import IntegrityError, NotFoundError
from ti_core.publishing.catalogue import READERS
from ti_core.records import ASIDE, BLOBS, aside_key, blob_key
from ti_core.store import Listed, Store, get_blob

_SHA256 = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class Collected:
    """What `collect` did, or would do: numbers of blobs, and the bytes that are free then."""

    aside: int
    removed: int
    brought_back: int
    freed: int


def collect(store: Store, older_than: timedelta, dry: bool = False) -> Collected:
    """Put aside the blobs that nothing names and nobody has written for `older_than`; remove those that were put aside
    as long ago, and bring back those that are named again. `dry` only counts.

    Raises ServiceError when the store fails; what is left then is done the next time.
    """
    before = datetime.now(UTC) - older_than
    waiting, there = list(store.entries(ASIDE)), list(store.entries(BLOBS))
    names = named(store, store.keys("concepts/"))
    unnamed = [one for one in there if _sha256(one) not in names and one.written < before]
    back = [one for one in waiting if _sha256(one) in names]
    gone = [one for one in waiting if _sha256(one) not in names and one.written < before]
    if not dry:
        for one in back:
            get_back(store, _sha256(one))
        for one in gone:
            store.delete(one.key)
        for one in unnamed:
            _put_aside(store, _sha256(one))
    return Collected(len(unnamed), len(gone), len(back), sum(one.size for one in gone))


def named(store: Store, keys: Iterable[str]) -> set[str]:
    """Every sha256 that stands in one of these objects. One that is removed meanwhile names nothing."""

    def read(key: str) -> set[str]:
        try:
            return {found.decode() for found in _SHA256.findall(store.get(key).data)}
        except NotFoundError:
            return set()

    with ThreadPoolExecutor(READERS, "named") as threads:
        return set().union(*threads.map(read, keys))


def get_back(store: Store, sha256: str) -> None:
    """Bring back a blob that was put aside, in place of a missing or damaged one."""
    try:
        get_blob(store, sha256)
    except IntegrityError:
        store.put(blob_key(sha256), store.get(aside_key(sha256)).data)
    store.delete(aside_key(sha256))


def _put_aside(store: Store, sha256: str) -> None:
    """The copy comes first: at every moment the blob is in one of the two places."""
    try:
        store.put(aside_key(sha256), get_blob(store, sha256))
    except NotFoundError:
        return
    except IntegrityError:
        pass  # nothing names it, and it is no longer what its name says
    store.delete(blob_key(sha256))


def _sha256(entry: Listed) -> str:
    return entry.key.rpartition("/")[2]
