"""The catalogue: what the store knows of concepts, their runs, outcomes and champions. It only reads.

A client reads what is published through it, and the line what is known already. No torch, no MLflow.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ti_core import keys
from ti_core.config import EvaluationConfig, SelectionRule, base_slug, check_slug
from ti_core.errors import InputError, IntegrityError, NotFoundError
from ti_core.records import (
    Champion,
    Change,
    Decided,
    Document,
    Duel,
    Imported,
    Keyed,
    Manifest,
    Outcome,
    Plan,
    Version,
    champion_key,
    changes_prefix,
    concept_prefix,
    duel_key,
    manifest_key,
    outcome_key,
    run_prefix,
    versions_prefix,
)
from ti_core.settings import Settings
from ti_core.store import Store, Stored

log = logging.getLogger(__name__)

_Doc = TypeVar("_Doc", bound=Document)

READERS = 8
"""Outcomes that are looked for at the same time: it is waiting for a server."""


def outcome_of(store: Store, plan: Keyed) -> Outcome | None:
    """How this plan's work ended, or None if it has not ended yet."""
    return _read(store, outcome_key(plan), Outcome)


def known(store: Store, plans: Sequence[Plan], renew: bool = False) -> list[Outcome | None]:
    """How the work of each plan ended, None where it is still to be done.

    Work that an earlier version did under keys of its own is known too, so that an upgrade does nothing again;
    `renew` leaves it out. `by_earlier_version` tells the two apart.
    """
    if not plans:
        return []

    def look(plan: Plan) -> Outcome | None:
        return outcome_of(store, plan) or (None if renew else _older_outcome(store, plan))

    with ThreadPoolExecutor(READERS, "known") as threads:
        return list(threads.map(look, plans))


def by_earlier_version(plan: Plan, outcome: Outcome) -> str:
    """A sentence for a person where `known` found a plan's outcome under keys of an earlier version, else ""."""
    if outcome.judge_key == plan.judge_key:
        return ""
    return (
        f"An earlier version of Pseudoword did this on {outcome.ended:%Y-%m-%d}, by its own rules (run "
        f"{outcome.judge_key[:12]}): nothing is done again, unless you ask for it with --renew."
    )


def _older_outcome(store: Store, plan: Plan) -> Outcome | None:
    """The outcome of the same request under keys of an earlier version: the one of exactly its keys, else the last one
    that was asked for in the same words."""
    for train_key, judge_key in keys.older(plan):
        prefix = run_prefix(plan.concept.name, plan.base.slug, train_key)
        alike = []
        for outcome in _whole(store, store.keys(f"{prefix}/outcome-"), Outcome):
            manifest = _read(store, outcome.manifest, Manifest)
            if manifest and _same_request(plan, manifest.plan, exact=outcome.judge_key == judge_key):
                alike.append((outcome.judge_key == judge_key, outcome.ended, outcome.judge_key, outcome))
        if alike:
            return max(alike, key=lambda one: one[:3])[3]
    return None


def _same_request(plan: Plan, then: Plan, exact: bool) -> bool:
    """Whether an earlier version was asked for the same, `exact` where it was by its keys. Its defaults and its prompts
    may have been others: a number that is the default today also fits what was another number then."""
    if plan.training.masked and keys.masks(plan.images) != keys.masks(then.images):
        return False  # earlier keys did not know which mask belongs to which picture
    if exact:
        return True
    if then.judge_key == keys.judge_key(
        then.train_key, keys.protocol_digest(then.protocol), then.rule, then.evaluation.halving
    ):
        return False  # that is today's key: another request of today, not this one of an earlier version
    default = EvaluationConfig(protocol=plan.evaluation.protocol).resolved(plan.base.kind)
    was = then.evaluation.model_copy(update={"protocol": then.evaluation.protocol or "standard"})
    return (
        plan.judge.digest == then.judge.digest
        and (plan.opinion and plan.opinion.digest) == (then.opinion and then.opinion.digest)
        and plan.concept.class_word == then.concept.class_word
        and plan.rule.name == then.rule.name
        and _fits(plan.evaluation, was, default, {"seeds", "sampler", "sampler_steps", "guidance"})
        and _fits(plan.rule, then.rule, SelectionRule(), set(SelectionRule.model_fields))
    )


def _fits(now: Any, then: Any, default: Any, numbers: set[str]) -> bool:
    """Whether every field is what it was; one of the `numbers` may also be today's default."""
    return all(
        getattr(now, name) == getattr(then, name) or (name in numbers and getattr(now, name) == getattr(default, name))
        for name in type(now).model_fields
    )


def manifest_at(store: Store, key: str) -> Manifest:
    """The manifest that an outcome or a champion names. Raises NotFoundError, or IntegrityError when it is damaged."""
    return Manifest.from_bytes(store.get(key).data, store.url(key))


def imported_at(store: Store, key: str) -> Imported:
    """The imported word that an outcome or a champion names. Raises NotFoundError, or IntegrityError when damaged."""
    return Imported.from_bytes(store.get(key).data, store.url(key))


def run_at(store: Store, key: str) -> Manifest | Imported:
    """What an outcome or a champion names, whichever of the two it is. Raises as `manifest_at` does."""
    return (imported_at if key.rpartition("/")[2].startswith("imported-") else manifest_at)(store, key)


def imports_of(store: Store, concept: str, base: str) -> list[Imported]:
    """All words of a name that were imported and not judged, oldest first."""
    found = _whole(store, _named(store, concept, base, "imported-"), Imported)
    return sorted(found, key=lambda one: (one.created, one.judge_key))


def manifest_of(store: Store, plan: Plan) -> Manifest | None:
    """The manifest of this plan's run, or None if there is none yet."""
    return _read(store, manifest_key(plan), Manifest)


def manifests_of(store: Store, concept: str, base: str) -> list[Manifest]:
    """All judged runs of a concept on a base model, however they ended, oldest first."""
    found = _whole(store, _named(store, concept, base, "manifest-"), Manifest)
    return sorted(found, key=lambda one: (one.created, one.plan.judge_key))


def pointer_of(store: Store, concept: str, base: str) -> Champion | None:
    """champion.json as it stands, also where readers get nothing by it; None where there is none.

    Raises IntegrityError when it is damaged, or another word's.
    """
    key = champion_key(concept, base)
    try:
        return as_pointer(store.get(key), store.url(key), concept, base)
    except NotFoundError:
        return None


def as_pointer(stored: Stored, source: str, concept: str, base: str) -> Champion:
    """Read what lies at a word's champion.json. Raises IntegrityError when it is damaged, or another word's."""
    found = Champion.from_bytes(stored.data, source)
    if (found.concept, found.base) != (concept, base):
        raise IntegrityError(
            f"{source} is the champion of {found.concept} on {found.base}, not of {concept} on {base}: "
            f"`ti rollback {concept} --to VERSION` writes it anew."
        )
    return found


def changes_of(store: Store, concept: str, base: str) -> list[Change]:
    """What people have decided about a word, oldest first, as recorded beside the pointer, which has it too."""
    found = _whole(store, store.keys(changes_prefix(concept, base)), Decided)
    return sorted((one.change for one in found), key=lambda one: one.when)


def champion_of(store: Store, concept: str, base: str) -> Champion | None:
    """What readers of a concept get, or None if nothing was published or it was withdrawn."""
    found = pointer_of(store, concept, base)
    return None if found is None or found.vacant else found


def outcomes_of(store: Store, concept: str, base: str) -> list[Outcome]:
    """All outcomes of a concept on a base model, oldest first."""
    found = _whole(store, _named(store, concept, base, "outcome-"), Outcome)
    return sorted(found, key=lambda outcome: (outcome.ended, outcome.judge_key))


def versions_of(store: Store, concept: str, base: str) -> dict[int, str]:
    """judge_key by version number, "" where the version's document is damaged: its number is taken all the same. Before
    the store numbered versions, outcomes and champions told the numbers, which go on from there."""
    prefix = versions_prefix(concept, base)
    found = {}
    for key in store.keys(prefix):
        number = int(key.removeprefix(prefix).removesuffix(".json"))
        try:
            version = _read(store, key, Version)
        except IntegrityError as error:
            log.warning("%s Its number stays taken.", error)
            found[number] = ""
            continue
        if version:
            found[number] = version.judge_key
    if found:
        return found
    former = _whole(store, store.keys(f"{concept_prefix(concept, base)}/champions/"), Champion)
    numbered = [pointer_of(store, concept, base), *former, *outcomes_of(store, concept, base)]
    return {one.version: one.judge_key for one in numbered if one and one.version}


def duel_of(store: Store, concept: str, base: str, newcomer: str, rival: str) -> Duel | None:
    """The recorded duel of two runs, named by their judge_keys, or None if there was none."""
    return _read(store, duel_key(concept, base, newcomer, rival), Duel)


def bases_of(store: Store, concept: str) -> list[str]:
    """The base models (slugs) that the store holds anything of this concept for, sorted. Where it was forgotten the
    store holds nothing of it but the pointer that says so."""
    prefix = f"concepts/{concept}/"
    parts = (key.removeprefix(prefix).partition("/") for key in store.keys(prefix))
    return sorted({base for base, _, rest in parts if rest != "champion.json"})


def base_for(named: str, settings: Settings, there: Sequence[str]) -> str:
    """The base model (slug) that a word is asked for: the one that is `named`, else the settings' where they set one,
    else the only one that is `there`, else the settings' default."""
    if not named and len(there) == 1 and "base_model" not in settings.model_fields_set:
        return there[0]
    return base_slug(named or settings.base_model)


def find(concept: str, base: str, run: str, store: Store) -> Manifest:
    """The judged run of a concept whose judge_key begins with `run`; "" takes the champion's, or the last one.

    Raises NotFoundError when there is none, InputError when `run` fits several.
    """
    found = manifests_of(store, check_slug(concept), base_slug(base))
    if not found:
        raise NotFoundError(f"No run of {concept} on {base} was judged in {store.uri}; `ti show` lists what there is.")
    if not run:
        champion = champion_of(store, concept, base_slug(base))
        return next((one for one in found if champion and one.plan.judge_key == champion.judge_key), found[-1])
    fits = [one for one in found if one.plan.judge_key.startswith(run)]
    if not fits:
        there = ", ".join(one.plan.judge_key[:12] for one in found)
        raise NotFoundError(f"No run of {concept} on {base} has a judge key that begins with {run}; there are {there}.")
    if len(fits) > 1:
        raise InputError(f"{len(fits)} runs of {concept} have a judge key that begins with {run}: write more of it.")
    return fits[0]


def blobs_of(run: Manifest | Imported) -> set[str]:
    """The sha256 of every blob that a judged run, or an imported word, names."""
    if isinstance(run, Imported):
        return {run.given.vectors, *(file.sha256 for file in run.files)}
    manifest = run
    # Before schema 4 the files themselves were kept, and their squares beside them.
    given = manifest.plan.images.pictures
    pictures = {
        blob for one in given for blob in ((one.square, one.shown, one.whole) if one.square else (one.sha256,)) if blob
    }
    judged = (manifest.anchors.class_word, manifest.report.anchors.class_word, manifest.report.chosen)
    return {
        manifest.page,
        *([manifest.table] if manifest.table else []),  # manifests of schema 1 have none
        *([manifest.plan.given.vectors] if manifest.plan.given else []),
        *pictures,
        *manifest.prepared.squares,
        *(checkpoint.vectors for checkpoint in manifest.checkpoints),
        *(scores.strip for scores in (*manifest.scores, *judged)),
        *(file.sha256 for file in manifest.files),
    }


def _named(store: Store, concept: str, base: str, beginning: str) -> list[str]:
    """Keys of a concept's runs whose last part begins so."""
    keys = store.keys(f"{concept_prefix(concept, base)}/runs/")
    return [key for key in keys if key.rpartition("/")[2].startswith(beginning)]


def _whole(store: Store, keys: Iterable[str], kind: type[_Doc]) -> Iterator[_Doc]:
    """The documents at `keys`. One that cannot be read hides no other: it is told and passed over."""
    for key in keys:
        try:
            found = _read(store, key, kind)
        except IntegrityError as error:
            log.warning("%s It is left out.", error)
            continue
        if found:
            yield found


def _read(store: Store, key: str, kind: type[_Doc]) -> _Doc | None:
    try:
        return kind.from_bytes(store.get(key).data, store.url(key))
    except NotFoundError:
        return None
