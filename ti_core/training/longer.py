"""Training a finished word longer: a run that differs from an earlier one in its number of steps alone goes on from
that one's last state, where this gives the same as all of its steps from the start (docs/decisions/0024).

That is so where no step depends on how many there will be: the draws are a function of seed and step, and the learning
rate is constant. What decays towards the last step (linear, cosine) is trained anew.
"""

from dataclasses import replace

from ti_core.keys import train_key
from ti_core.publishing.catalogue import manifests_of
from ti_core.records import Checkpoint, Plan, run_prefix
from ti_core.store import Store
from ti_core.training.state import StateFiles, TrainingState

BLIND = ("constant", "constant_with_warmup")
"""Schedules that do not look at the last step."""


def of_shorter_run(store: Store, plan: Plan) -> tuple[TrainingState | None, list[Checkpoint]]:
    """The last state of the longest finished run of the concept that is the beginning of this one, with its
    checkpoints; (None, []) where there is none.

    A run that did not end on a checkpoint's step has one that this would not have, and one that may stop early would
    have stopped where it did: neither is gone on from.
    """
    if plan.training.schedule not in BLIND or plan.training.stop_early:
        return None, []
    runs = [one.plan for one in manifests_of(store, plan.concept.name, plan.base.slug)]
    for earlier in sorted(runs, key=lambda one: -one.training.steps):
        if _begins(earlier, plan):
            prefix = run_prefix(earlier.concept.name, earlier.base.slug, earlier.train_key)
            state, checkpoints = StateFiles(store, prefix, earlier.train_key).newest()
            if state and state.step == earlier.training.steps:
                return replace(state, finished=False), checkpoints
    return None, []


def _begins(earlier: Plan, plan: Plan) -> bool:
    steps, longer = earlier.training.steps, earlier.training.model_copy(update={"steps": plan.training.steps})
    asked = earlier.concept, earlier.images, longer, earlier.base.digest, earlier.given
    today = earlier.concept, earlier.images, earlier.training, earlier.base.digest, earlier.given
    return (
        steps < plan.training.steps
        and steps % earlier.training.checkpoint_every == 0
        and train_key(*asked) == plan.train_key
        and train_key(*today) == earlier.train_key  # else an earlier version trained it, by other numbers
    )
