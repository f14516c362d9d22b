"""Many concepts on one line: what fails is told and stops nobody, what has an outcome is not done again."""

from collections import Counter
from typing import Annotated

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from flows.options import BaseModel, ClassWord, Renew, field
from flows.train_concept import Choosing, HowPacked, Judging, Training
from tasks.line import abandon, list_concepts, run_line, summarise
from ti_core.config import EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.planning.protocols import with_data
from ti_core.records import BatchRow
from ti_core.settings import load_settings
from ti_core.works import Asked


@flow(name="train-batch", persist_result=False)
def train_batch(
    source: Annotated[
        str,
        field(
            "Source",
            "A folder or s3://bucket/prefix with one sub-folder per concept, or a table (CSV, Excel, …).",
        ),
    ],
    class_word: ClassWord = "object",
    training: Training = TrainingConfig(),
    evaluation: Judging = EvaluationConfig(),
    rule: Choosing = SelectionRule(),
    base_model: BaseModel = "",
    packing: HowPacked = Packing(),
    renew: Renew = False,
) -> State[list[BatchRow]]:
    """Train every concept of a folder, a bucket prefix or a table, and end with a summary, worst first."""
    batch = f"{runtime.flow_run.name} {str(runtime.flow_run.id)[:8]}"  # Prefect may give the same name again
    try:
        items = list_concepts(source, class_word)
        asked = Asked(training, with_data(evaluation, source, load_settings()), rule, base_model, renew)
        rows = summarise(run_line(items, asked, packing, batch), batch)
    except BaseException:  # cancelled, stopped, or out of a service that summarise needs
        abandon(batch)
        raise
    counts = Counter(row.status for row in rows)
    message = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    if counts["failed"] == len(rows):
        return Failed(message=message, data=rows)
    name = "Partly failed" if counts["failed"] else "Completed"
    return Completed(name=name, message=message, data=rows)
