"""Mirroring: telling the tracking server what the store has decided, afterwards.

Every run that ends leaves an entry in the outbox before its outcome. `mirror` tells the tracking server of it and
clears the entry; what a silent server or a killed worker left there is told by the next `drain`. Readers and
publishing wait for none of it. This module does not know MLflow.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

from ti_core.errors import IntegrityError, NotFoundError
from ti_core.publishing.catalogue import champion_of
from ti_core.records import OUTBOX, Manifest, Outcome, Plan, Untold, outbox_key
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

    def record(self, run_id: str, outcome: Outcome) -> None:
        """Tag a run with how it ended."""

    def close_run(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End a run."""


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
        if not store.exists(entry):
            return
        known = outcome.run_id and registry.has_run(outcome.run_id)
        run_id = outcome.run_id if known else registry.open_run(plan)
        models = registry.mirror(run_id, manifest, partial(get_blob, store))
        if outcome.version is not None:
            number = registry.register(run_id, manifest, models[manifest.decision.step], outcome.version)
            champion = champion_of(store, concept, base)
            leads = champion and registry.number_of(concept, base, champion.judge_key)
            if leads:
                registry.set_alias(concept, base, "champion", leads)
            if not outcome.champion:
                registry.set_alias(concept, base, "challenger", number)
        registry.record(run_id, outcome)
        registry.close_run(run_id, "FINISHED")
        store.delete(entry)


def drain(store: Store, registry: Mirror) -> int:
    """Tell the tracking server what earlier runs left in the outbox, in the order they ended. Returns how many.

    A run whose outcome is not there yet is left to whoever publishes it. One that cannot be read is warned of and
    stays. Raises ServiceError when the server or the store fails: what is left then is told next time.
    """
    left = []
    for key in store.keys(OUTBOX):
        try:
            entry = Untold.from_bytes(store.get(key).data, store.url(key))
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
