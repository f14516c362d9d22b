"""`ti train` and `ti batch`: take concepts through the line. What is known is told at once: nothing heavy is imported,
no server is started."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.ending import Code, code_of
from flows.cli.starting import interruptible, quiet_libraries, settings_of, start_services
from flows.options import (
    Approval,
    BaseModel,
    BaseModels,
    ClassWord,
    Home,
    Json,
    PlanOnly,
    Preset,
    Renew,
    asked_of,
    options_of,
)
from ti_core.config import ConceptSpec, EvaluationConfig, Packing, SelectionRule, TrainingConfig

if TYPE_CHECKING:
    from ti_core.planning.batch import BatchItem
    from ti_core.records import Outcome
    from ti_core.settings import Settings
    from ti_core.works import Asked, Work

TOY_AHEAD = (
    "This trains the miniature, a toy of 64-pixel pictures: what comes of it works in no other model. For a real word "
    "name a base model (--base-model, or PSEUDOWORD_BASE_MODEL)."
)


@options_of()
def train(
    *,
    concept: ConceptSpec,
    preset: Preset = "standard",
    training: TrainingConfig,
    packing: Packing,
    evaluation: EvaluationConfig,
    rule: SelectionRule,
    base_model: BaseModel = "",
    home: Home = None,
    renew: Renew = False,
    approval: Approval = False,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> int:
    """Train, judge and publish one new word. Work that has an outcome is told, not done again."""
    from ti_core.planning.batch import BatchItem
    from ti_core.works import Asked

    settings = settings_of(home)
    asked = Asked(training, evaluation, rule, base_model, renew, preset, approval)
    if plan_only:
        return _look_ahead([BatchItem(concept.name, concept)], asked, settings, as_json)
    return run_one(concept, asked, settings, as_json, packing)


def run_one(
    concept: ConceptSpec, asked: "Asked", settings: "Settings", as_json: bool, packing: Packing = Packing()
) -> int:
    """Take one concept through the line, and tell how it ended; returns the exit code."""
    from ti_core.planning.batch import BatchItem

    (work,) = works = _planned([BatchItem(concept.name, concept)], asked, settings)
    if work.open:
        with interruptible():
            start_services(settings)
            _warn_of_toys(works)
            from flows import console
            from flows.train_concept import train_concept
            from ti_core.stations import planned_already

            with console.live(quiet=as_json), planned_already(works):
                outcome = train_concept(
                    **asked_of(concept), preset=asked.preset, base_model=asked.base_model, training=asked.training,
                    evaluation=asked.evaluation, rule=asked.rule, packing=packing, renew=asked.renew,
                    approval=asked.approval,
                )  # fmt: skip
    elif work.outcome:
        outcome = work.outcome
    else:
        raise work.error or AssertionError("It is neither open nor ended.")
    _tell(work, outcome, settings, as_json)
    return code_of([outcome.status])


@options_of()
def batch(
    *,
    source: Annotated[str, typer.Argument(help="Folder or s3:// prefix with a sub-folder per concept, or a table.")],
    class_word: ClassWord = "object",
    preset: Preset = "standard",
    training: TrainingConfig,
    packing: Packing,
    evaluation: EvaluationConfig,
    rule: SelectionRule,
    base_model: BaseModels = None,
    home: Home = None,
    renew: Renew = False,
    approval: Approval = False,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> int:
    """Train many concepts together; what fails stops nobody, what is done is skipped. With several --base-model each
    concept is learned for each."""
    from ti_core.planning.batch import for_bases, read_batch
    from ti_core.planning.protocols import with_data
    from ti_core.store import open_store
    from ti_core.summary import rows_of, write_summary
    from ti_core.works import Asked

    settings = settings_of(home)
    first, *further = base_model or [""]
    # A wrong source is told before any server starts.
    items = for_bases(read_batch(source, class_word, settings), [first, *further], settings)
    asked = Asked(training, with_data(evaluation, source, settings), rule, first, renew, preset, approval)
    if plan_only:
        return _look_ahead(items, asked, settings, as_json)
    works = _planned(items, asked, settings)
    from flows import console

    if any(work.open for work in works):
        with interruptible():
            start_services(settings)
            _warn_of_toys(works)
            from flows.train_batch import train_batch
            from ti_core.stations import planned_already

            with console.live(quiet=as_json), planned_already(works):
                state = train_batch(
                    source, class_word, preset, first, further, training, evaluation, rule, packing, renew, approval,
                    return_state=True,
                )  # fmt: skip
        rows = state.result(raise_on_failure=False)
        if isinstance(rows, BaseException):
            raise rows
    else:
        store = open_store(settings)
        rows = rows_of(works, settings, store)
        write_summary(rows, f"Batch {source}", settings, store)
    if as_json:
        typer.echo(json.dumps([row.model_dump(mode="json") for row in rows]))
    else:
        console.show_batch(rows, settings.shown_in.absolute() / "pages" / "batch.html")
    return code_of(row.outcome or row.status for row in rows)


def _look_ahead(items: "Sequence[BatchItem]", asked: "Asked", settings: "Settings", as_json: bool) -> int:
    """Tell what the items will take, on each of their base models. Fails as the run would where none can be planned."""
    from flows import console
    from ti_core.forecast import forecast, forecast_from_afar, still_to_come
    from ti_core.stations import plan
    from ti_core.store import open_store

    quiet_libraries()
    found = []
    for base_model in dict.fromkeys(item.base_model or asked.base_model for item in items):
        on_base = replace(asked, base_model=base_model)
        some = [item for item in items if (item.base_model or asked.base_model) == base_model]
        if to_come := still_to_come(base_model or settings.base_model):
            found.append(forecast_from_afar(some, on_base, *to_come, settings))
            continue
        works = plan(some, on_base, settings, open_store(settings))
        if all(work.error for work in works):
            raise works[0].error or AssertionError("It has failed.")
        found.append(forecast(works, settings))
    if as_json:
        told = [one.as_json() for one in found]
        typer.echo(json.dumps(told if len(told) > 1 else told[0]))
        return Code.DONE
    for one in found:
        console.show_forecast(one)
    return Code.DONE


def _planned(items: "Sequence[BatchItem]", asked: "Asked", settings: "Settings") -> "list[Work]":
    """Check every request before any server starts or anything is written, and find what is known already."""
    from ti_core.known import pages_as_asked
    from ti_core.stations import plan
    from ti_core.store import open_store

    store = open_store(settings)
    works = plan(items, asked, settings, store)
    for work in works:
        for warning in work.plan.images.warnings if work.plan else ():
            text = f"{work.name}: {warning}" if len(works) > 1 else warning
            typer.secho(f"Warning: {text}", fg="yellow", err=True)
    return works if any(work.open for work in works) else pages_as_asked(works, settings, store)


def _warn_of_toys(works: "Sequence[Work]") -> None:
    """Tell, once for all, that what is about to be trained is the miniature."""
    from ti_core.reporting.words import is_toy

    if any(work.open and is_toy(work.planned) for work in works):
        typer.secho(TOY_AHEAD, fg="yellow", err=True)


def _tell(work: "Work", outcome: "Outcome", settings: "Settings", as_json: bool) -> None:
    from ti_core.publishing.catalogue import by_earlier_version, manifest_at
    from ti_core.reporting.pages import page_path
    from ti_core.store import open_store

    page = str(page_path(settings, outcome.concept, outcome.base, outcome.judge_key))
    earlier = by_earlier_version(work.planned, outcome) if work.known else ""
    if as_json:
        typer.echo(json.dumps(outcome.model_dump(mode="json") | {"page": page, "earlier_version": earlier}))
        return
    from flows import console

    console.show_outcome(outcome, manifest_at(open_store(settings), outcome.manifest), page, earlier)
