"""The inbox: each folder that was dropped there and is complete starts a run of its own, once.

Pictures are looked at here, where no card is needed: what cannot be trained is told by the state of the look that found
it, and what has an outcome is not started. A run's idempotency key is made of the folder's listing, and what was dealt
with is taken down in the store, so that neither two looks at once nor a new Prefect server start anything twice.
"""

from datetime import UTC, datetime

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from flows.forms import DEPLOYMENT, parameters
from flows.options import BaseModel, ClassWord, Preset
from tasks import artifacts
from tasks.asking import started
from tasks.line import look_at
from ti_core.errors import NotFoundError, ServiceError
from ti_core.inbox import Dropped, concept_of, dropped, settled, take
from ti_core.planning.batch import BatchItem, for_bases
from ti_core.settings import Settings, load_settings
from ti_core.store import Store, open_store
from ti_core.summary import headline, reason_of, status_of
from ti_core.works import Asked, Work


def _name() -> str:
    return f"inbox {datetime.fromisoformat(str(runtime.flow_run.scheduled_start_time)):%Y-%m-%d %H:%M}"


@flow(name="watch-inbox", flow_run_name=_name, persist_result=False)
def watch_inbox(
    class_word: ClassWord = "object", preset: Preset = "standard", base_model: BaseModel = ""
) -> State[list[tuple[str, str, str]]]:
    """Start a run of train-concept for every new folder of the inbox that is complete.

    The run ends as Nothing new, as Started with their number, as Partly failed or Failed where a folder is no concept
    or has no usable picture, or as Not looked while the store is away, which alerts nobody: the next look makes up for
    it. Its result has name, status and reason of each.
    """
    settings = load_settings()
    try:
        rows = _dealt_with(class_word, Asked(base_model=base_model, preset=preset), settings, open_store(settings))
    except ServiceError as error:
        return Failed(name="Not looked", message=str(error), data=error)
    if not rows:
        return Completed(name="Nothing new", message=f"Nothing new is complete in {settings.inbox_uri}.", data=rows)
    artifacts.inbox_table(rows)
    name, message = headline([(concept, status) for concept, status, _ in rows])
    kind = Failed if any(status == "failed" for _, status, _ in rows) else Completed
    return kind(name=name, message=message, data=rows)


def _dealt_with(class_word: str, asked: Asked, settings: Settings, store: Store) -> list[tuple[str, str, str]]:
    """Deal with what is new and complete; returns name, status and reason of each. What could not be started, or was
    kept from being looked at by a silent server, is still new at the next look.

    Raises ServiceError where that is all there is.
    """
    rows, away = list[tuple[str, str, str]](), list[ServiceError]()
    for folder in settled(dropped(settings), store, datetime.now(UTC)):
        try:
            items = for_bases([concept_of(folder, class_word, settings)], [asked.base_model], settings)
            works = look_at(items, asked)
            if silent := next((one.error for one in works if isinstance(one.error, ServiceError)), None):
                raise silent
            runs = [_start(folder, item, asked) if work.open else "" for item, work in zip(items, works, strict=True)]
        except ServiceError as error:
            away.append(error)
            continue
        except NotFoundError as error:  # nothing can be started at all
            rows.append((folder.name, "failed", str(error)))
            continue
        take(folder, " ".join(filter(None, runs)), store)
        rows += [_row(work, run, len(works) > 1) for work, run in zip(works, runs, strict=True)]
    if away and not rows:
        raise away[0]
    return rows


def _start(folder: Dropped, item: BatchItem, asked: Asked) -> str:
    """Start the run of a folder on one base model; one that was started before for the same files is taken as it is.
    Returns its id."""
    run_id = started(
        DEPLOYMENT, parameters=parameters(item, asked.preset), flow_run_name=item.name, tags=["inbox"],
        idempotency_key="-".join(["inbox", load_settings().namespace, folder.digest, item.base_model]),
    )  # fmt: skip
    return str(run_id)


def _row(work: Work, run: str, several: bool) -> tuple[str, str, str]:
    name = f"{work.name} ({work.base_model})" if several else work.name
    if run:
        return name, "started", f"run {run}"
    return name, status_of(work), reason_of(work.error) if work.error else f"Known: {work.outcome.reason}"
