"""Where the packs of a batch are run: here, one after the other, or as runs of the deployment `train-pack` on whichever
workers there are. Both are executors of `ti_core.packs`; what a pack is, they do not know.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling
from pydantic import BaseModel

from flows.train_pack import STOPPED, train_pack
from tasks.asking import CancelledError, is_cancelled, minding_cancellation, of_namespace, patiently
from ti_core.packs import End, Pack, Word
from ti_core.stations import planned_already
from ti_core.works import Work

Given = Callable[[Pack], dict[str, Any]]
"""The parameters of a pack's run."""
POLL_SECONDS = 3.0
ASKED = 200
"""Flow runs that are asked for in one request: the server's limit."""


def here(queue: deque[Pack], given: Given, works: Mapping[Word, Work]) -> Iterator[End]:
    """Run packs in this process; `works` are their concepts, planned already. Raises CancelledError where the
    present run was cancelled."""
    while queue:
        if is_cancelled():
            raise CancelledError
        pack = queue.popleft()
        with planned_already([works[word] for word in pack.words if word in works]):
            state = train_pack(**given(pack), return_state=True)
        yield End(pack, str(state.message), state.is_cancelled())


def by_deployment(queue: deque[Pack], given: Given, batch: str, title: str, most: int) -> Iterator[End]:
    """Run packs on workers, at `most` so many asked for and not ended. A run that was started before for the same pack,
    death, stop and batch is taken as it is: so a coordinator that is started again goes on. Where the present run is
    cancelled, so are theirs.

    Raises CancelledError then, and ServiceError when the Prefect server has been away for an hour.
    """
    running, started = dict[UUID, Pack](), 0
    with minding_cancellation() as cancelled:
        try:
            while queue or running:
                while queue and len(running) < most:
                    pack, started = queue.popleft(), started + 1
                    name = f"{title} pack {started}" + (", again" if pack.deaths or pack.stops else "")
                    running[patiently(_start, pack, given(pack), batch, name)] = pack
                ended = patiently(_ended, running)
                for run_id, end in ended:
                    del running[run_id]
                    yield end
                if cancelled():
                    raise CancelledError
                if running and not ended:
                    time.sleep(POLL_SECONDS)
        except BaseException:
            # A worker that is stopped ends this run just so; but then this run will go on, and so will they.
            if running and (cancelled() or is_cancelled()):
                patiently(_cancel, running)
            raise


def _start(pack: Pack, given: dict[str, Any], batch: str, name: str) -> UUID:
    run = run_deployment(
        "train-pack/train-pack",
        parameters=_plain(given),
        flow_run_name=name,
        tags=["pack", f"batch:{batch}"],
        timeout=0,
        job_variables=of_namespace(),
        idempotency_key=f"{batch}-{pack.key}-{pack.deaths}" + (f"-{pack.stops}" if pack.stops else ""),
    )
    return run.id


def _ended(running: Mapping[UUID, Pack]) -> list[tuple[UUID, End]]:
    """The runs that have ended; one that somebody has deleted was cancelled."""
    ids = list(running)
    gone = {run_id: End(pack, "its run was deleted", cancelled=True) for run_id, pack in running.items()}
    with get_client(sync_client=True) as client:
        for first in range(0, len(ids), ASKED):
            some = FlowRunFilter(id=FlowRunFilterId(any_=ids[first : first + ASKED]))
            for run in client.read_flow_runs(flow_run_filter=some, limit=ASKED):
                del gone[run.id]
                if run.state and run.state.is_final():
                    why = f"{run.state.name}: {run.state.message or 'it said nothing'}"
                    gone[run.id] = End(running[run.id], why, run.state.is_cancelled(), run.state.name == STOPPED)
    return list(gone.items())


def _cancel(running: Iterable[UUID]) -> None:
    with get_client(sync_client=True) as client:
        for run_id in running:
            with suppress(ObjectNotFound):  # it was deleted
                client.set_flow_run_state(run_id, Cancelling(message="Its batch was cancelled."))


def _plain(value: Any) -> Any:
    """As JSON has it. What was not set stays so: it means a default there, too."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return {name: _plain(one) for name, one in value.items()} if isinstance(value, dict) else value
