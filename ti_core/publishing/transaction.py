"""The transaction over the store: how a judged run becomes what readers get.

    blobs (there already) → manifest → version → bytes read back → duel → champion.json → index → outbox → outcome

champion.json alone decides what readers get, and it moves in one step by compare-and-swap, after everything it names
is in the store. A failure before that leaves readers with the previous champion; running `publish` again completes
whatever an attempt left undone, and makes nothing twice. The store numbers versions, and the tracking server is told
afterwards, from the outbox (`publishing.mirroring`): nothing here waits for it. This module judges nothing.

Where a person is to approve, a run that would move the pointer stops right before it, and its outcome says that it
awaits approval; `publish` with the approval goes on from there (`publishing.approving`).
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from ti_core.errors import ConflictError, IntegrityError, NotFoundError
from ti_core.publishing.catalogue import (
    blobs_of,
    duel_of,
    imported_at,
    manifest_of,
    outcome_of,
    pointer_of,
    versions_of,
)
from ti_core.publishing.following import entry_of, follow, leave_word
from ti_core.publishing.pointer import (
    after,
    champion_from,
    champion_of_import,
    refuse_forgotten,
    replace_champion,
    verify,
)
from ti_core.records import (
    AWAITS,
    Champion,
    Change,
    Duel,
    Imported,
    Keyed,
    Manifest,
    Outcome,
    Plan,
    Version,
    awaiting_key,
    blob_key,
    champion_key,
    duel_key,
    former_champion_key,
    imported_key,
    manifest_key,
    outcome_key,
    version_key,
)
from ti_core.store import Store, get_blob, has_blob, put_blob

_ATTEMPTS = 16  # at moving a pointer, or taking a number, that others are after too


class RivalError(ConflictError):
    """The newcomer has to be judged beside the present champion first."""

    def __init__(self, champion: Champion) -> None:
        super().__init__(
            f"The champion of {champion.concept} on {champion.base}, version {champion.version}, was not judged beside "
            "this run yet: judge both on the same pictures, then publish again."
        )
        self.champion = champion


class _Place(NamedTuple):
    champion: bool
    reason: str
    waits: bool = False
    """Whether it would become champion, and a person is asked first."""


# --- keeping -------------------------------------------------------------------------------------------------------


def keep(store: Store, manifest: Manifest) -> Manifest:
    """Store the manifest after its blobs. Returns the stored one, which may be an earlier attempt's.

    Raises IntegrityError when one of its blobs is not in the store.
    """
    kept = manifest_of(store, manifest.plan) or manifest
    key = manifest_key(kept.plan)
    _all_there(store, key, kept)
    if not store.create(key, kept.to_bytes()):
        return manifest_of(store, kept.plan) or kept
    _all_there(store, key, kept)  # what was removed just before did not know yet that they are named
    return kept


def _all_there(store: Store, key: str, run: Manifest | Imported) -> None:
    missing = sorted(sha256 for sha256 in blobs_of(run) if not has_blob(store, sha256))
    if missing:
        raise IntegrityError(
            f"{store.url(key)} names {len(missing)} blobs that are not in the store, the first is {missing[0]}: store "
            "them, or delete that document if there is one and do the run or the import again."
        )


def show_pictures(store: Store, manifest: Manifest, show: bool) -> Manifest:
    """Let the page of a kept run show its training pictures, or hide them: page and manifest are written anew where the
    wish is another one, and the old page is deleted. Returns the manifest as it is stored then.

    The outbox gets an entry, so that the tracking server's copy follows. Raises ConflictError when somebody else
    changes the manifest at the same time.
    """
    from ti_core.reporting.report import page  # only here: whoever publishes needs no templates

    concept = manifest.plan.concept
    if concept.show_pictures == show:
        return manifest
    plan = manifest.plan.model_copy(update={"concept": concept.model_copy(update={"show_pictures": show})})
    stored = store.get(manifest_key(plan))
    changed = manifest.model_copy(update={"plan": plan, "schema_version": Manifest.SCHEMA})
    html = page(changed, partial(get_blob, store))
    changed = changed.model_copy(update={"page": put_blob(store, html)})
    store.replace(manifest_key(plan), changed.to_bytes(), stored.etag)
    if changed.page != manifest.page:
        store.delete(blob_key(manifest.page))
    leave_word(store, plan)
    return changed


# --- publishing -----------------------------------------------------------------------------------------------------


def publish(
    store: Store,
    manifest: Manifest,
    run_id: str,
    duels: Mapping[str, Duel],
    asks: bool = False,
    approved: Change | None = None,
) -> Outcome:
    """Publish a judged run whose blobs are in the store, and record how it ended. Safe to run again at any time.

    An accepted run gets a version. It becomes champion when there is none, or when the duel with the champion, both
    judged on the same pictures, says that it is surely better; otherwise the champion stays. `duels` holds duels by the
    judge_key of the rival; one that is recorded already wins over it. A champion for other weights of the same base
    model cannot be judged here, and readers who have these weights have no use for it: the newcomer takes its place. A
    manifest that an earlier attempt stored wins over `manifest`.

    `Outcome.champion` says whether the run ever became what readers get. It stays true when a later run takes its
    place, also when that happens before this run's outcome is recorded; the champion is never moved back then.

    What people have decided stands: a pinned champion stays, a run that was withdrawn is not brought back. Where the
    caller `asks`, a run that would become champion gets no version and awaits approval instead; `approved` is what it
    waits for. It is placed then by what is champion at that time.

    Raises RivalError when a duel is needed that is neither given nor recorded, IntegrityError when a blob is missing or
    a file that readers would get is damaged, WithdrawnError when the word was forgotten, ConflictError when others keep
    moving the champion, ServiceError when the store fails. Readers get the previous champion until the pointer has
    moved and this run's from then on, never anything between.
    """
    plan = manifest.plan
    concept, base = plan.concept.name, plan.base.slug
    refuse_forgotten(pointer_of(store, concept, base))
    ended = outcome_of(store, plan)
    if ended is not None and not (approved and ended.status == AWAITS):
        return ended
    manifest = keep(store, manifest)
    if manifest.verdict != "accepted":
        reason = manifest.report.reason or manifest.decision.explanation
        return _end(store, plan, _outcome(manifest, run_id, None, _Place(False, reason)))
    if asks:
        unnumbered = champion_from(manifest, 0)
        verify(store, unnumbered)
        place = _contend(store, unnumbered, duels, asks=True)
        if place.waits:
            return _end(store, plan, _outcome(manifest, run_id, None, place))
    newcomer = champion_from(manifest, _number(store, plan))
    place = _placed(store, newcomer, duels)
    return _end(store, plan, _outcome(manifest, run_id, newcomer.version, place, approved))


def publish_import(store: Store, word: Imported) -> Outcome:
    """Publish a word from elsewhere that nobody judged, whose blobs are in the store. Safe to run again at any time.

    It gets a version. It becomes what readers get where there is nothing, or another word that nobody judged; a judged
    one stays, whatever the file is. Raises as `publish` does.
    """
    concept, base, key = word.concept.name, word.base.slug, imported_key(word)
    refuse_forgotten(pointer_of(store, concept, base))
    _all_there(store, key, word)
    if store.create(key, word.to_bytes()):
        _all_there(store, key, word)
    else:
        word = imported_at(store, key)
    if ended := outcome_of(store, word):
        return ended
    newcomer = champion_of_import(word, _number(store, word))
    place = _placed(store, newcomer, {})
    outcome = Outcome(
        schema_version=Outcome.SCHEMA, judge_key=word.judge_key, train_key=word.train_key, concept=concept, base=base,
        status="imported", reason=place.reason, step=newcomer.step, score=0.0, version=newcomer.version,
        champion=place.champion, run_id="", manifest=key,
    )  # fmt: skip
    store.create(outcome_key(word), outcome.to_bytes())
    return outcome_of(store, word) or outcome


def _number(store: Store, plan: Keyed) -> int:
    """The version's number: the one this judge_key has, or the next, taken by create-if-absent."""
    concept, base = plan.concept.name, plan.base.slug
    mine = Version(judge_key=plan.judge_key).to_bytes()
    for _ in range(_ATTEMPTS):
        taken = versions_of(store, concept, base)
        for number, judge_key in taken.items():
            if judge_key == plan.judge_key:
                return number
        number = max(taken, default=0) + 1
        if store.create(version_key(concept, base, number), mine):
            return number
    raise ConflictError(f"Others took {_ATTEMPTS} versions of {concept} on {base} in a row: publish again later.")


def _placed(store: Store, newcomer: Champion, duels: Mapping[str, Duel]) -> _Place:
    """Read back what readers would get, let it contend, and everything follow the pointer."""
    verify(store, newcomer)
    place = _contend(store, newcomer, duels)
    pointer = pointer_of(store, newcomer.concept, newcomer.base)
    if pointer:
        follow(store, pointer)
    return place


def _contend(store: Store, newcomer: Champion, duels: Mapping[str, Duel], asks: bool = False) -> _Place:
    """Make the newcomer the champion if it deserves it: read, duel, swap, and again if somebody was faster. Where the
    caller `asks`, only say so."""
    concept, base, who = newcomer.concept, newcomer.base, _called(newcomer)
    key = champion_key(concept, base)
    for _ in range(_ATTEMPTS):
        try:
            stored = store.get(key)
        except NotFoundError:
            first = _Place(True, f"{who} is the first of {concept} on {base}.", asks)
            if asks or store.create(key, newcomer.to_bytes()):
                return first
            continue
        current = Champion.from_bytes(stored.data, store.url(key))
        refuse_forgotten(current)
        if withdrawal := current.withdrawal(newcomer.judge_key, newcomer.vectors):
            same = "" if withdrawal.judge_key == newcomer.judge_key else f" as version {withdrawal.version}"
            return _Place(False, f"{who} was withdrawn{same} {withdrawal.told()}.")
        if current.judge_key == newcomer.judge_key:
            return _Place(True, f"{_leads(newcomer)}.{_how(store, current)}")
        if store.exists(former_champion_key(concept, base, newcomer.judge_key)):
            return _Place(True, f"{who} was the best until version {current.version} took its place.")
        place = _compare(store, current, newcomer, duels)
        if asks or not place.champion:
            return place._replace(waits=place.champion)
        try:
            replace_champion(store, stored, current, after(current, newcomer))
            return place
        except ConflictError:
            continue
    raise ConflictError(f"{store.url(key)} was moved by others {_ATTEMPTS} times in a row: publish again later.")


def _compare(store: Store, rival: Champion, newcomer: Champion, duels: Mapping[str, Duel]) -> _Place:
    """Whether the newcomer deserves the champion's place."""
    who = _called(newcomer)
    if back := rival.went_back(newcomer.vectors):
        return _Place(False, f"{who} has the very vectors that were gone back from {back.told()}.")
    if rival.vacant:
        gone = f", which takes the place of version {rival.version}: that was withdrawn" if rival.judge_key else ""
        return _Place(True, f"{_leads(newcomer)}{gone}.")
    if rival.pin:
        return _Place(False, f"Version {rival.version} stays what readers get: it was pinned {rival.pin.told()}.")
    if rival.judged and not newcomer.judged:
        return _Place(
            False,
            f"Version {rival.version} stays what readers get: it was judged, and {who.lower()} was not. With "
            "pictures (--pictures) both are judged.",
        )
    gives_way = ""
    if not rival.judged:
        gives_way = "was imported and not judged"
    elif rival.base_digest != newcomer.base_digest:
        gives_way = f"is for other weights of {newcomer.base} and cannot be judged with these"
    if gives_way:
        return _Place(True, f"{who} takes the place of version {rival.version}, which {gives_way}.")
    duel = _recorded(store, newcomer, rival, duels)
    return _Place(duel.won, _sentence(duel, who, rival.version))


def _called(one: Champion) -> str:
    """What a sentence calls it: without a number it is the one that is spoken of."""
    return f"Version {one.version}" if one.version else "It"


def _leads(one: Champion) -> str:
    is_it = "is the best of" if one.judged else "was imported and not judged, and is what readers get of"
    return f"{_called(one)} {is_it} {one.concept} on {one.base}"


def _recorded(store: Store, newcomer: Champion, rival: Champion, duels: Mapping[str, Duel]) -> Duel:
    """The duel with the champion as it is recorded, which is done once for each pair."""
    concept, base = newcomer.concept, newcomer.base
    found = duel_of(store, concept, base, newcomer.judge_key, rival.judge_key)
    if found is not None:
        return found
    given = duels.get(rival.judge_key)
    if given is None or (given.newcomer, given.rival) != (newcomer.judge_key, rival.judge_key):
        raise RivalError(rival)
    if store.create(duel_key(concept, base, newcomer.judge_key, rival.judge_key), given.to_bytes()):
        return given
    return duel_of(store, concept, base, newcomer.judge_key, rival.judge_key) or given


def _sentence(duel: Duel, who: str, rival: int) -> str:
    """How a duel ended, for a person; `who` is the newcomer."""
    gap = duel.difference
    scores = (
        f"judged on the same pictures they score {duel.newcomer_score:.3f} and {duel.rival_score:.3f}, a difference of "
        f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"
    )
    if duel.won:
        return f"{who} is better than version {rival}, the best so far: {scores}."
    if gap.high < 0:
        return f"{who} is worse than version {rival}, the best so far, which stays: {scores}."
    return f"{who} is not surely better than version {rival}, the best so far, which stays: {scores}."


def _how(store: Store, champion: Champion) -> str:
    """How a champion won its place, where a duel did it."""
    if not champion.previous:
        return ""
    duel = duel_of(store, champion.concept, champion.base, champion.judge_key, champion.previous)
    former = former_champion_key(champion.concept, champion.base, champion.previous)
    if duel is None or not store.exists(former):
        return ""
    before = Champion.from_bytes(store.get(former).data, store.url(former))
    return f" {_sentence(duel, _called(champion), before.version)}"


def _outcome(
    manifest: Manifest, run_id: str, version: int | None, place: _Place, approved: Change | None = None
) -> Outcome:
    plan, status, reason = manifest.plan, manifest.verdict, place.reason
    if place.waits:
        reason += " It awaits approval."
    elif approved:
        reason += f" It was approved {approved.told()}."
    return Outcome(
        judge_key=plan.judge_key,
        train_key=plan.train_key,
        concept=plan.concept.name,
        base=plan.base.slug,
        status=AWAITS if place.waits else "published" if status == "accepted" else status,
        reason=reason,
        step=manifest.decision.step,
        score=manifest.report.score,
        version=version,
        champion=place.champion and not place.waits,
        run_id=run_id,
        manifest=manifest_key(plan),
        approval=approved,
    )


def _end(store: Store, plan: Plan, outcome: Outcome) -> Outcome:
    """Record the outcome, last of all. Returns the stored one: another worker's, if it was faster.

    How an approval ended takes the place of what awaits it, and of a refusal that came meanwhile: the pointer may have
    moved.
    """
    leave_word(store, plan)
    key, waits = outcome_key(plan), outcome.status == AWAITS
    if waits:
        store.put(awaiting_key(plan), entry_of(plan).to_bytes())
    for _ in range(_ATTEMPTS):
        if store.create(key, outcome.to_bytes()):
            return outcome
        stored = store.get(key)
        earlier = Outcome.from_bytes(stored.data, store.url(key))
        if waits or earlier.status not in {AWAITS, "declined"}:
            if earlier.status != AWAITS:
                store.delete(awaiting_key(plan))  # somebody was faster: nothing waits
            return earlier
        try:
            store.replace(key, outcome.to_bytes(), stored.etag)
        except ConflictError:
            continue
        store.delete(awaiting_key(plan))
        return outcome
    raise ConflictError(f"{store.url(key)} was changed by others {_ATTEMPTS} times in a row: publish again later.")
