"""The stations of a pack as Prefect tasks: many concepts trained in one batch, their checkpoints judged in rounds."""

from typing import TYPE_CHECKING

from prefect import task

from tasks import progress
from tasks.concept import close_failed, station, train_together
from ti_core.config import Packing
from ti_core.records import Plan, PreparedSet, Trained
from ti_core.settings import load_settings
from ti_core.store import open_store

if TYPE_CHECKING:
    from ti_core.judging.rounds import Contest


@task(name="train-pack", task_run_name="train together", **station)
def train_pack_together(work: list[tuple[Plan, PreparedSet]], packing: Packing, batch: str) -> list[Trained]:
    """Train the concepts of `work` together, each under its own tracking run, which its judging takes up."""
    from ti_core.registry import Registry

    registry = Registry(load_settings())
    run_ids = {plan.concept.name: registry.open_run(plan, batch) for plan, _ in work}
    try:
        made = train_together(work, packing, run_ids)
    except BaseException:
        for run_id in run_ids.values():
            close_failed(run_id)
        raise
    for one in made:
        if one.reason:
            close_failed(run_ids[one.concept])
    return made


@task(name="judge-round", task_run_name="judge {label}", **station)
def judge_together(contests: "list[Contest]", number: int, label: str) -> "list[Contest]":
    """One round of judging of all concepts of a pack; their own runs find the scores in the store."""
    from ti_core.judging.rounds import judge_next

    for contest in contests:
        progress.tell(progress.Stage(contest.plan.concept.name, f"judging {label}"))
    settings = load_settings()
    return judge_next(contests, number, settings, open_store(settings))


def judge_pack(work: list[tuple[Plan, PreparedSet]], trained: list[Trained]) -> None:
    """Judge all checkpoints of the concepts whose training came to its end: a task run for each round.

    Where a round fails, nothing is lost: each concept's own run judges what is missing and tells what is wrong.
    """
    from ti_core.judging.rounds import Contest, rounds_of

    contests = [
        Contest(plan=plan, prepared=prepared, checkpoints=one.checkpoints)
        for (plan, prepared), one in zip(work, trained, strict=True)
        if not one.reason
    ]
    rounds = rounds_of(contests)
    for number in range(rounds):
        label = f"round {number + 1} of {rounds}" if rounds > 1 else "all checkpoints"
        state = judge_together(contests, number, label, return_state=True)
        if state.is_failed():
            return
        contests = state.result()
