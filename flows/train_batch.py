"""Many concepts: trained and judged in packs, then chosen and published one after the other. What fails is told and
stops nobody, what has an outcome is not done again."""

from collections import Counter
from typing import Annotated

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from flows.form import field
from flows.train_concept import BaseModel, Choosing, HowPacked, Judging, Training, train_concept
from flows.train_pack import train_pack
from tasks import progress
from tasks.batch import abandon, judged_as, list_concepts, row_of, summarise
from ti_core.config import EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.records import BatchRow


@flow(name="train-batch", persist_result=False)
def train_batch(
    source: Annotated[
        str,
        field("Source", "A folder or s3://bucket/prefix with one sub-folder per concept, or a CSV/Parquet table."),
    ],
    class_word: Annotated[
        str, field("Class word", "For concepts that name none in their concept.toml or table row.")
    ] = "object",
    training: Training = TrainingConfig(),
    evaluation: Judging = EvaluationConfig(),
    rule: Choosing = SelectionRule(),
    base_model: BaseModel = "",
    packing: HowPacked = Packing(),
) -> State[list[BatchRow]]:
    """Train every concept of a folder, a bucket prefix or a table, and end with a summary, worst first."""
    batch = f"{runtime.flow_run.name} {str(runtime.flow_run.id)[:8]}"  # Prefect may give the same name again
    rows = []
    try:
        items = list_concepts(source, class_word)
        evaluation = judged_as(evaluation, source)
        specs = [item.spec for item in items if item.spec]
        ended = {}
        if len(specs) > 1 and packing.slots != 1:
            packed = train_pack(specs, training, evaluation, rule, base_model, packing, batch)
            ended = {one.concept: one for one in packed if one.reason}
        for item in items:
            progress.tell(progress.Stage(item.name, "next concept"))
            if item.spec is None:
                rows.append(BatchRow(concept=item.name, status="failed", reason=item.reason))
            elif item.name in ended:
                one = ended[item.name]
                rows.append(
                    BatchRow(concept=one.concept, status="paused" if one.paused else "failed", reason=one.reason)
                )
            else:
                state = train_concept(
                    item.spec, training, evaluation, rule, base_model, batch, packing, return_state=True
                )
                rows.append(row_of(item.name, state))
        summarise(rows, batch)
    except BaseException:  # cancelled, stopped, or out of a service that summarise needs
        abandon(batch)
        raise
    counts = Counter(row.status for row in rows)
    message = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    if counts["failed"] == len(rows):
        return Failed(message=message, data=rows)
    name = "Partly failed" if counts["failed"] else "Completed"
    return Completed(name=name, message=message, data=rows)
