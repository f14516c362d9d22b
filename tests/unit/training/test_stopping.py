"""When training pauses: signals are noted, then passed on; a time budget runs out."""

import signal
import threading
from collections.abc import Iterator

import pytest

from ti_core.training.stopping import Pause, noting_signals


class Passed(Exception):
    """Stands for what an orchestrator's own handler raises."""


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    def passed(number: int, _frame: object) -> None:
        raise Passed(number)

    before = signal.signal(signal.SIGTERM, passed)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_signal_is_noted_and_raised_again_after_the_block() -> None:
    pause, done = Pause(), False
    with pytest.raises(Passed), noting_signals(pause):
        assert not pause()
        signal.raise_signal(signal.SIGTERM)
        assert pause() and pause.signal == signal.SIGTERM
        done = True
    assert done, "the block went on to its end"


def test_a_block_that_fails_does_not_swallow_the_signal() -> None:
    with pytest.raises(Passed), noting_signals(Pause()):
        signal.raise_signal(signal.SIGTERM)
        raise OSError("the store is gone")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pause = Pause()
        with noting_signals(pause):
            signal.raise_signal(signal.SIGINT)
            assert not pause() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_signal_is_passed_on_at_once() -> None:
    done = False
    with pytest.raises(Passed), noting_signals(Pause()):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        done = True
    assert not done


def test_without_a_signal_the_handler_is_the_one_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with noting_signals(Pause()):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_note_nothing_and_fail_nothing() -> None:
    failures = list[BaseException]()

    def work() -> None:
        try:
            with noting_signals(Pause()):
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures


def test_a_time_budget_runs_out() -> None:
    assert not Pause()() and not Pause(60.0)() and Pause(1e-9)()
