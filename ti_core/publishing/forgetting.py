"""Forgetting: everything of a word leaves the store, but for its name and the decision, so that nothing brings it back.

    champion.json becomes a tombstone (compare-and-swap) → the tracking server is to forget it (outbox) → blobs that no
    other word names are put aside, and removed where nobody has named them meanwhile → everything under the concept

From the first step on readers are told, and a training that still runs publishes nothing. A forgetting that was torn
off is completed by the next one, by `ti gc`, or before the word is allowed again.
"""

from dataclasses import dataclass

from ti_core.errors import IntegrityError, NotFoundError
from ti_core.publishing.catalogue import pointer_of
from ti_core.publishing.collecting import get_back, legible, named, put_aside
from ti_core.publishing.pointer import decided, empty
from ti_core.records import (
    AWAITING,
    BATCHES,
    FORGET,
    OUTBOX,
    BatchRows,
    Champion,
    Change,
    PackReport,
    Untold,
    aside_key,
    blob_key,
    champion_key,
    concept_prefix,
)
from ti_core.store import Store


@dataclass(frozen=True)
class Forgotten:
    """What was removed, and how many blobs stayed because other words name them."""

    objects: int
    blobs: int
    shared: int


def forget(store: Store, concept: str, base: str, who: str, why: str) -> Forgotten:
    """Remove all there is of a word on a base model: pictures, squares, states, checkpoints, files, pages, scores,
    decisions. What other words name too stays. The tracking server is told through the outbox.

    Raises NotFoundError where the store holds nothing of it, IntegrityError while a document of another word is damaged
    (`sweep`).
    """
    if not any(True for _ in store.keys(f"{concept_prefix(concept, base)}/")):
        raise NotFoundError(f"The store {store.uri} holds nothing of {concept} on {base}.")
    change = Change(action="forget", judge_key="", version=0, who=who, why=why)

    def decide(current: Champion) -> Champion:
        return current if current.forgotten else empty(concept, base, (change,))

    store.create(champion_key(concept, base), empty(concept, base, ()).to_bytes())  # where nothing was published
    decided(store, concept, base, decide, recover=True)
    return sweep(store, concept, base)


def allow(store: Store, concept: str, base: str, who: str, why: str) -> None:
    """Let a forgotten word be trained again, once all of it is gone. Raises NotFoundError where it was not forgotten,
    IntegrityError where that cannot be completed (`sweep`)."""

    def decide(current: Champion) -> Champion:
        if not current.forgotten:
            raise NotFoundError(f"{concept} on {base} was not forgotten.")
        change = Change(action="allow", judge_key="", version=0, who=who, why=why)
        return empty(concept, base, (*current.changes, change))

    sweep(store, concept, base)
    decided(store, concept, base, decide)


def sweep(store: Store, concept: str, base: str) -> Forgotten:
    """Remove what there is of a forgotten word, also what a training has written since. Blobs go first: what names them
    is then still there for another try. Nothing is removed of a word that is not forgotten, or not any more.

    Raises IntegrityError while a document of another word is damaged: which blobs that names is not known, and readers
    are told meanwhile.
    """
    prefix, tombstone = f"{concept_prefix(concept, base)}/", champion_key(concept, base)
    told, forget_entry = f"{OUTBOX}{concept}/{base}/", f"{OUTBOX}{concept}/{base}/{FORGET}"

    def others() -> set[str]:
        return named(store, (key for key in store.keys("concepts/") if not key.startswith(prefix)))

    own = [key for key in store.keys(prefix) if key != tombstone]
    if not own or not _is_forgotten(store, concept, base):
        return Forgotten(0, 0, 0)
    store.put(forget_entry, Untold(concept=concept, base=base, manifest="", outcome="").to_bytes())
    names, _ = legible(store, own)
    going = names - others()
    for sha256 in sorted(going):
        put_aside(store, sha256)
    shared = names & others()  # again: also what somebody has named meanwhile
    if allowed := not _is_forgotten(store, concept, base):  # meanwhile, by somebody who had it swept
        shared = names
    for sha256 in sorted(going & shared):
        get_back(store, sha256)
    if allowed:
        return Forgotten(0, 0, 0)
    gone = [sha256 for sha256 in sorted(going - shared) if store.exists(aside_key(sha256))]
    for sha256 in gone:
        store.delete(aside_key(sha256))
    listed = [*store.keys(told), *store.keys(f"{AWAITING}{concept}/{base}/")]
    for key in [*_batches_with(store, concept, base), *own, *(key for key in listed if key != forget_entry)]:
        store.delete(key)
    return Forgotten(len(own), len(gone), sum(store.exists(blob_key(sha256)) for sha256 in shared))


def _is_forgotten(store: Store, concept: str, base: str) -> bool:
    pointer = pointer_of(store, concept, base)
    return bool(pointer and pointer.forgotten)


def _batches_with(store: Store, concept: str, base: str) -> list[str]:
    """Everything of the batches that tell how a word ended: their pages show its pictures."""
    keys = list(store.keys(BATCHES))
    told = {key.split("/")[1] for key in keys if _tells_of(store, key, concept, base)}
    return [key for key in keys if key.split("/")[1] in told]


def _tells_of(store: Store, key: str, concept: str, base: str) -> bool:
    """Whether a document of a batch does; one that is damaged and has the name in it is taken to."""
    if not key.endswith("/rows.json") and "/packs/" not in key:
        return False
    try:
        data = store.get(key).data
    except NotFoundError:  # somebody else forgets a word of the same batch
        return False
    try:
        if "/packs/" in key:
            came = PackReport.from_bytes(data, store.url(key)).came
            return any(one.outcome.base == base for one in came if one.name == concept and one.outcome)
        rows = BatchRows.from_bytes(data, store.url(key)).rows
        return any(row.base == base for row in rows if row.concept == concept)
    except IntegrityError:
        return concept.encode() in data


def forgotten_words(store: Store, there: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the words (concept, base) that have a tombstone. A damaged pointer is passed over: the audit tells of
    it."""

    def forgotten(one: tuple[str, str]) -> bool:
        try:
            return _is_forgotten(store, *one)
        except IntegrityError:
            return False

    return [one for one in there if forgotten(one)]
