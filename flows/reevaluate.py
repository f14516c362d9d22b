"""Judge stored checkpoints again: another protocol, prompts, CLIP, sampler or rule. Nothing is trained."""

from typing import Annotated

from prefect import flow
from prefect.states import Cancelled, Completed, State

from flows.options import AS_IT_IS, Clip, OfBase, Run, field, folded, opened
from flows.train_concept import NAMES
from tasks.asking import CancelledError
from tasks.line import find_run, judge_again
from ti_core.config import EvaluationConfig, SelectionRule
from ti_core.records import Manifest

Again = folded(
    EvaluationConfig, "Judging", "What is not given, and a 0, stays as it was; a protocol that is named brings its own "
    "numbers. In a form that is opened, every switch is given.",
)  # fmt: skip
Choosing = folded(
    SelectionRule, "Choosing", "How one step is chosen; what is not given stays as it was. In a form that is opened, "
    "everything is given.",
)  # fmt: skip


@flow(name="reevaluate", flow_run_name="{concept} again", persist_result=False)
def reevaluate(
    concept: Annotated[str, field("Concept", "Name of the concept.")],
    base_model: OfBase = "",
    run: Run = "",
    clip: Clip = "",
    evaluation: Again = AS_IT_IS,
    rule: Choosing = AS_IT_IS,
) -> State[Manifest]:
    """Judge all checkpoints of a run in another way and choose again; readers keep what they have."""
    old = find_run(concept, base_model, run)
    try:
        made = judge_again(old, opened(evaluation, EvaluationConfig), opened(rule, SelectionRule), clip)
    except CancelledError as error:
        return Cancelled(message=str(error))
    reason = made.report.reason or made.decision.explanation
    return Completed(name=NAMES.get(made.verdict, "Completed"), message=reason, data=made)
