"""Which blobs are named, and what becomes of those that are not: `collect` is `ti gc`.

A blob counts as named where its digest stands anywhere in a document, a state or a copy under `concepts/`: that errs
on the side of keeping, and knows no format. One that nothing names goes in two steps, each after the time of grace:
first it is put aside, much later removed. Whoever puts it, or asks for it to name it, brings it back in between
(`ti_core.store.blobs`), so a run that is about to name it loses nothing, as long as no run takes longer than the grace.

What a damaged document named is not known. So while there is one, nothing is put aside and nothing removed.
"""

import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ti_core.errors import IntegrityError, NotFoundError
from ti_core.publishing.catalogue import READERS
from ti_core.records import ASIDE, BLOBS, aside_key, blob_key
from ti_core.store import Listed, Store, bring_back, get_blob

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

    Raises IntegrityError while a document is damaged: nothing is removed then. Raises ServiceError when the store
    fails; what is left then is done the next time.
    """
    before = datetime.now(UTC) - older_than
    waiting, there = list(store.entries(ASIDE)), list(store.entries(BLOBS))
    names, damaged = legible(store, store.keys("concepts/"))
    unnamed = [one for one in there if _sha256(one) not in names and one.written < before]
    back = [one for one in waiting if _sha256(one) in names]
    gone = [one for one in waiting if _sha256(one) not in names and one.written < before]
    if not dry:
        for one in back:
            get_back(store, _sha256(one))
    _refuse(store, damaged)
    if not dry:
        for one in gone:
            store.delete(one.key)
        for one in unnamed:
            put_aside(store, _sha256(one))
    return Collected(len(unnamed), len(gone), len(back), sum(one.size for one in gone))


def named(store: Store, keys: Iterable[str]) -> set[str]:
    """Every sha256 that stands in one of these objects. One that is removed meanwhile names nothing.

    Raises IntegrityError when one of the documents among them is damaged: what it named is not known.
    """
    found, damaged = legible(store, keys)
    _refuse(store, damaged)
    return found


def legible(store: Store, keys: Iterable[str]) -> tuple[set[str], list[str]]:
    """Every sha256 that stands in one of these objects, and the keys of the documents among them that are damaged."""

    def read(key: str) -> tuple[set[str], bool]:
        try:
            data = store.get(key).data
        except NotFoundError:
            return set(), False
        return {found.decode() for found in _SHA256.findall(data)}, key.endswith(".json") and not _reads(data)

    there = list(keys)
    with ThreadPoolExecutor(READERS, "named") as threads:
        found = list(threads.map(read, there))
    names = set[str]().union(*(names for names, _ in found))
    return names, [key for key, (_, damaged) in zip(there, found, strict=True) if damaged]


def get_back(store: Store, sha256: str) -> None:
    """Bring back a blob that was put aside, in place of a missing or damaged one."""
    bring_back(store, sha256)
    if store.exists(blob_key(sha256)):
        store.delete(aside_key(sha256))


def put_aside(store: Store, sha256: str) -> None:
    """Put a blob aside. The copy comes first: at every moment the blob is in one of the two places."""
    try:
        store.put(aside_key(sha256), get_blob(store, sha256))
    except NotFoundError:
        return
    except IntegrityError:
        pass  # nothing names it, and it is no longer what its name says
    store.delete(blob_key(sha256))


def _refuse(store: Store, damaged: list[str]) -> None:
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise IntegrityError(
            f"{store.url(damaged[0])}{more} is damaged, and what it named is not known, so no blob is removed: "
            "`ti audit --repair` mends it or says what does; then do this again."
        )


def _reads(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def _sha256(entry: Listed) -> str:
    return entry.key.rpartition("/")[2]
