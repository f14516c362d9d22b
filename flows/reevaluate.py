"""Judge stored checkpoints again: another protocol, prompts, CLIP, sampler or rule. Nothing is trained."""

from typing import Annotated

from prefect import flow
from prefect.states import Cancelled, Completed, State

from flows.options import Clip, OfBase, Run, field
from flows.train_concept import NAMES
from tasks.asking import CancelledError
from tasks.line import find_run, judge_again
from ti_core.config import EvaluationConfig, SelectionRule
from ti_core.records import Manifest

Again = Annotated[
    EvaluationConfig,
    field("Judging", "What is not given, and a 0, stays as it was; a protocol that is named brings its own numbers."),
]
Choosing = Annotated[SelectionRule, field("Choosing", "How one step is chosen; what is not given stays as it was.")]


@flow(name="reevaluate", flow_run_name="{concept} again", persist_result=False)
def reevaluate(
    concept: Annotated[str, field("Concept", "Name of the concept.")],
    base_model: OfBase = "",
    run: Run = "",
    clip: Clip = "",
    evaluation: Again = EvaluationConfig(),
    rule: Choosing = SelectionRule(),
) -> State[Manifest]:
    """Judge all checkpoints of a run in another way and choose again; readers keep what they have."""
    old = find_run(concept, base_model, run)
    try:
        made = judge_again(old, evaluation, rule, clip)
    except CancelledError as error:
        return Cancelled(message=str(error))
    reason = made.report.reason or made.decision.explanation
    return Completed(name=NAMES.get(made.verdict, "Completed"), message=reason, data=made)
