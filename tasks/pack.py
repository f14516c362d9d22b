"""The station of a pack as a Prefect task: many concepts trained in one batch."""

from prefect import task

from tasks.concept import close_failed, station, train_together
from ti_core.config import Packing
from ti_core.records import Plan, PreparedSet, Trained
from ti_core.settings import load_settings


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
