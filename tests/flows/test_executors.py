"""Packs as runs on workers, against a real Prefect API. The worker is played: it ends runs while the executor waits."""

import signal
import time
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed, Crashed, Running, State

from flows import executors
from flows.executors import by_deployment
from tasks import asking
from tasks.asking import CancelledError
from ti_core.packs import End, Pack

A, B = Pack(("cat",)), Pack(("dog", "fox"))
Worker = Callable[[FlowRun], State | None]


@pytest.fixture(scope="module")
def deployment(prefect_api: None) -> UUID:
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name("train-pack")
        return client.create_deployment(flow_id, name="train-pack")


@pytest.fixture
def batch(deployment: UUID) -> str:
    return f"night-{uuid4().hex[:8]}"


@pytest.fixture
def wish(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whoever puts something in has cancelled the batch."""
    told: list[bool] = []
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", str(uuid4()))
    monkeypatch.setattr(asking, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(asking, "_is_cancelled", lambda _: bool(told))
    return told


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, wish: list[bool], batch: str) -> Callable[[Worker], None]:
    """Plays a worker: while the executor waits, it looks at each run that is not over and may give it a state."""

    def play(act: Worker) -> None:
        def pause(_: float) -> None:
            with get_client(sync_client=True) as client:
                for run in runs(batch):
                    state = None if run.state and run.state.is_final() else act(run)
                    if state:
                        client.set_flow_run_state(run.id, state, force=True)

        monkeypatch.setattr(executors, "time", SimpleNamespace(sleep=pause))

    return play


def runs(batch: str) -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[f"batch:{batch}"])))


def ends(batch: str, *packs: Pack, most: int = 64) -> list[End]:
    return list(by_deployment(deque(packs), given, batch, "night", most))


def given(pack: Pack) -> dict[str, Any]:
    return {"batch": " ".join(pack.names)}


def test_each_pack_is_a_run_and_its_end_is_told(worker: Callable[[Worker], None], batch: str) -> None:
    worker(
        lambda run: Completed(message="published 1") if run.parameters["batch"] == "cat" else Crashed(message="killed")
    )
    told = {end.pack: end for end in ends(batch, A, B)}
    assert told[A] == End(A, "Completed: published 1")
    assert told[B] == End(B, "Crashed: killed")
    assert sorted(run.name for run in runs(batch)) == ["night pack 1", "night pack 2"]


def test_a_pack_that_died_is_another_run_and_one_that_was_asked_for_is_not(
    worker: Callable[[Worker], None], batch: str
) -> None:
    worker(lambda _: Crashed(message="killed"))
    ends(batch, A)
    worker(lambda _: Completed(message="published 1"))
    assert ends(batch, A) == [End(A, "Crashed: killed")]  # a coordinator that is begun again finds the run that was
    dead = Pack(A.names, deaths=1)
    assert ends(batch, dead) == [End(dead, "Completed: published 1")]
    assert [run.name for run in runs(batch) if run.name.endswith("again")] == ["night pack 1, again"]
    assert len(runs(batch)) == 2


def test_a_pack_whose_worker_was_stopped_is_another_run(worker: Callable[[Worker], None], batch: str) -> None:
    worker(lambda _: Crashed(name="Stopped", message="its worker"))
    assert ends(batch, A) == [End(A, "Stopped: its worker", stopped=True)]
    worker(lambda _: Completed(message="published 1"))
    again = Pack(A.names, stops=1)
    assert ends(batch, A, again) == [End(A, "Stopped: its worker", stopped=True), End(again, "Completed: published 1")]
    assert len(runs(batch)) == 2


def test_what_a_person_cancels_or_deletes_is_cancelled(worker: Callable[[Worker], None], batch: str) -> None:
    def act(run: FlowRun) -> State | None:
        if run.parameters["batch"] == "cat":
            return Cancelled(message="not tonight")
        with get_client(sync_client=True) as client:
            client.delete_flow_run(run.id)
        return None

    worker(act)
    told = {end.pack: end for end in ends(batch, A, B)}
    assert told[A] == End(A, "Cancelled: not tonight", cancelled=True)
    assert told[B] == End(B, "its run was deleted", cancelled=True)


def test_packs_that_are_put_there_meanwhile_are_run(worker: Callable[[Worker], None], batch: str) -> None:
    worker(lambda _: Completed(message="done"))
    queue = deque([A])
    told = []
    for end in by_deployment(queue, given, batch, "night", 64):
        told.append(end.pack)
        if end.pack == A:
            queue.append(B)
    assert told == [A, B]


def test_no_more_packs_wait_than_are_allowed(worker: Callable[[Worker], None], batch: str) -> None:
    waited: list[int] = []

    def act(run: FlowRun) -> State | None:
        there = sorted(one.name for one in runs(batch) if one.state and not one.state.is_final())
        waited.append(len(there))
        return Completed(message="done") if run.name == there[0] else None

    worker(act)
    packs = [Pack((name,)) for name in "abcde"]
    assert [end.pack for end in ends(batch, *packs, most=2)] == packs
    assert max(waited) == 2


def test_a_cancelled_batch_cancels_its_packs(worker: Callable[[Worker], None], wish: list[bool], batch: str) -> None:
    def act(_: FlowRun) -> State | None:
        wish.append(True)
        time.sleep(0.2)  # the thread that looks has to see it
        return Running()

    worker(act)
    with pytest.raises(CancelledError):
        ends(batch, A, B)
    assert all(run.state and run.state.is_cancelling() for run in runs(batch))


def test_a_stopped_coordinator_leaves_its_packs_alone(worker: Callable[[Worker], None], batch: str) -> None:
    def act(_: FlowRun) -> State | None:
        raise TerminationSignal(signal.SIGTERM)

    worker(act)
    with pytest.raises(TerminationSignal):
        ends(batch, A)
    assert [run.state.is_scheduled() for run in runs(batch) if run.state] == [True]
