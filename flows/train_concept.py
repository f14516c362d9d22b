"""One concept, a list of one: ingest → preprocess → train → evaluate (a task run a step) → select → register."""

from typing import Annotated

from prefect import flow
from prefect.states import Cancelled, Completed, Failed, State

from flows.options import BaseModel, Renew, field
from tasks.asking import CancelledError
from tasks.line import run_line
from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.errors import PausedError
from ti_core.planning.batch import BatchItem
from ti_core.publishing.catalogue import by_earlier_version
from ti_core.records import Outcome
from ti_core.works import Asked

Training = Annotated[TrainingConfig, field("Training", "How long and how fast; a 0 takes the base model's default.")]
HowPacked = Annotated[Packing, field("Packing", "How the worker trains: it changes nothing that is learned.")]
Judging = Annotated[EvaluationConfig, field("Judging", "How checkpoints are judged; a 0 takes the default.")]
Choosing = Annotated[SelectionRule, field("Choosing", "How one step is chosen from the scores.")]

NAMES = {"rejected": "Rejected", "undecided": "Undecided"}
"""Final states of runs that published nothing: `deployments/automations.yaml` alerts on what has these names."""


@flow(name="train-concept", flow_run_name="{concept.name}", persist_result=False)
def train_concept(
    concept: Annotated[ConceptSpec, field("Concept", "What is to be learned, and from which pictures.")],
    training: Training = TrainingConfig(),
    evaluation: Judging = EvaluationConfig(),
    rule: Choosing = SelectionRule(),
    base_model: BaseModel = "",
    packing: HowPacked = Packing(),
    renew: Renew = False,
) -> State[Outcome]:
    """Train one new word from a few pictures, judge every checkpoint, choose the best step and publish it.

    Work that has an outcome under the same keys is not done again. The run ends as Completed, Known, Rejected,
    Undecided, Paused (its time is spent; run it again) or Failed.
    """
    asked = Asked(training, evaluation, rule, base_model, renew)
    try:
        (work,) = run_line([BatchItem(concept.name, concept)], asked, packing)
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
