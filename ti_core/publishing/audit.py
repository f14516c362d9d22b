"""The audit: what in the store is not as it should be, each finding in a sentence, and what mends it.

Every blob that a document names is read and verified, every pointer followed, the index compared, the outbox looked at.
A repair may be done any number of times. What cannot be made again from what is there is told as such: it has to come
from a backup, or from a new run. This module does not know MLflow: the mirror has an audit of its own.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from ti_core.errors import IntegrityError, NotFoundError
from ti_core.publishing.catalogue import (
    READERS,
    blobs_of,
    manifest_at,
    manifests_of,
    outcomes_of,
    pointer_of,
    versions_of,
)
from ti_core.publishing.collecting import get_back, named
from ti_core.publishing.files import published_file
from ti_core.publishing.index import rebuild, row_of, words
from ti_core.publishing.pointer import standing, verify
from ti_core.records import ASIDE, BLOBS, OUTBOX, Champion, Fault, Manifest, aside_key
from ti_core.store import Store, get_blob, put_blob


def audit(store: Store, repair: bool = False) -> list[Fault]:
    """Look through the whole store; with `repair` mend what can be mended. What is fine is not told.

    Raises ServiceError when the store fails.
    """
    there = words_of(store)
    manifests = [one for word in there for one in manifests_of(store, *word)]
    found = list(_blobs(store, manifests, repair))
    for word in there:
        found += _pointer(store, *word)
        found += _interrupted(store, *word)
    found += _index(store, repair)
    left = list(store.keys(OUTBOX))
    if left:
        text = f"The tracking server was not told of {len(left)} runs yet, the first is {left[0]}."
        found.append(Fault(kind="untold", what=text))
    return found + _unnamed(store)


def words_of(store: Store) -> list[tuple[str, str]]:
    """All words that the store holds anything of, as (concept, base)."""
    parts = (key.split("/") for key in store.keys("concepts/"))
    return sorted({(part[1], part[2]) for part in parts if len(part) > 3})


def _blobs(store: Store, manifests: list[Manifest], repair: bool) -> Iterator[Fault]:
    """Every blob that a judged run names, read and verified."""
    of = dict[str, Manifest]()
    for manifest in manifests:
        for sha256 in blobs_of(manifest):
            of.setdefault(sha256, manifest)

    def check(sha256: str) -> tuple[str, Literal["damaged", "missing"], str] | None:
        try:
            get_blob(store, sha256)
        except IntegrityError as error:
            return sha256, "damaged", str(error)
        except NotFoundError as error:
            return sha256, "missing", str(error)
        return None

    with ThreadPoolExecutor(READERS, "audit") as threads:
        for bad in threads.map(check, sorted(of)):
            if bad:
                sha256, kind, reason = bad
                plan = of[sha256].plan
                mended = repair and _mend(store, sha256, of[sha256])
                whose = f"A run of {plan.concept.name} on {plan.base.slug} names it (manifest {plan.judge_key[:12]})."
                advice = "" if mended else " It comes back from a backup, or with the run done anew."
                yield Fault(kind=kind, what=f"{reason} {whose}{advice if repair else ''}", repaired=mended)


def _mend(store: Store, sha256: str, manifest: Manifest) -> bool:
    """Bring back a blob that was put aside, or make a published file again from the vectors."""
    if store.exists(aside_key(sha256)):
        get_back(store, sha256)
        return True
    for file in manifest.files:
        if file.sha256 == sha256:
            try:
                data = published_file(store, manifest, file.layout)
            except (IntegrityError, NotFoundError):
                return False
            return put_blob(store, data) == sha256
    return False


def _pointer(store: Store, concept: str, base: str) -> Iterator[Fault]:
    try:
        pointer = pointer_of(store, concept, base)
    except IntegrityError as error:
        yield Fault(
            kind="pointer", what=f"{error} Until then readers get nothing: `ti rollback {concept} --to VERSION`."
        )
        return
    if pointer is None or pointer.vacant:
        return
    reason = _why_not(store, pointer)
    if reason:
        whole = next((one for one in standing(store, pointer) if not _why_not(store, one)), None)
        instead = f"readers get version {whole.version} instead" if whole else "readers get nothing"
        yield Fault(
            kind="pointer",
            what=f"Version {pointer.version}, the best of {concept} on {base}, is not whole, {instead}: {reason}",
        )


def _why_not(store: Store, one: Champion) -> str:
    try:
        verify(store, manifest_at(store, one.manifest))
    except (IntegrityError, NotFoundError) as error:
        return str(error)
    return ""


def _interrupted(store: Store, concept: str, base: str) -> Iterator[Fault]:
    ended = {one.judge_key for one in outcomes_of(store, concept, base)}
    for number, judge_key in versions_of(store, concept, base).items():
        if judge_key and judge_key not in ended:
            yield Fault(
                kind="interrupted",
                what=f"Publishing version {number} of {concept} on {base} was torn off: run the concept again.",
            )


def _index(store: Store, repair: bool) -> Iterator[Fault]:
    told = {(row.concept, row.base): row for row in words(store)}
    true = dict[tuple[str, str], object]()
    for word in words_of(store):
        try:
            pointer = pointer_of(store, *word)
        except IntegrityError:
            true[word] = told.get(word)  # damage unpublishes nothing
            continue
        if pointer and not pointer.vacant:
            true[word] = row_of(pointer)
    wrong = sorted(word for word in told.keys() | true.keys() if told.get(word) != true.get(word))
    if wrong:
        if repair:
            rebuild(store)
        concept, base = wrong[0]
        yield Fault(
            kind="index",
            what=f"The index tells {len(wrong)} words otherwise than champion.json, the first is {concept} on {base}.",
            repaired=repair,
        )


def _unnamed(store: Store) -> list[Fault]:
    names = named(store, store.keys("concepts/"))
    lone = [one for one in store.entries(BLOBS) if one.key.rpartition("/")[2] not in names]
    aside = list(store.entries(ASIDE))
    if not lone and not aside:
        return []
    size = sum(one.size for one in [*lone, *aside]) / 2**20
    text = f"{len(lone)} blobs are named by nothing, {len(aside)} were put aside ({size:.1f} MiB): `ti gc`."
    return [Fault(kind="unnamed", what=text)]
