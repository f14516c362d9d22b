"""What a flow run asks of a server that may be away: no flow, no server."""

import signal
from pathlib import Path

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError, TerminationSignal

from tasks import asking
from tasks.artifacts import key_of
from tasks.asking import CancelledError, ask_for_approval, check_begun, minding_cancellation, of_namespace, patiently
from tests.builders import judged
from ti_core.errors import ServiceError, TrainingError
from ti_core.publishing.transaction import publish
from ti_core.store.folder import FolderStore
from ti_core.training.stopping import Pause, pausing_when
from ti_core.works import Work

REQUEST = httpx.Request("GET", "http://nowhere.invalid/api")


def answer(code: int) -> PrefectHTTPStatusError:
    return PrefectHTTPStatusError("No.", request=REQUEST, response=httpx.Response(code, request=REQUEST))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "AGAIN_SECONDS", 0.0)


@pytest.mark.usefixtures("at_once")
def test_an_outage_is_waited_for() -> None:
    answers = iter([httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), answer(503), 7])

    def ask(more: int) -> int:
        one = next(answers)
        if isinstance(one, Exception):
            raise one
        return one + more

    assert patiently(ask, 1) == 8


@pytest.mark.usefixtures("at_once")
def test_what_the_server_refuses_is_not_asked_again() -> None:
    answers = iter([answer(404)])

    def ask() -> None:
        raise next(answers)

    with pytest.raises(PrefectHTTPStatusError):
        patiently(ask)


def test_an_outage_that_does_not_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", -1.0)

    def ask() -> None:
        raise httpx.ConnectError("refused")

    with pytest.raises(ServiceError, match="not answered for an hour"):
        patiently(ask)


@pytest.mark.parametrize(("cancelled", "raised"), [(True, CancelledError), (False, TerminationSignal)])
def test_what_a_worker_ends_was_cancelled_or_stopped(
    monkeypatch: pytest.MonkeyPatch, cancelled: bool, raised: type[BaseException]
) -> None:
    monkeypatch.setattr(asking, "_is_cancelled", lambda _: cancelled)
    with pytest.raises(raised), minding_cancellation():
        raise TerminationSignal(signal.SIGTERM)


def test_training_pauses_where_somebody_wishes_it() -> None:
    wish: list[bool] = []
    pause = Pause()
    with pausing_when(lambda: bool(wish)):
        assert not pause()
        wish.append(True)
        assert pause() and pause.why == "it was cancelled"
    assert not pause()


@pytest.mark.parametrize(("count", "too_often"), [("1", False), ("5", False), ("6", True)])
def test_a_run_is_not_begun_for_ever(monkeypatch: pytest.MonkeyPatch, count: str, too_often: bool) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", count)
    if too_often:
        with pytest.raises(TrainingError, match="begun 5 times"):
            check_begun()
    else:
        check_begun()


def test_what_a_run_starts_is_of_its_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (of_namespace(), key_of("sheet", "cat-toy")) == ({}, "sheet-cat-toy")
    monkeypatch.setenv("PSEUDOWORD_NAMESPACE", "team-a")
    assert of_namespace() == {"env": {"PSEUDOWORD_NAMESPACE": "team-a"}}
    assert key_of("sheet", "cat-toy") == "sheet-team-a-cat-toy"


def test_a_server_that_is_away_keeps_no_card_waiting_for_an_approval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object, **__: object) -> None:
        raise httpx.ConnectError("refused")

    store = FolderStore(tmp_path)
    outcome = publish(store, judged(store), "", {}, asks=True)
    monkeypatch.setattr(asking, "run_deployment", away)
    ask_for_approval([Work(0, "cat-toy", outcome=outcome)])
    assert "`ti list --awaiting` shows what waits" in caplog.text
