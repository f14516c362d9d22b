"""Many concepts trained in one pack and their checkpoints judged in rounds, on one resident base model.

What it leaves in the store (checkpoints, finished states and scores under each concept's train_key) is where
`train-concept` goes on from.
"""

from typing import Annotated

from prefect import flow
from prefect.states import Completed, State

from flows.form import field
from flows.train_concept import BaseModel, Choosing, HowPacked, Judging, Training
from tasks import concept as stations
from tasks.pack import judge_pack, train_pack_together
from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.records import Trained


@flow(name="train-pack", flow_run_name="train together", persist_result=False)
def train_pack(
    concepts: Annotated[list[ConceptSpec], field("Concepts", "What is to be learned, and from which pictures.")],
    training: Training = TrainingConfig(),
    evaluation: Judging = EvaluationConfig(),
    rule: Choosing = SelectionRule(),
    base_model: BaseModel = "",
    packing: HowPacked = Packing(),
    batch: Annotated[str, field("Batch", "The batch they belong to; train-batch fills it in.")] = "",
) -> State[list[Trained]]:
    """Train all concepts that have no outcome yet, as many at a time as `packing` says, and judge their checkpoints.

    A concept whose pictures or words cannot be used is passed over: its own run tells why.
    """
    work = []
    for concept in concepts:
        planned = stations.ingest(concept, training, evaluation, rule, base_model, return_state=True)
        if planned.is_failed():
            continue
        plan = planned.result()
        if stations.recall(plan) is not None:
            continue
        prepared = stations.preprocess(plan, return_state=True)
        if prepared.is_completed():
            work.append((plan, prepared.result()))
    trained = train_pack_together(work, packing, batch) if work else []
    judge_pack(work, trained)
    done = sum(not one.reason for one in trained)
    return Completed(message=f"{done} of {len(trained)} trained", data=trained)
