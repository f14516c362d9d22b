"""A pack of a batch: what one worker trains, judges and publishes together, and a report of it for the batch."""

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated

from prefect import flow, runtime
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed, Crashed, Failed, State
from pydantic import BaseModel as Model

from flows.options import AS_IT_IS, Approval, BaseModel, Preset, Renew, field, opened
from flows.train_concept import Choosing, HowPacked, Judging, Training
from tasks.asking import CancelledError
from tasks.line import run_line
from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.errors import PausedError
from ti_core.packs import leave_report
from ti_core.planning.batch import BatchItem
from ti_core.settings import load_settings
from ti_core.store import open_store
from ti_core.summary import status_of
from ti_core.works import Asked, Work

STOPPED = "Stopped"
"""The state of a run that was told to end: no death, and nothing that Prefect starts again."""


class Member(Model):
    """A concept of a pack, and what it says of its own training."""

    concept: ConceptSpec
    own: TrainingConfig = TrainingConfig()


@flow(name="train-pack", persist_result=False)
def train_pack(
    concepts: Annotated[list[Member], field("Concepts", "What is to be learned, together.")],
    preset: Preset = "standard",
    base_model: BaseModel = "",
    training: Training = AS_IT_IS,
    evaluation: Judging = AS_IT_IS,
    rule: Choosing = AS_IT_IS,
    packing: HowPacked = AS_IT_IS,
    renew: Renew = False,
    batch: Annotated[str, field("Batch", "Name of the tracking run that those of the concepts lie under.")] = "",
    report: Annotated[str, field("Report", "Where in the store the batch looks for what came of it.")] = "",
    until: Annotated[str, field("Until", "When training pauses, whatever time it has had (ISO 8601).")] = "",
    approval: Approval = False,
) -> State[list[Work]]:
    """Train, judge and publish concepts together. `train-batch` starts it; what has an outcome is not done again."""
    items = [BatchItem(one.concept.name, one.concept, own=one.own) for one in concepts]
    left = (datetime.fromisoformat(until) - datetime.now(UTC)).total_seconds() / 60 if until else 0.0
    if until and left <= 0:
        over = PausedError("The time of its batch was over before it began: the next batch takes it.")
        works = [Work(place, item.name, error=over) for place, item in enumerate(items)]
    else:
        packing = opened(packing, Packing)
        packing = packing.model_copy(update={"minutes": left}) if until else packing
        asked = Asked(
            opened(training, TrainingConfig), opened(evaluation, EvaluationConfig), opened(rule, SelectionRule),
            base_model, renew, preset, approval,
        )  # fmt: skip
        try:
            works = run_line(items, asked, packing, batch)
        except CancelledError as error:
            return Cancelled(message=str(error))
        except TerminationSignal:
            if not runtime.deployment.id:  # there is no worker that stops: all of this process is to end
                raise
            return Crashed(name=STOPPED, message="Its worker was stopped; its batch has it go on from its state.")
    if report:
        leave_report(works, report, open_store(load_settings()))
    counts = Counter(status_of(work) for work in works)
    message = ", ".join(f"{status} {count}" for status, count in sorted(counts.items()))
    kind = Failed if counts["failed"] == len(works) else Completed
    return kind(message=message, data=works)
