"""Judge stored checkpoints again: another protocol, prompts, CLIP, sampler or rule. Nothing is trained."""

from typing import Annotated

from prefect import flow
from prefect.states import Completed, State

from flows.form import field
from flows.train_concept import Choosing
from tasks.line import find_run, judge_again
from ti_core.config import EvaluationConfig, SelectionRule
from ti_core.records import Manifest

Again = Annotated[
    EvaluationConfig,
    field(
        "Judging",
        "How checkpoints are judged; a 0 keeps what the run was judged by, or takes what a named protocol says.",
    ),
]


@flow(name="reevaluate", flow_run_name="{concept} again", persist_result=False)
def reevaluate(
    concept: Annotated[str, field("Concept", "Name of the concept.")],
    base: Annotated[str, field("Base model", "Its name as `ti show` tells it.")] = "miniature",
    run: Annotated[
        str, field("Run", "The judge key of a run, or its beginning. Empty takes the champion's, or the last one.")
    ] = "",
    clip: Annotated[
        str,
        field(
            "Judge",
            "A CLIP: a folder on the worker, or ARCHITECTURE/PRETRAINED. Empty keeps the run's, or takes a published "
            "protocol's.",
        ),
    ] = "",
    evaluation: Again = EvaluationConfig(),
    rule: Choosing = SelectionRule(),
) -> State[Manifest]:
    """Judge all checkpoints of a run in another way and choose again; readers keep what they have."""
    old = find_run(concept, base, run)
    made = judge_again(old, evaluation, rule, clip)
    return Completed(message=made.decision.explanation, data=made)
