"""The pointer: champion.json, which alone decides what readers get, and what moves it.

Publishing moves it, and so do people who change their mind: `rollback`, `pin`, `withdraw`. All do it by the same
compare-and-swap; a person's decision is written in the pointer itself, so that no publisher can miss it, and beside it
as a record. Readers see the state before or the state after, never anything between. This module judges nothing.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from ti_core import formats
from ti_core.config import placeholder
from ti_core.errors import (
    ConflictError,
    InputError,
    IntegrityError,
    NotFoundError,
    PseudowordError,
    WithdrawnError,
)
from ti_core.publishing.catalogue import (
    READERS,
    as_pointer,
    changes_of,
    imports_of,
    manifests_of,
    outcomes_of,
    pointer_of,
    run_at,
    versions_of,
)
from ti_core.publishing.following import follow
from ti_core.records import (
    Champion,
    Change,
    Imported,
    Manifest,
    Plan,
    blob_key,
    champion_key,
    former_champion_key,
    imported_key,
    manifest_key,
    now,
    version_key,
)
from ti_core.store import Store, Stored, get_blob

log = logging.getLogger(__name__)

_ATTEMPTS = 16  # at moving a pointer that others move too


# --- what every move rests on ---------------------------------------------------------------------------------------


def refuse_forgotten(pointer: Champion | None) -> None:
    """Raise WithdrawnError for a word that people have decided to forget."""
    if pointer and (decision := pointer.forgotten):
        raise WithdrawnError(
            f"{pointer.concept} on {pointer.base} was forgotten {decision.told()}; nothing of it is kept or made "
            f"again, unless `ti forget {pointer.concept} --allow-again` says so."
        )


def forgotten(store: Store, plans: Sequence[Plan]) -> list[WithdrawnError | None]:
    """Why the work of each plan is not to be done: people have decided to forget the word. None where it may be."""

    def look(plan: Plan) -> WithdrawnError | None:
        try:
            refuse_forgotten(pointer_of(store, plan.concept.name, plan.base.slug))
        except WithdrawnError as error:
            return error
        except IntegrityError:
            return None  # publishing tells of a damaged pointer
        return None

    with ThreadPoolExecutor(READERS, "forgotten") as threads:
        return list(threads.map(look, plans)) if plans else []


def verify(store: Store, champion: Champion) -> None:
    """Read back what readers would get, bytes and form. Raises IntegrityError, NotFoundError for what is not there."""
    wanted = formats.read_checkpoint(get_blob(store, champion.vectors), f"the chosen step of {champion.concept}")
    for file in champion.files:
        source = store.url(blob_key(file.sha256))
        formats.same_vectors(formats.read_published(get_blob(store, file.sha256), source), wanted, source)


def replace_champion(store: Store, stored: Stored, current: Champion, new: Champion) -> None:
    """Move the pointer from `current`, as it was `stored`, to `new`. Raises ConflictError when somebody was faster.

    The copy of the current one comes first, so that whoever was champion and is no more can be told from who never was.
    """
    if current.judge_key and current.judge_key != new.judge_key:
        store.create(former_champion_key(current.concept, current.base, current.judge_key), stored.data)
    store.replace(champion_key(current.concept, current.base), new.to_bytes(), stored.etag)


def champion_from(manifest: Manifest, version: int) -> Champion:
    """The pointer that names a judged run, the first of its word."""
    plan, decision = manifest.plan, manifest.decision
    (vectors,) = (checkpoint.vectors for checkpoint in manifest.checkpoints if checkpoint.step == decision.step)
    return Champion(
        concept=plan.concept.name,
        base=plan.base.slug,
        base_digest=plan.base.digest,
        placeholder=plan.concept.placeholder,
        judge_key=plan.judge_key,
        train_key=plan.train_key,
        version=version,
        step=decision.step,
        vectors=vectors,
        files=manifest.files,
        protocol=plan.protocol_digest,
        score=manifest.report.score,
        manifest=manifest_key(plan),
        tags=plan.concept.tags,
        previous=None,
    )


def champion_of_import(word: Imported, version: int) -> Champion:
    """The pointer that names a word that was imported and not judged, the first of its name."""
    return Champion(
        concept=word.concept.name,
        base=word.base.slug,
        base_digest=word.base.digest,
        placeholder=placeholder(word.concept.name),
        judge_key=word.judge_key,
        train_key=word.train_key,
        version=version,
        step=word.given.step,
        vectors=word.given.vectors,
        files=word.files,
        protocol="",
        score=0.0,
        manifest=imported_key(word),
        tags=word.concept.tags,
        previous=None,
        judged=False,
    )


def after(present: Champion, newcomer: Champion) -> Champion:
    """A newcomer in the place of the present champion, whose decisions by people it carries on."""
    previous = present.previous if present.vacant else present.judge_key
    return newcomer.model_copy(update={"previous": previous, "changes": present.changes})


def standing(store: Store, pointer: Champion) -> Iterator[Champion]:
    """What readers may get, best first: the champion, and those before it, without what was withdrawn. What cannot be
    read is passed over."""
    if not pointer.vacant:
        yield pointer
    seen, before = {pointer.judge_key}, pointer.previous
    while before and before not in seen:
        seen.add(before)
        key = former_champion_key(pointer.concept, pointer.base, before)
        try:
            one = Champion.from_bytes(store.get(key).data, store.url(key))
        except (IntegrityError, NotFoundError) as error:
            log.warning("%s It is passed over, and what was champion before it is not known.", error)
            return
        if not pointer.withdrawal(before, one.vectors):
            yield one
        before = one.previous


# --- people change their mind ---------------------------------------------------------------------------------------


def rollback(store: Store, concept: str, base: str, to: int | None, who: str, why: str) -> Champion:
    """Let readers get the version `to` again, or the one before the present one; returns the new pointer.

    Its bytes are read back first. What stood in its place stays published and does not come back by itself. Works over
    a damaged champion.json where `to` is given. Raises NotFoundError when there is no such version, WithdrawnError for
    one that was withdrawn, IntegrityError for a damaged one, InputError when it is the champion already.
    """

    def decide(current: Champion) -> Champion:
        refuse_forgotten(current)
        target = _before(store, current) if to is None else _version(store, current, to)
        if current.judge_key == target.judge_key and not current.vacant:
            raise InputError(f"Version {target.version} is what readers of {concept} on {base} get already.")
        return _moved(store, current, target, _change("rollback", target, who, why, gone=current.vectors))

    return decided(store, concept, base, decide, recover=to is not None)


def pin(store: Store, concept: str, base: str, who: str, why: str, off: bool = False) -> Champion:
    """Hold the champion in its place: no newcomer takes it, however good, until it is unpinned (`off`), rolled back or
    withdrawn. Raises NotFoundError where there is no champion."""

    def decide(current: Champion) -> Champion:
        refuse_forgotten(current)
        if current.vacant:
            raise NotFoundError(f"{concept} on {base} has no version to be pinned.")
        if bool(current.pin) != off:
            return current
        change = _change("unpin" if off else "pin", current, who, why)
        return current.model_copy(update={"changes": (*current.changes, change), "schema_version": Champion.SCHEMA})

    return decided(store, concept, base, decide)


def withdraw(store: Store, concept: str, base: str, version: int | None, who: str, why: str) -> Champion:
    """Withdraw a version, or the champion, for good: no reader gets it any more, and nothing brings it back.

    A withdrawn champion gives way to the one before it; where there is none, readers are told that the word was
    withdrawn. Raises NotFoundError when there is no such version, WithdrawnError when it was withdrawn already.
    """

    def decide(current: Champion) -> Champion:
        refuse_forgotten(current)
        judge_key, number = current.judge_key, current.version
        if version is not None:
            judge_key, number = _judge_key(store, concept, base, version), version
        if not judge_key:
            raise NotFoundError(f"{concept} on {base} has no version to be withdrawn.")
        if earlier := current.withdrawal(judge_key):
            raise WithdrawnError(f"Version {number} of {concept} on {base} was withdrawn already, {earlier.told()}.")
        gone = current.vectors if judge_key == current.judge_key else _vectors_of(store, concept, base, judge_key)
        change = Change(action="withdraw", judge_key=judge_key, version=number, who=who, why=why, gone=gone)
        without = current.model_copy(update={"changes": (*current.changes, change), "schema_version": Champion.SCHEMA})
        if not without.vacant:
            return without
        for before in standing(store, without):
            try:
                return _moved(store, current, before, change)
            except (IntegrityError, NotFoundError) as error:
                log.warning("Version %d cannot take its place: %s", before.version, error)
        return without

    return decided(store, concept, base, decide)


def decided(
    store: Store, concept: str, base: str, decide: Callable[[Champion], Champion], recover: bool = False
) -> Champion:
    """Move the pointer as `decide` says of the present one, with a decision at the end of its changes; then let
    everything `follow`. That is done too where nothing is to be changed, or `decide` refuses because it stands already:
    whoever decided it may have been stopped before. With `recover` a damaged pointer counts as empty."""
    key, new = champion_key(concept, base), None
    for _ in range(_ATTEMPTS):
        try:
            stored = store.get(key)
        except NotFoundError:
            raise NotFoundError(f"No word {concept} for {base} is published in {store.uri}.") from None
        try:
            current = as_pointer(stored, store.url(key), concept, base)
        except IntegrityError:
            if not recover:
                raise
            current = empty(concept, base, tuple(changes_of(store, concept, base)))
        if new is None or current != new:  # else it was our own move whose answer got lost
            try:
                new = decide(current)
            except PseudowordError:
                follow(store, current)
                raise
            if new is not current:
                try:
                    replace_champion(store, stored, current, new)
                except ConflictError:
                    continue
        follow(store, new)
        return new
    raise ConflictError(f"{store.url(key)} was moved by others {_ATTEMPTS} times in a row: try again.")


def empty(concept: str, base: str, changes: tuple[Change, ...]) -> Champion:
    """A pointer that names no run."""
    return Champion(
        concept=concept, base=base, base_digest="", placeholder="", judge_key="", train_key="", version=0, step=0,
        vectors="", files=(), protocol="", score=0.0, manifest="", previous=None, changes=changes,
    )  # fmt: skip


def _moved(store: Store, current: Champion, target: Champion, change: Change) -> Champion:
    """`target` in the place of `current`, its bytes read back."""
    verify(store, target)
    with_change = {"changes": (*current.changes, change), "promoted": now(), "schema_version": Champion.SCHEMA}
    return target.model_copy(update=with_change)


def _before(store: Store, current: Champion) -> Champion:
    """What readers got before the present champion."""
    for one in standing(store, current):
        if one.judge_key != current.judge_key:
            return one
    if not current.version:
        raise NotFoundError(f"{current.concept} on {current.base} has no version to go back to.")
    raise NotFoundError(
        f"Nothing of {current.concept} on {current.base} stands behind version {current.version}: name one with --to, "
        f"`ti show {current.concept}` lists them."
    )


def _version(store: Store, current: Champion, number: int) -> Champion:
    """The pointer that names this version."""
    concept, base = current.concept, current.base
    judge_key = _judge_key(store, concept, base, number)
    if gone := current.withdrawal(judge_key):
        raise WithdrawnError(f"Version {number} of {concept} on {base} was withdrawn {gone.told()}.")
    target = _pointer_to(store, current, number, judge_key)
    if gone := current.withdrawal(judge_key, target.vectors):
        raise WithdrawnError(
            f"Version {number} of {concept} on {base} has the vectors of version {gone.version}, which was withdrawn "
            f"{gone.told()}."
        )
    return target


def _pointer_to(store: Store, current: Champion, number: int, judge_key: str) -> Champion:
    concept, base = current.concept, current.base
    former = former_champion_key(concept, base, judge_key)
    if current.judge_key == judge_key:
        return current
    try:
        return Champion.from_bytes(store.get(former).data, store.url(former))
    except NotFoundError:
        pass  # it never was champion
    except IntegrityError as error:
        log.warning("%s Its manifest tells the same.", error)
    outcome = next((one for one in outcomes_of(store, concept, base) if one.judge_key == judge_key), None)
    if outcome is None:
        raise NotFoundError(f"Version {number} of {concept} on {base} was never published to its end.")
    run = run_at(store, outcome.manifest)
    named = champion_of_import(run, number) if isinstance(run, Imported) else champion_from(run, number)
    return after(current, named)


def _judge_key(store: Store, concept: str, base: str, number: int) -> str:
    there = versions_of(store, concept, base)
    if number not in there:
        listed = ", ".join(str(one) for one in sorted(there))
        raise NotFoundError(f"{concept} on {base} has no version {number}: there are {listed or 'none'}.")
    if not there[number]:
        raise IntegrityError(
            f"{store.url(version_key(concept, base, number))} is damaged, and which run is version {number} is not "
            "known: `ti audit --repair` writes it anew."
        )
    return there[number]


def _vectors_of(store: Store, concept: str, base: str, judge_key: str) -> str:
    """Blob of the vectors that a run has published; "" where nothing that can be read says it."""
    for one in manifests_of(store, concept, base):
        if one.plan.judge_key == judge_key:
            return next(made.vectors for made in one.checkpoints if made.step == one.decision.step)
    imported = (one for one in imports_of(store, concept, base) if one.judge_key == judge_key)
    return next((one.given.vectors for one in imported), "")


def _change(action: Literal["rollback", "pin", "unpin"], about: Champion, who: str, why: str, gone: str = "") -> Change:
    return Change(action=action, judge_key=about.judge_key, version=about.version, who=who, why=why, gone=gone)
