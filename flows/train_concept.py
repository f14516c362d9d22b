"""One concept, a list of one: ingest → preprocess → train → evaluate (a task run a step) → select → register."""

from typing import Annotated

from prefect import flow
from prefect.states import Completed, State

from flows.form import field
from tasks.line import run_line
from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.errors import PausedError
from ti_core.planning.batch import BatchItem
from ti_core.records import Outcome
from ti_core.works import Asked

BaseModel = Annotated[
    str,
    field(
        "Base model",
        "miniature, a diffusers folder or .safetensors file on the worker, or a hub name. Empty: the worker's setting.",
    ),
]
Training = Annotated[TrainingConfig, field("Training", "How long and how fast; a 0 takes the base model's default.")]
HowPacked = Annotated[Packing, field("Packing", "How the worker trains: it changes nothing that is learned.")]
Judging = Annotated[EvaluationConfig, field("Judging", "How checkpoints are judged; a 0 takes the default.")]
Choosing = Annotated[SelectionRule, field("Choosing", "How one step is chosen from the scores.")]


@flow(name="train-concept", flow_run_name="{concept.name}", persist_result=False)
def train_concept(
    concept: Annotated[ConceptSpec, field("Concept", "What is to be learned, and from which pictures.")],
    training: Training = TrainingConfig(),
    evaluation: Judging = EvaluationConfig(),
    rule: Choosing = SelectionRule(),
    base_model: BaseModel = "",
    packing: HowPacked = Packing(),
) -> State[Outcome]:
    """Train one new word from a few pictures, judge every checkpoint, choose the best step and publish it.

    Work that has an outcome under the same keys is not done again.
    """
    asked = Asked(training, evaluation, rule, base_model)
    (work,) = run_line([BatchItem(concept.name, concept)], asked, packing)
    if work.outcome is None:
        raise work.error or PausedError("It was not gone on with.")
    if work.known:
        return Completed(name="Known", message=f"Known already: {work.outcome.reason}", data=work.outcome)
    return Completed(message=work.outcome.reason, data=work.outcome)
