"""Where the packs of a batch are run: here, one after the other, or as runs of the deployment `train-pack` on whichever
workers there are. Both are executors of `ti_core.packs`; what a pack is, they do not know.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.deployments import run_deployment
from pydantic import BaseModel

from flows.train_pack import train_pack
from ti_core.packs import End, Pack
from ti_core.stations import planned_already
from ti_core.works import Work

log = logging.getLogger(__name__)

Given = Callable[[Pack], dict[str, Any]]
"""The parameters of a pack's run."""
POLL_SECONDS = 3.0
ASKED = 200
"""Flow runs that are asked for in one request: the server's limit."""


def here(queue: deque[Pack], given: Given, works: Mapping[str, Work]) -> Iterator[End]:
    """Run packs in this process; `works` are their concepts by name, planned already."""
    while queue:
        pack = queue.popleft()
        with planned_already([works[name] for name in pack.names if name in works]):
            state = train_pack(**given(pack), return_state=True)
        yield End(pack, str(state.message))


def by_deployment(queue: deque[Pack], given: Given, batch: str, title: str) -> Iterator[End]:
    """Run packs on workers. A run that was started before for the same pack, death and batch is taken as it is: so a
    coordinator that is started again goes on."""
    running, number = dict[UUID, Pack](), 0
    while queue or running:
        while queue:
            pack, number = queue.popleft(), number + 1
            run = run_deployment(
                "train-pack/train-pack",
                parameters=_plain(given(pack)),
                flow_run_name=f"{title} pack {number}" + (f", again after {pack.deaths}" if pack.deaths else ""),
                tags=["pack", f"batch:{batch}"],
                timeout=0,
                idempotency_key=f"{batch}-{pack.key}-{pack.deaths}",
            )
            running[run.id] = pack
        for run_id, end in _ended(running):
            del running[run_id]
            yield end
        if not queue:
            time.sleep(POLL_SECONDS)


def _ended(running: Mapping[UUID, Pack]) -> list[tuple[UUID, End]]:
    """The runs that have ended."""
    found = list[tuple[UUID, End]]()
    with get_client(sync_client=True) as client:
        for some in _chunks(list(running), ASKED):
            for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=some)), limit=ASKED):
                if run.state and run.state.is_final():
                    why = f"{run.state.name}: {run.state.message or 'it said nothing'}"
                    found.append((run.id, End(running[run.id], why, run.state.is_cancelled())))
    return found


def _chunks(ids: Sequence[UUID], size: int) -> Iterator[list[UUID]]:
    return (list(ids[first : first + size]) for first in range(0, len(ids), size))


def _plain(value: Any) -> Any:
    """As JSON has it. What was not set stays so: it means a default there, too."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return {name: _plain(one) for name, one in value.items()} if isinstance(value, dict) else value
