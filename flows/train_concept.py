"""One concept, a list of one: ingest → preprocess → train → evaluate (a task run a step) → select → register."""

from prefect import flow
from prefect.states import Cancelled, Completed, Failed, State

from flows.options import AS_IT_IS, Approval, BaseModel, Preset, Renew, folded, of_concept, opened
from tasks.asking import CancelledError
from tasks.line import run_line
from ti_core.config import (
    ConceptDetails,
    ConceptSpec,
    EvaluationConfig,
    Packing,
    SelectionRule,
    TrainingConfig,
)
from ti_core.errors import PausedError
from ti_core.planning.batch import BatchItem
from ti_core.publishing.catalogue import by_earlier_version
from ti_core.records import Outcome
from ti_core.works import Asked

Details = folded(
    ConceptDetails, "More of the concept", "Its kind, what its vectors start from, how many, licence, tags."
)
Training = folded(TrainingConfig, "Training", "How long and how fast, where the preset is not to say it; a 0 is its.")
HowPacked = folded(Packing, "Packing", "How the worker trains: it changes nothing that is learned.")
Judging = folded(
    EvaluationConfig, "Judging", "How checkpoints are judged, where the preset is not to say it; a 0 is its, a switch "
    "is as it stands.",
)  # fmt: skip
Choosing = folded(SelectionRule, "Choosing", "How one step is chosen from the scores.")

NAMES = {"rejected": "Rejected", "undecided": "Undecided", "awaiting-approval": "Awaiting approval",
         "declined": "Declined"}  # fmt: skip
"""Names of the final states of runs that published nothing."""


@flow(name="train-concept", flow_run_name="{name}", persist_result=False)
def train_concept(
    name: of_concept("name"),
    pictures: of_concept("pictures"),
    class_word: of_concept("class_word"),
    preset: Preset = "standard",
    base_model: BaseModel = "",
    details: Details = AS_IT_IS,
    training: Training = AS_IT_IS,
    evaluation: Judging = AS_IT_IS,
    rule: Choosing = AS_IT_IS,
    packing: HowPacked = AS_IT_IS,
    renew: Renew = False,
    approval: Approval = False,
) -> State[Outcome]:
    """Train one new word from a few pictures, judge every checkpoint, choose the best step and publish it.

    Work that has an outcome under the same keys is not done again. The run ends as Completed, Known, Awaiting
    approval, Rejected, Undecided, Paused (its time is spent; run it again) or Failed.
    """
    more = opened(details, ConceptDetails).model_dump(exclude_unset=True)
    concept = ConceptSpec(name=name, pictures=pictures, class_word=class_word, **more)
    asked = Asked(
        opened(training, TrainingConfig), opened(evaluation, EvaluationConfig), opened(rule, SelectionRule), base_model,
        renew, preset, approval,
    )  # fmt: skip
    try:
        (work,) = run_line([BatchItem(name, concept)], asked, opened(packing, Packing))
    except CancelledError as error:
        return Cancelled(message=str(error))
    outcome = work.outcome
    if outcome is None:
        error = work.error or PausedError("It was not gone on with.")
        if isinstance(error, PausedError):
            return Failed(name="Paused", message=str(error), data=error)
        raise error
    if work.known:
        reason = by_earlier_version(work.planned, outcome) or f"Known already: {outcome.reason}"
        return Completed(name="Known", message=reason, data=outcome)
    return Completed(name=NAMES.get(outcome.status, "Completed"), message=outcome.reason, data=outcome)
