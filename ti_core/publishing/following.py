"""Following: what has to know of a pointer that has moved: the index, the tracking server by the outbox, the records.

Whoever is stopped before it is done has moved the pointer all the same; the next who decides, publishes or repairs
completes it. This module moves no pointer.
"""

import logging

from ti_core.errors import IntegrityError, NotFoundError
from ti_core.publishing.catalogue import manifest_at, versions_of
from ti_core.publishing.index import note
from ti_core.records import (
    Champion,
    Change,
    Decided,
    Plan,
    Untold,
    change_key,
    changes_prefix,
    concept_prefix,
    manifest_key,
    outbox_key,
    outcome_key,
)
from ti_core.store import Store

log = logging.getLogger(__name__)


def follow(store: Store, pointer: Champion) -> None:
    """Let everything follow the decisions in a pointer: the index, the tracking server by the outbox, and last their
    records, so that a decision without a record is one that was torn off here. Safe to call at any time, and again."""
    concept, base = pointer.concept, pointer.base
    note(store, concept, base)
    left = unfollowed(store, pointer)
    if not left:
        return
    about = {pointer.judge_key, *(one.judge_key for one in left)} - {""}
    if not pointer.judged:  # the server has no run of it: those that it has tell it that none of them leads any more
        about |= set(versions_of(store, concept, base).values())
    for key in list(store.keys(f"{concept_prefix(concept, base)}/runs/")):
        if key.rpartition("/manifest-")[2].removesuffix(".json") in about:
            try:
                leave_word(store, manifest_at(store, key).plan)
            except (IntegrityError, NotFoundError) as error:
                log.warning("%s The tracking server does not hear of it.", error)
    for one in left:
        store.create(change_key(concept, base, one), Decided(change=one).to_bytes())


def unfollowed(store: Store, pointer: Champion) -> list[Change]:
    """The decisions in a pointer that not everything has followed yet. Of a forgotten word nothing is recorded."""
    if pointer.forgotten or not pointer.changes:
        return []
    there = set(store.keys(changes_prefix(pointer.concept, pointer.base)))
    return [one for one in pointer.changes if change_key(pointer.concept, pointer.base, one) not in there]


def leave_word(store: Store, plan: Plan) -> None:
    """Note in the outbox that the tracking server must be told of this run."""
    store.put(outbox_key(plan), entry_of(plan).to_bytes())


def entry_of(plan: Plan) -> Untold:
    """What a list says of this run."""
    return Untold(
        concept=plan.concept.name, base=plan.base.slug, manifest=manifest_key(plan), outcome=outcome_key(plan)
    )
