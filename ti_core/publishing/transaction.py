"""The transaction over store and registry: how a judged run becomes what readers get.

    blobs (there already) → manifest → mirror → version, under a lease → champion.json → aliases → outcome

champion.json alone decides what readers get, and it moves in one step by compare-and-swap, after everything it names
is in the store. A failure before that leaves readers with the previous champion; running `publish` again completes
whatever an attempt left undone, and makes nothing twice. The tracking server only mirrors. This module does not know
MLflow, and it judges nothing.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple, Protocol

from ti_core.errors import ConflictError, IntegrityError, NotFoundError
from ti_core.publishing.catalogue import blobs_of, champion_of, manifest_of, outcome_of
from ti_core.records import (
    Champion,
    Manifest,
    Outcome,
    Plan,
    blob_key,
    champion_key,
    former_champion_key,
    manifest_key,
    outcome_key,
)
from ti_core.store import Store, get_blob, lease

_ATTEMPTS = 8  # at moving a pointer that others move too


class Mirror(Protocol):
    """What publishing needs of `ti_core.registry.Registry`; each method may be called again with the same arguments."""

    def mirror(self, run_id: str, manifest: Manifest, read: Callable[[str], bytes]) -> dict[int, str]:
        """Log a judged run. Returns the logged model's id by step."""

    def register(self, run_id: str, manifest: Manifest, model_id: str) -> int:
        """Make the version of this judge_key, or find it. Returns its number."""

    def set_alias(self, concept: str, base: str, alias: Literal["champion", "challenger"], version: int) -> None:
        """Let an alias name a version."""

    def record(self, run_id: str, outcome: Outcome) -> None:
        """Tag a run with how it ended."""


class _Verdict(NamedTuple):
    champion: bool
    reason: str


# --- keeping -------------------------------------------------------------------------------------------------------


def keep(store: Store, manifest: Manifest) -> Manifest:
    """Store the manifest after its blobs. Returns the stored one, which may be an earlier attempt's.

    Raises IntegrityError when one of its blobs is not in the store.
    """
    kept = manifest_of(store, manifest.plan) or manifest
    missing = sorted(sha256 for sha256 in blobs_of(kept) if not store.exists(blob_key(sha256)))
    key = manifest_key(kept.plan)
    if missing:
        raise IntegrityError(
            f"{store.url(key)} names {len(missing)} blobs that are not in the store, the first is {missing[0]}: store "
            "them, or delete the manifest if there is one and run the concept again."
        )
    if store.create(key, kept.to_bytes()):
        return kept
    return manifest_of(store, kept.plan) or kept


# --- publishing -----------------------------------------------------------------------------------------------------


def publish(
    store: Store,
    registry: Mirror,
    manifest: Manifest,
    run_id: str,
    rejudged: Mapping[str, float] | None = None,
) -> Outcome:
    """Publish a judged run whose blobs are in the store, and record how it ended. Safe to run again at any time.

    An accepted run gets a version. It becomes champion when there is none, or when its score on the reporting set is
    at least the champion's under the same protocol; otherwise it becomes challenger. `rejudged` holds, by the judge_key
    of a champion of another protocol, the score of its vectors judged again under this manifest's protocol. A manifest
    that an earlier attempt stored wins over `manifest`.

    `Outcome.champion` says whether the run ever became what readers get. It stays true when a later run takes its
    place, also when that happens before this run's outcome is recorded; the champion is never moved back then.

    Raises IntegrityError when a blob is missing, ConflictError when the champion has to be judged again first or
    others keep moving it, ServiceError when the store or the tracking server fails. Readers get the previous champion
    until the pointer has moved and this run's from then on, never anything between.
    """
    plan = manifest.plan
    ended = outcome_of(store, plan)
    if ended is not None and ended.status != "awaiting-approval":
        return ended
    manifest = keep(store, manifest)
    models = registry.mirror(run_id, manifest, partial(get_blob, store))
    if not manifest.decision.accepted:
        rejected = _Verdict(False, manifest.decision.explanation)
        return _end(store, registry, plan, _outcome(manifest, run_id, None, rejected))
    concept, base = plan.concept.name, plan.base.slug
    # One lease per registered model, held to the aliases, so that these follow champion.json in the order it moves.
    with lease(store, f"publish/{concept}/{base}"):
        version = registry.register(run_id, manifest, models[manifest.decision.step])
        verdict = _contend(store, manifest, version, rejudged or {})
        champion = champion_of(store, concept, base)
        if champion is not None and champion.judge_key == plan.judge_key:
            registry.set_alias(concept, base, "champion", version)
        elif not verdict.champion:
            registry.set_alias(concept, base, "challenger", version)
    return _end(store, registry, plan, _outcome(manifest, run_id, version, verdict))


def _contend(store: Store, manifest: Manifest, version: int, rejudged: Mapping[str, float]) -> _Verdict:
    """Make the run the champion if it deserves it: read, compare, swap, and again if somebody was faster."""
    plan = manifest.plan
    concept, base = plan.concept.name, plan.base.slug
    key = champion_key(concept, base)
    for _ in range(_ATTEMPTS):
        try:
            stored = store.get(key)
        except NotFoundError:
            first = _Verdict(True, f"Version {version} is the first champion of {concept} on {base}.")
            if store.create(key, _champion(manifest, version, None).to_bytes()):
                return first
            continue
        current = Champion.from_bytes(stored.data, store.url(key))
        if current.judge_key == plan.judge_key:
            return _Verdict(True, f"Version {version} is the champion of {concept} on {base}.")
        if store.exists(former_champion_key(concept, base, plan.judge_key)):
            return _Verdict(True, f"Version {version} was the champion until version {current.version} took its place.")
        verdict = _compare(current, manifest, version, rejudged)
        if not verdict.champion:
            return verdict
        # The copy comes before the move, so that whoever was champion and is no more can be told from who never was.
        store.create(former_champion_key(concept, base, current.judge_key), stored.data)
        try:
            store.replace(key, _champion(manifest, version, current).to_bytes(), stored.etag)
            return verdict
        except ConflictError:
            continue
    raise ConflictError(f"{store.url(key)} was moved by others {_ATTEMPTS} times in a row: publish again later.")


def _compare(champion: Champion, manifest: Manifest, version: int, rejudged: Mapping[str, float]) -> _Verdict:
    """Whether the run deserves the champion's place. Scores compare only under one protocol."""
    plan, score = manifest.plan, manifest.report.score
    if champion.protocol == plan.protocol_digest:
        rival = champion.score
    elif champion.judge_key in rejudged:
        rival = rejudged[champion.judge_key]
    else:
        raise ConflictError(
            f"The champion of {champion.concept} on {champion.base}, version {champion.version}, was judged under "
            f"another protocol: judge its vectors again under protocol {plan.protocol_digest}, then publish again."
        )
    if score >= rival:
        better = f"Version {version} scores {score:.3f} on the reporting set, the champion before it, version"
        return _Verdict(True, f"{better} {champion.version}, {rival:.3f}.")
    worse = f"Version {version} scores {score:.3f} on the reporting set, less than the champion, version"
    return _Verdict(False, f"{worse} {champion.version}, with {rival:.3f}: it waits as challenger.")


def _champion(manifest: Manifest, version: int, previous: Champion | None) -> Champion:
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
        previous=previous.judge_key if previous else None,
    )


def _outcome(manifest: Manifest, run_id: str, version: int | None, verdict: _Verdict) -> Outcome:
    plan = manifest.plan
    return Outcome(
        judge_key=plan.judge_key,
        train_key=plan.train_key,
        concept=plan.concept.name,
        base=plan.base.slug,
        status="rejected" if version is None else "published",
        reason=verdict.reason,
        step=manifest.decision.step,
        score=manifest.report.score,
        version=version,
        champion=verdict.champion,
        run_id=run_id,
        manifest=manifest_key(plan),
    )


def _end(store: Store, registry: Mirror, plan: Plan, outcome: Outcome) -> Outcome:
    """Record the outcome, last of all. Returns the stored one: another worker's, if it was faster."""
    registry.record(outcome.run_id, outcome)
    key = outcome_key(plan)
    if store.create(key, outcome.to_bytes()):
        return outcome
    stored = store.get(key)
    earlier = Outcome.from_bytes(stored.data, store.url(key))
    if earlier.status != "awaiting-approval":
        return earlier
    store.replace(key, outcome.to_bytes(), stored.etag)
    return outcome
