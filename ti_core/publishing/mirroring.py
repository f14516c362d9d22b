"""Mirroring: telling the tracking server what the store has decided, afterwards.

Every run that ends leaves an entry in the outbox before its outcome. `mirror` tells the tracking server of it and
clears the entry; what a silent server or a killed worker left there is told by the next `drain`. Readers and
publishing wait for none of it. This module does not know MLflow.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, Protocol

from ti_core.errors import IntegrityError, NotFoundError
from ti_core.publishing.catalogue import champion_of, manifest_at, outcome_of, outcomes_of, pointer_of
from ti_core.publishing.following import leave_word
from ti_core.records import FORGET, OUTBOX, Fault, Manifest, Outcome, Plan, Untold, outbox_key
from ti_core.store import Store, get_blob, lease

log = logging.getLogger(__name__)

_SECONDS = 300.0  # that telling one run may take: the lease's length


class Mirror(Protocol):
    """What mirroring needs of `ti_core.registry.Registry`; each method may be called again with the same arguments."""

    def has_run(self, run_id: str) -> bool:
        """Whether the server knows this run."""

    def open_run(self, plan: Plan, batch: str = "") -> str:
        """Start a run, or take up the unfinished one of this judge_key. Returns its id."""

    def mirror(self, run_id: str, manifest: Manifest, read: Callable[[str], bytes]) -> dict[int, str]:
        """Log a judged run. Returns the logged model's id by step."""

    def register(self, run_id: str, manifest: Manifest, model_id: str, store_version: int) -> int:
        """Make the server's version of this judge_key, or find it. Returns the server's own number of it."""

    def number_of(self, concept: str, base: str, judge_key: str) -> int | None:
        """The server's own number of a judge_key's version, None if it has none."""

    def set_alias(self, concept: str, base: str, alias: Literal["champion", "challenger"], version: int) -> None:
        """Let an alias name a version, by the server's own number."""

    def drop_alias(self, concept: str, base: str, alias: Literal["champion", "challenger"]) -> None:
        """Let an alias name no version."""

    def record(self, run_id: str, outcome: Outcome, withdrawn: str = "") -> None:
        """Tag a run with how it ended, and why it was withdrawn."""

    def forget(self, concept: str, base: str) -> None:
        """Remove all runs, models and versions of a word."""

    def doubled(self, concept: str, base: str, ended: Mapping[str, str], repair: bool) -> list[str]:
        """What the server has of a word twice, or left open although it `ended` (tracking run by judge_key), a sentence
        each; with `repair` the surplus is deleted and what is open is closed."""

    def alias_of(self, concept: str, base: str, alias: Literal["champion", "challenger"]) -> int | None:
        """The version that an alias names, by the server's own number."""

    def close_run(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End a run."""


def open_run(store: Store, registry: Mirror, plan: Plan, batch: str) -> str:
    """The tracking run of a plan's work: one for each judge_key, however many processes ask at the same time.

    Raises ServiceError when the server or the store fails.
    """
    with lease(store, f"mirror/{plan.concept.name}/{plan.base.slug}", seconds=_SECONDS):
        _forget_first(store, registry, plan.concept.name, plan.base.slug)
        return registry.open_run(plan, batch)


def mirror(store: Store, registry: Mirror, manifest: Manifest, outcome: Outcome) -> None:
    """Tell the tracking server of a run that ended, and clear its entry in the outbox; without an entry it was told
    already. A run that the server does not know (it was away, or is another one) is opened anew.

    Raises ServiceError when the server or the store fails; the entry stays then. One worker at a time tells of a
    concept's runs, so that there is one version for each judge_key and the aliases follow champion.json in the order it
    moves.
    """
    plan = manifest.plan
    concept, base = plan.concept.name, plan.base.slug
    entry = outbox_key(plan)
    with lease(store, f"mirror/{concept}/{base}", seconds=_SECONDS):
        _forget_first(store, registry, concept, base)
        if not store.exists(entry):
            return
        pointer = pointer_of(store, concept, base)
        if pointer and pointer.forgotten:
            store.delete(entry)  # nothing of it is told any more; the forgetting leaves an entry of its own
            return
        outcome = outcome_of(store, plan) or outcome  # a person may have decided since
        known = outcome.run_id and registry.has_run(outcome.run_id)
        run_id = outcome.run_id if known else registry.open_run(plan)
        models = registry.mirror(run_id, manifest, partial(get_blob, store))
        if outcome.version is not None:
            number = registry.register(run_id, manifest, models[manifest.decision.step], outcome.version)
            _point(store, registry, concept, base)
            if not outcome.champion:
                registry.set_alias(concept, base, "challenger", number)
        pointer = pointer_of(store, concept, base)  # anew: it may have moved meanwhile
        gone = pointer.withdrawal(plan.judge_key) if pointer else None
        registry.record(run_id, outcome, gone.told() if gone else "")
        registry.close_run(run_id, "FINISHED")
        store.delete(entry)


def _forget_first(store: Store, registry: Mirror, concept: str, base: str) -> None:
    """Let the server forget what it is to forget of a word, before it is told anything new of it."""
    entry = f"{OUTBOX}{concept}/{base}/{FORGET}"
    if store.exists(entry):
        registry.forget(concept, base)
        store.delete(entry)


def _point(store: Store, registry: Mirror, concept: str, base: str) -> None:
    """Let the alias follow champion.json. It is looked at again afterwards: who was stopped in between would otherwise
    leave the alias where another has moved it from."""
    while True:
        champion = champion_of(store, concept, base)
        leads = champion and registry.number_of(concept, base, champion.judge_key)
        if leads:
            registry.set_alias(concept, base, "champion", leads)
        elif champion is None or not champion.judged:  # what nobody judged is not told to the server
            registry.drop_alias(concept, base, "champion")
        if champion_of(store, concept, base) == champion:
            return


def compare(store: Store, registry: Mirror, words: Sequence[tuple[str, str]], repair: bool) -> list[Fault]:
    """What the tracking server tells otherwise than the store, of these words; with `repair` it follows.

    A run that is still in the outbox is not looked at, and no alias that moves with it: they will be told. Neither is a
    word whose pointer is damaged: the audit tells of that. Raises ServiceError when the server fails.
    """
    found = []
    for concept, base in words:
        with lease(store, f"mirror/{concept}/{base}", seconds=_SECONDS):
            entries = list(store.keys(f"{OUTBOX}{concept}/{base}/"))
            if f"{OUTBOX}{concept}/{base}/{FORGET}" in entries:
                continue
            untold = {key.rpartition("-")[2].removesuffix(".json") for key in entries}
            ended = {one.judge_key: one for one in outcomes_of(store, concept, base) if one.judge_key not in untold}
            runs = {judge_key: one.run_id for judge_key, one in ended.items()}
            texts = registry.doubled(concept, base, runs, repair)
            found += [Fault(kind="mirror", what=text, repaired=repair) for text in texts]
            try:
                pointer = pointer_of(store, concept, base)
            except IntegrityError:
                continue
            if pointer and pointer.judge_key in untold:
                continue
            champion = None if pointer is None or pointer.vacant else pointer
            leads = champion and registry.number_of(concept, base, champion.judge_key)
            told = registry.alias_of(concept, base, "champion")
            if champion and champion.judged and champion.judge_key in ended and not leads:
                if repair:
                    leave_word(store, manifest_at(store, champion.manifest).plan)
                text = f"MLflow has no version of {concept} on {base} that is its champion, version {champion.version}."
                found.append(Fault(kind="mirror", what=text, repaired=repair))
            elif told != leads:
                if repair:
                    _point(store, registry, concept, base)
                text = f"MLflow's alias champion of {concept} on {base} names {told}, and should name {leads}."
                found.append(Fault(kind="mirror", what=text, repaired=repair))
    if repair:
        drain(store, registry)
    return found


def drain(store: Store, registry: Mirror) -> int:
    """Tell the tracking server what earlier runs left in the outbox, in the order they ended. Returns how many.

    A run whose outcome is not there yet is left to whoever publishes it. One that cannot be read is warned of and
    stays. Raises ServiceError when the server or the store fails: what is left then is told next time.
    """
    left = []
    for key in store.keys(OUTBOX):
        try:
            entry = Untold.from_bytes(store.get(key).data, store.url(key))
            if key.endswith(f"/{FORGET}"):
                with lease(store, f"mirror/{entry.concept}/{entry.base}", seconds=_SECONDS):
                    _forget_first(store, registry, entry.concept, entry.base)
                continue
            if not store.exists(entry.outcome):
                continue
            outcome = Outcome.from_bytes(store.get(entry.outcome).data, store.url(entry.outcome))
            manifest = Manifest.from_bytes(store.get(entry.manifest).data, store.url(entry.manifest))
        except (IntegrityError, NotFoundError) as error:
            log.warning("%s stays in the outbox: %s", store.url(key), error)
            continue
        left.append((outcome, manifest))
    mirrored = 0
    for outcome, manifest in sorted(left, key=lambda one: (one[0].ended, one[0].judge_key)):
        try:
            mirror(store, registry, manifest, outcome)
            mirrored += 1
        except (IntegrityError, NotFoundError) as error:
            name = manifest.plan.concept.name
            log.warning("The tracking server is not told of a run of %s: %s", name, error)
    return mirrored
