"""The flow of a pack, as far as its batch sees it."""

import signal

import pytest
from prefect.exceptions import TerminationSignal

from flows import train_pack as module
from flows.train_pack import Member, train_pack
from tests.flows.moss import Run


@pytest.fixture
def stopped(at_home: Run, monkeypatch: pytest.MonkeyPatch) -> list[Member]:
    """Concepts of a pack that is told to end while they are trained."""

    def run(*_: object) -> None:
        raise TerminationSignal(signal.SIGTERM)

    monkeypatch.setattr(module, "run_line", run)
    return [Member(concept=at_home.concept)]


def test_a_run_whose_worker_is_stopped_says_so(stopped: list[Member], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "of a worker")
    state = train_pack(stopped, return_state=True)
    assert (state.name, state.is_crashed()) == ("Stopped", True)


def test_without_a_worker_all_of_the_process_ends(stopped: list[Member]) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with pytest.raises(TerminationSignal):
            train_pack(stopped)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM], "Prefect passes it on"
