"""What a person's approval sets going where judging is needed: another step is judged, or a champion met that came
meanwhile, and what comes of it is published.

It moves nothing itself (`publishing.approving`), and imports torch only where something is to be judged. It knows no
Prefect.
"""

import logging

from ti_core import progress
from ti_core.config import EvaluationConfig, SelectionRule
from ti_core.errors import ConflictError, InputError
from ti_core.line import Call, Line, plainly
from ti_core.planning.plan import replan
from ti_core.publishing import approving
from ti_core.publishing.catalogue import manifest_at
from ti_core.publishing.transaction import RivalError
from ti_core.records import Manifest, Outcome
from ti_core.settings import Settings
from ti_core.store import Store
from ti_core.works import Work

log = logging.getLogger(__name__)


def check_step(manifest: Manifest, step: int) -> None:
    """Raise InputError for a step that has no checkpoint."""
    there = [one.step for one in manifest.checkpoints]
    if step and step not in there:
        listed = ", ".join(map(str, there))
        raise InputError(f"{manifest.plan.concept.name} has no checkpoint of step {step}: there are {listed}.")


def approve(
    outcome: Outcome, step: int, who: str, why: str, settings: Settings, store: Store, call: Call = plainly
) -> Outcome:
    """Publish a run that awaits approval, or another `step` of it (0: the chosen one). Returns how what was asked for
    ended.

    Another step is judged on the reporting set as any chosen one, under a judge_key of its own: a person may overrule
    the choice, not the verdict. Where it is accepted and published, the run that waited is declined for it, else it
    waits on. `call` runs what is to be judged.

    Raises InputError for a step without a checkpoint, ConflictError where somebody else has declined it, and as
    `publishing.transaction.publish` does.
    """
    manifest = manifest_at(store, outcome.manifest)
    check_step(manifest, step)
    line = Line(settings, store, call=call)
    if step in {0, manifest.decision.step}:
        return _published(manifest, outcome.run_id, who, why, line, store)
    plan = replan(manifest.plan, EvaluationConfig(), SelectionRule(step=step), "", settings)
    other = line.judge_again(manifest, plan)
    ended = _published(other, "", who, why, line, store)
    if ended.status == "published":
        instead = f"step {step} was taken in its place (run {plan.judge_key[:12]})"
        try:
            told(approving.decline(store, outcome, who, f"{why}; {instead}" if why else instead), store)
        except ConflictError as error:  # somebody has decided about it meanwhile
            log.warning("%s", error)
    return ended


def _published(manifest: Manifest, run_id: str, who: str, why: str, line: Line, store: Store) -> Outcome:
    work = Work(
        0, manifest.plan.concept.name, manifest.plan, manifest.prepared, checkpoints=manifest.checkpoints,
        decision=manifest.decision, report=manifest.report,
    )  # fmt: skip
    while True:
        try:
            return told(approving.approve(store, manifest, run_id, who, why, work.duels), store)
        except RivalError:
            (work,) = line.meet_rivals([work])
            if work.error:
                raise work.error from None


def told(outcome: Outcome, store: Store) -> Outcome:
    """Tell whoever listens how a run ended; returns the outcome."""
    progress.tell(progress.Ended(outcome.concept, outcome, approving.page_of(store, outcome)))
    return outcome
