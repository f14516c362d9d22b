"""`ti judge`: judge stored checkpoints again. Nothing is trained or published."""

from typing import Annotated

import typer

from flows.cli.ending import code_of
from flows.cli.starting import interruptible, quiet_libraries, settings_of
from flows.options import Clip, Home, Json, OfBase, Run, options_of
from ti_core.config import EvaluationConfig, SelectionRule, check_slug


@options_of(defaults=False)
def judge(
    *,
    concept: Annotated[str, typer.Argument(help="Name of the concept.")],
    run: Run = "",
    clip: Clip = "",
    evaluation: EvaluationConfig,
    rule: SelectionRule,
    base_model: OfBase = "",
    home: Home = None,
    as_json: Json = False,
) -> int:
    """Judge stored checkpoints again with another CLIP, protocol, prompts or rule; nothing is trained or published.

    What is not given stays as the run was judged; a protocol that is named brings its own numbers.
    """
    from ti_core.planning.plan import replan
    from ti_core.publishing.catalogue import base_for, bases_of, find
    from ti_core.reporting.pages import page_path
    from ti_core.store import open_store

    settings = settings_of(home)
    store = open_store(settings)
    old = find(concept, base_for(base_model, settings, bases_of(store, check_slug(concept))), run, store)
    replan(old.plan, evaluation, rule, clip, settings)  # what is wrong is told before any server starts
    with interruptible():
        from flows.embedded import prepare_prefect

        prepare_prefect(settings.home)
        quiet_libraries()
        from flows import console
        from flows.reevaluate import reevaluate

        with console.live(quiet=as_json):
            made = reevaluate(concept, old.plan.base.slug, old.plan.judge_key, clip, evaluation, rule)
    page = page_path(settings, concept, made.plan.base.slug, made.plan.judge_key)
    console.show_rejudged(old, made, str(page), as_json)
    return code_of([made.verdict])
