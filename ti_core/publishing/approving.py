"""Approval: what waits for a person, and what the person says.

A run that waits has an outcome, `awaiting-approval`, and an entry in a list; readers get what they had. Nothing else
waits: no worker, no card, no time runs out here. To decline is to give the run its last outcome, to approve is to
publish it (`publishing.transaction`). This module judges nothing, and knows no Prefect.
"""

import logging
from collections.abc import Mapping

from ti_core.config import check_slug
from ti_core.errors import ConflictError, InputError, IntegrityError, NotFoundError
from ti_core.publishing.catalogue import base_for, bases_of, manifest_at, outcomes_of, pointer_of
from ti_core.publishing.following import leave_word
from ti_core.publishing.transaction import publish
from ti_core.records import (
    AWAITING,
    AWAITS,
    Change,
    Duel,
    Manifest,
    Outcome,
    Plan,
    Untold,
    awaiting_key,
    blob_key,
    former_champion_key,
    outcome_key,
)
from ti_core.settings import Settings
from ti_core.store import Store

log = logging.getLogger(__name__)


def awaiting(store: Store, concept: str = "") -> list[Outcome]:
    """What awaits approval (of one concept), oldest first. An entry that cannot be read hides no other: it is told and
    passed over."""
    found = []
    for key in store.keys(f"{AWAITING}{concept}/" if concept else AWAITING):
        try:
            entry = Untold.from_bytes(store.get(key).data, store.url(key))
            outcome = Outcome.from_bytes(store.get(entry.outcome).data, store.url(entry.outcome))
        except (IntegrityError, NotFoundError) as error:
            log.warning("%s It is left out.", error)
            continue
        if outcome.status == AWAITS:
            found.append(outcome)
    return sorted(found, key=lambda one: (one.ended, one.judge_key))


def page_of(store: Store, outcome: Outcome) -> str:
    """Where the page of a run lies; "" where its manifest cannot be read."""
    try:
        return store.url(blob_key(manifest_at(store, outcome.manifest).page))
    except (IntegrityError, NotFoundError) as error:
        log.warning("%s", error)
        return ""


def find_awaiting(store: Store, settings: Settings, concept: str, base_model: str = "", run: str = "") -> Outcome:
    """The run of a word that awaits approval; where several do, the one whose judge_key begins with `run`.
    `base_model` "" takes the settings' one where they set one, or the only one that there is.

    Raises NotFoundError where there is none, saying how the run that is named has ended, InputError where `run` fits
    several.
    """
    listed = {one.base for one in awaiting(store, check_slug(concept))}
    bases = sorted(listed) or bases_of(store, concept)  # the list may have lost an entry
    base = base_for(base_model, settings, bases)
    there = outcomes_of(store, concept, base)
    fits = [one for one in there if one.status == AWAITS and one.judge_key.startswith(run)]
    if not fits:
        ended = next((one for one in reversed(there) if run and one.judge_key.startswith(run)), None)
        how = f" Run {ended.judge_key[:12]} is {ended.status}: {ended.reason}" if ended else ""
        which = f" whose key begins with {run!r}" if run else ""
        raise NotFoundError(
            f"No run of {concept} on {base}{which} awaits approval; `ti list --awaiting` shows all.{how}"
        )
    if len(fits) > 1:
        keys = ", ".join(one.judge_key[:12] for one in fits)
        raise InputError(f"{len(fits)} runs of {concept} on {base} await approval: name one with --run, of {keys}.")
    return fits[0]


def approve(
    store: Store, manifest: Manifest, run_id: str, who: str, why: str, duels: Mapping[str, Duel] | None = None
) -> Outcome:
    """Publish a judged run that a person has approved. It is placed by what is champion now, so it may have to meet
    another one than when it was judged: raises RivalError then, and otherwise as `publish` does.

    Raises ConflictError where somebody else has declined it. A run that was not accepted is not published: its outcome
    says so.
    """
    change = Change(action="approve", judge_key=manifest.plan.judge_key, version=0, who=who, why=why)
    ended = publish(store, manifest, run_id, duels or {}, approved=change)
    if ended.status == "declined":
        raise ConflictError(f"It cannot be approved any more. {ended.reason}")
    return ended


def decline(store: Store, outcome: Outcome, who: str, why: str) -> Outcome:
    """Do not publish a run that awaits approval, for good. Returns its outcome.

    Raises ConflictError where somebody else has approved or declined it.
    """
    plan = manifest_at(store, outcome.manifest).plan
    key = outcome_key(plan)
    stored = store.get(key)
    now = Outcome.from_bytes(stored.data, store.url(key))
    if now.status != AWAITS:
        raise ConflictError(f"It cannot be declined any more. {now.reason}")
    if _was_champion(store, plan):
        raise ConflictError(
            f"{outcome.concept} cannot be declined any more: it was approved, and readers got it. `ti approve` "
            "completes that, and `ti withdraw` takes it back."
        )
    change = Change(action="decline", judge_key=plan.judge_key, version=0, who=who, why=why)
    ended = {
        "schema_version": Outcome.SCHEMA, "status": "declined", "reason": f"It was declined {change.told()}.",
        "approval": change, "ended": change.when.replace(microsecond=0),
    }  # fmt: skip
    declined = now.model_copy(update=ended)
    leave_word(store, plan)
    store.replace(key, declined.to_bytes(), stored.etag)
    store.delete(awaiting_key(plan))
    return declined


def _was_champion(store: Store, plan: Plan) -> bool:
    """Whether readers get this run, or got it, whatever is recorded of how it ended."""
    concept, base = plan.concept.name, plan.base.slug
    pointer = pointer_of(store, concept, base)
    leads = pointer is not None and pointer.judge_key == plan.judge_key
    return leads or store.exists(former_champion_key(concept, base, plan.judge_key))
