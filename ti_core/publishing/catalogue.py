"""The catalogue: what the store knows of concepts, their runs, outcomes and champions. It only reads.

A client reads what is published through it, and the line what is known already. No torch, no MLflow.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ti_core.config import base_slug, check_slug
from ti_core.errors import InputError, NotFoundError
from ti_core.records import (
    Champion,
    Document,
    Manifest,
    Outcome,
    Plan,
    champion_key,
    concept_prefix,
    manifest_key,
    outcome_key,
)
from ti_core.store import Store

_Doc = TypeVar("_Doc", bound=Document)

READERS = 8
"""Objects that are read at the same time: it is waiting for a server."""


def outcome_of(store: Store, plan: Plan) -> Outcome | None:
    """How this plan's work ended, or None if it has not ended yet."""
    return _read(store, outcome_key(plan), Outcome)


def known(store: Store, plans: Sequence[Plan]) -> list[Outcome | None]:
    """How the work of each plan ended, None where it has not; one look for a whole list. Waiting ones overlap."""
    if not plans:
        return []
    with ThreadPoolExecutor(READERS, "known") as threads:
        return list(threads.map(lambda plan: outcome_of(store, plan), plans))


def manifest_of(store: Store, plan: Plan) -> Manifest | None:
    """The manifest of this plan's run, or None if there is none yet."""
    return _read(store, manifest_key(plan), Manifest)


def manifests_of(store: Store, concept: str, base: str) -> list[Manifest]:
    """All judged runs of a concept on a base model, however they ended, oldest first."""
    keys = store.keys(f"{concept_prefix(concept, base)}/runs/")
    found = [_read(store, key, Manifest) for key in keys if key.rpartition("/")[2].startswith("manifest-")]
    return sorted((one for one in found if one), key=lambda one: (one.created, one.plan.judge_key))


def champion_of(store: Store, concept: str, base: str) -> Champion | None:
    """What readers of a concept get, or None if nothing was published."""
    return _read(store, champion_key(concept, base), Champion)


def outcomes_of(store: Store, concept: str, base: str) -> list[Outcome]:
    """All outcomes of a concept on a base model, oldest first."""
    keys = store.keys(f"{concept_prefix(concept, base)}/runs/")
    found = [_read(store, key, Outcome) for key in keys if key.rpartition("/")[2].startswith("outcome-")]
    return sorted((outcome for outcome in found if outcome), key=lambda outcome: (outcome.ended, outcome.judge_key))


def bases_of(store: Store, concept: str) -> list[str]:
    """The base models (slugs) that the store holds anything of this concept for, sorted."""
    prefix = f"concepts/{concept}/"
    return sorted({key.removeprefix(prefix).partition("/")[0] for key in store.keys(prefix)})


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


def blobs_of(manifest: Manifest) -> set[str]:
    """The sha256 of every blob a manifest names."""
    pictures = (picture.sha256 for picture in manifest.plan.images.pictures)
    judged = (manifest.anchors.class_word, manifest.report.anchors.class_word, manifest.report.chosen)
    return {
        manifest.page,
        *([manifest.table] if manifest.table else []),  # manifests of schema 1 have none
        *pictures,
        *manifest.prepared.squares,
        *(checkpoint.vectors for checkpoint in manifest.checkpoints),
        *(scores.strip for scores in (*manifest.scores, *judged)),
        *(file.sha256 for file in manifest.files),
    }


def _read(store: Store, key: str, kind: type[_Doc]) -> _Doc | None:
    try:
        return kind.from_bytes(store.get(key).data, store.url(key))
    except NotFoundError:
        return None
