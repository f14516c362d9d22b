"""One concept: ingest → preprocess → train → evaluate (a task run per checkpoint) → select → register."""

from typing import Annotated

from prefect import flow
from prefect.states import Completed, State

from flows.form import field
from tasks import concept as stations
from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.records import Outcome

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
    batch: Annotated[
        str, field("Batch", "The batch it belongs to; train-batch fills it in. Empty for a run of its own.")
    ] = "",
    packing: HowPacked = Packing(),
) -> State[Outcome]:
    """Train one new word from a few pictures, judge every checkpoint, choose the best step and publish it.

    Work that has an outcome under the same keys is not done again.
    """
    plan = stations.ingest(concept, training, evaluation, rule, base_model)
    known = stations.recall(plan)
    if known is not None:
        return Completed(name="Known", message=f"Known already: {known.reason}", data=known)
    prepared = stations.preprocess(plan)
    trained = stations.train(plan, prepared, packing, batch)
    try:
        word = plan.concept.class_word
        class_word = stations.evaluate(plan, prepared, trained, 0, "", "select", f"class word {word}")
        scores = stations.evaluate_steps(plan, prepared, trained, class_word)
        decision = stations.select(plan, prepared, class_word, scores)
        chosen = next(one for one in trained.checkpoints if one.step == decision.step)
        rival = stations.rival(plan, decision)
        outcome = stations.register(
            plan,
            prepared,
            trained,
            class_word,
            scores,
            decision,
            stations.evaluate(plan, prepared, trained, 0, "", "report", f"class word {word} for the report"),
            stations.evaluate(
                plan, prepared, trained, chosen.step, chosen.vectors, "report", f"step {chosen.step} for the report"
            ),
            rival,
            rival
            and stations.evaluate(plan, prepared, trained, rival.step, rival.vectors, "report", "the present champion"),
        )
    except BaseException:
        stations.abandon(trained)
        raise
    return Completed(message=outcome.reason, data=outcome)
