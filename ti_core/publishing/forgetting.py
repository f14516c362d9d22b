"""Forgetting: everything of a word leaves the store, but for its name and the decision, so that nothing brings it back.

    champion.json becomes a tombstone (compare-and-swap) → blobs that no other word names → everything under the concept

From the first step on readers are told, and a training that still runs publishes nothing. A forgetting that was torn
off is completed by the next one, or by `ti gc`.
"""

from dataclasses import dataclass

from ti_core.errors import NotFoundError
from ti_core.publishing.catalogue import pointer_of
from ti_core.publishing.collecting import named
from ti_core.publishing.pointer import decided, empty
from ti_core.records import (
    FORGET,
    OUTBOX,
    Champion,
    Change,
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

    Raises NotFoundError where the store holds nothing of it.
    """
    if not any(True for _ in store.keys(f"{concept_prefix(concept, base)}/")):
        raise NotFoundError(f"The store {store.uri} holds nothing of {concept} on {base}.")
    change = Change(action="forget", judge_key="", version=0, who=who, why=why)

    def decide(current: Champion) -> Champion:
        return current if current.forgotten else empty(concept, base, (change,))

    store.create(champion_key(concept, base), empty(concept, base, ()).to_bytes())  # where nothing was published
    decided(store, concept, base, decide, recover=True)
    done = sweep(store, concept, base)
    entry = Untold(concept=concept, base=base, manifest="", outcome="")
    store.put(f"{OUTBOX}{concept}/{base}/{FORGET}", entry.to_bytes())
    return done


def allow(store: Store, concept: str, base: str, who: str, why: str) -> None:
    """Let a forgotten word be trained again. Raises NotFoundError where it was not forgotten."""
    change = Change(action="allow", judge_key="", version=0, who=who, why=why)

    def decide(current: Champion) -> Champion:
        if not current.forgotten:
            raise NotFoundError(f"{concept} on {base} was not forgotten.")
        return empty(concept, base, (*current.changes, change))

    decided(store, concept, base, decide)


def sweep(store: Store, concept: str, base: str) -> Forgotten:
    """Remove what there is of a forgotten word, also what a training has written since. Blobs go first: what names them
    is then still there for another try."""
    prefix, tombstone = f"{concept_prefix(concept, base)}/", champion_key(concept, base)
    own = [key for key in store.keys(prefix) if key != tombstone]
    names = named(store, own)
    shared = names & named(store, (key for key in store.keys("concepts/") if not key.startswith(prefix)))
    blobs = [sha256 for sha256 in sorted(names - shared) if store.exists(blob_key(sha256))]
    for sha256 in sorted(names - shared):
        store.delete(blob_key(sha256))
        store.delete(aside_key(sha256))
    for key in [*own, *store.keys(f"{OUTBOX}{concept}/{base}/")]:
        store.delete(key)
    kept = sum(store.exists(blob_key(sha256)) for sha256 in shared)
    return Forgotten(len(own), len(blobs), kept)


def forgotten_words(store: Store, there: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the words (concept, base) that have a tombstone."""
    pointers = ((one, pointer_of(store, *one)) for one in there)
    return [one for one, pointer in pointers if pointer and pointer.forgotten]
