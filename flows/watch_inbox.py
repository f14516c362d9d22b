"""The inbox: each folder that was dropped there and is complete starts a run of its own, once.

Pictures are looked at here, where no card is needed: what cannot be trained is told by the state of the look that found
it, and what has an outcome is not started. A run's idempotency key is made of the folder's listing, and what was dealt
with is taken down in the store, so that neither two looks at once nor a new Prefect server start anything twice.
"""

from datetime import UTC, datetime

from prefect import flow, runtime
from prefect.deployments import run_deployment
from prefect.states import Completed, Failed, State

from flows.forms import DEPLOYMENT, parameters
from flows.options import BaseModel, ClassWord, Preset
from tasks import artifacts
from tasks.asking import patiently
from tasks.line import look_at
from ti_core.errors import ServiceError
from ti_core.inbox import Dropped, concept_of, dropped, settled, take
from ti_core.settings import load_settings
from ti_core.store import open_store
from ti_core.summary import headline, reason_of, status_of
from ti_core.works import Asked, Work


def _name() -> str:
    return f"inbox {datetime.fromisoformat(str(runtime.flow_run.scheduled_start_time)):%Y-%m-%d %H:%M}"


@flow(name="watch-inbox", flow_run_name=_name, persist_result=False)
def watch_inbox(
    class_word: ClassWord = "object", preset: Preset = "standard", base_model: BaseModel = ""
) -> State[list[tuple[str, str, str]]]:
    """Start a run of train-concept for every new folder of the inbox that is complete.

    The run ends as Nothing new, as Started with their number, or as Partly failed or Failed where a folder is no
    concept or has no usable picture. Its result has name, status and reason of each.
    """
    settings = load_settings()
    store = open_store(settings)
    there = settled(dropped(settings), store, datetime.now(UTC))
    items = [concept_of(one, class_word, settings) for one in there]
    if not items:
        return Completed(name="Nothing new", message=f"Nothing new is complete in {settings.inbox_uri}.", data=[])
    works = look_at(items, Asked(base_model=base_model, preset=preset))
    rows = list[tuple[str, str, str]]()
    for folder, work, item in zip(there, works, items, strict=True):
        run = ""
        if work.open:
            run = _start(folder, work.name, parameters(item, preset=preset, base_model=base_model))
        rows.append(_row(work, run))
        if not isinstance(work.error, ServiceError):  # which the next look may not meet
            take(folder, run, store)
    artifacts.inbox_table(rows)
    name, message = headline([(concept, status) for concept, status, _ in rows])
    kind = Failed if any(status == "failed" for _, status, _ in rows) else Completed
    return kind(name=name, message=message, data=rows)


def _start(folder: Dropped, name: str, given: dict[str, object]) -> str:
    """Start the run of a folder; one that was started before for the same files is taken as it is. Returns its id."""
    run = patiently(
        run_deployment, DEPLOYMENT, parameters=given, flow_run_name=name, timeout=0, as_subflow=False, tags=["inbox"],
        idempotency_key=f"inbox-{folder.digest}",
    )  # fmt: skip
    return str(run.id)


def _row(work: Work, run: str) -> tuple[str, str, str]:
    if run:
        return work.name, "started", f"run {run}"
    return work.name, status_of(work), reason_of(work.error) if work.error else f"Known: {work.outcome.reason}"
