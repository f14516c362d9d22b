"""Judging again as Prefect tasks: find a judged run, judge its checkpoints in another way. No logic of their own."""

from prefect import task

from tasks import artifacts, progress
from tasks.concept import station
from ti_core.config import EvaluationConfig, SelectionRule
from ti_core.records import Manifest
from ti_core.settings import load_settings
from ti_core.store import get_blob, open_store


@task(name="find-run", task_run_name="find run", **station)
def find_run(concept: str, base: str, run: str) -> Manifest:
    """The judged run to judge again."""
    from ti_core.publishing.catalogue import find

    return find(concept, base, run, open_store(load_settings()))


@task(name="rejudge", task_run_name="judge again", **station)
def rejudge(old: Manifest, evaluation: EvaluationConfig, rule: SelectionRule, clip: str) -> Manifest:
    """Judge the checkpoints of a run in another way; the result lies beside the old one under its own key."""
    from ti_core.planning.plan import replan
    from ti_core.reevaluation import reevaluate
    from ti_core.reporting.pages import write_page

    settings = load_settings()
    store = open_store(settings)
    plan = replan(old.plan, evaluation, rule, clip, settings)
    progress.tell(progress.Stage(plan.concept.name, f"judging {len(old.checkpoints)} checkpoints again"))
    made = reevaluate(old, plan, settings, store)
    artifacts.scores_table(plan, made.decision)
    write_page(settings, plan.concept.name, f"{plan.base.slug}.{plan.judge_key[:12]}", get_blob(store, made.page))
    return made
