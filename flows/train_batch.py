"""Many concepts: read what a batch holds, split what is open into packs, follow them, and tell what came of it.

Started from its deployment, it coordinates: packs are runs of their own on whichever workers there are, and this one
needs no card. Started otherwise, it runs the packs itself.
"""

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, runtime
from prefect.states import Cancelled, Completed, Failed, State

from flows.executors import by_deployment, here
from flows.options import AS_IT_IS, Approval, BaseModel, ClassWord, Preset, Renew, field, opened
from flows.train_concept import Choosing, HowPacked, Judging, Training
from flows.train_pack import Member
from tasks.asking import CancelledError, ask_for_approval
from tasks.line import abandon, list_concepts, look_at, open_batch, summarise
from ti_core.config import EvaluationConfig, Packing, SelectionRule, TrainingConfig
from ti_core.packs import Pack, has_begun, train_in_packs, word_of
from ti_core.planning.batch import for_bases
from ti_core.planning.protocols import with_data
from ti_core.records import BatchRow, report_key
from ti_core.reporting.words import namer
from ti_core.settings import load_settings
from ti_core.store import open_store
from ti_core.summary import headline
from ti_core.works import Asked


def _begun() -> datetime:
    """When this run was to begin (UTC): the same however often it is begun."""
    return datetime.fromisoformat(str(runtime.flow_run.scheduled_start_time))


def _name() -> str:
    """A batch is named after its source and its time."""
    source = str(runtime.flow_run.parameters["source"])
    return f"{Path(source).stem or source} {_begun():%Y-%m-%d %H:%M}"


@flow(name="train-batch", flow_run_name=_name, persist_result=False)
def train_batch(
    source: Annotated[
        str,
        field(
            "Source",
            "A folder or s3://bucket/prefix with one sub-folder per concept, or a table (CSV, Excel, …).",
        ),
    ],
    class_word: ClassWord = "object",
    preset: Preset = "standard",
    base_model: BaseModel = "",
    further_base_models: Annotated[
        list[str], field("Further base models", "Each concept is learned for each of these too, in packs of its own.")
    ] = [],
    training: Training = AS_IT_IS,
    evaluation: Judging = AS_IT_IS,
    rule: Choosing = AS_IT_IS,
    packing: HowPacked = AS_IT_IS,
    renew: Renew = False,
    approval: Approval = False,
) -> State[list[BatchRow]]:
    """Train every concept of a folder, a bucket prefix or a table, and end with a summary, worst first.

    The run ends as Published, Rejected, Undecided, Paused or Partly failed, with counts, or as Nothing new or Failed.
    """
    settings, packing = load_settings(), opened(packing, Packing)
    short = str(runtime.flow_run.id)[:8]
    title = f"{runtime.flow_run.name} {short}"  # two batches may begin in one minute
    batch = f"{_begun():%Y-%m-%dT%H%M}-{short}"
    try:
        items = for_bases(list_concepts(source, class_word), [base_model, *further_base_models], settings)
        judging = with_data(opened(evaluation, EvaluationConfig), source, settings)
        asked = Asked(
            opened(training, TrainingConfig), judging, opened(rule, SelectionRule), base_model, renew, preset,
            approval,
        )  # fmt: skip
        works = look_at(items, asked)
        ask_for_approval(works)
        still = {word_of(work): work for work in works if work.open}
        store = open_store(settings)
        begun = bool(still) or has_begun(batch, store)
        if begun:
            open_batch(title)
        own = {item.name: item.own for item in items if item.spec}  # a second row of a name has none
        until = (datetime.now(UTC) + timedelta(minutes=packing.minutes)).isoformat() if packing.minutes else ""

        def given(pack: Pack) -> dict[str, Any]:
            there = [still[word] for word in pack.words if word in still]
            return {
                "concepts": [Member(concept=one.planned.concept, own=own[one.name]) for one in there],
                "training": asked.training, "evaluation": asked.evaluation, "rule": asked.rule, "preset": preset,
                "base_model": pack.base_model, "packing": packing, "renew": renew, "batch": title,
                "report": report_key(batch, pack.key), "until": until, "approval": approval,
            }  # fmt: skip

        if runtime.deployment.id:
            execute = partial(
                by_deployment, given=given, batch=batch, title=str(runtime.flow_run.name), most=settings.open_packs
            )
        else:
            execute = partial(here, given=given, works=still)
        works = train_in_packs(works, packing, execute, batch, store)
        rows = summarise(works, title, batch, begun)
    except BaseException as error:  # cancelled, stopped, or out of a service that summarise needs
        abandon(title)
        if isinstance(error, CancelledError):
            return Cancelled(message=str(error))
        raise
    name_of = namer(rows)
    name, message = headline([(name_of(row), row.status) for row in rows])
    kind = Failed if any(row.status == "failed" for row in rows) else Completed
    return kind(name=name, message=message, data=rows)
