"""What a flow run asks of a server that may be away: no flow, no server."""

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError

from tasks import asking
from tasks.asking import check_begun, patiently
from ti_core.errors import ServiceError, TrainingError

REQUEST = httpx.Request("GET", "http://nowhere.invalid/api")


def answer(code: int) -> PrefectHTTPStatusError:
    return PrefectHTTPStatusError("No.", request=REQUEST, response=httpx.Response(code, request=REQUEST))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "AGAIN_SECONDS", 0.0)


def test_an_outage_is_waited_for() -> None:
    answers = iter([httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), answer(503), 7])

    def ask(more: int) -> int:
        one = next(answers)
        if isinstance(one, Exception):
            raise one
        return one + more

    assert patiently(ask, 1) == 8


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


@pytest.mark.parametrize(("count", "too_often"), [("1", False), ("5", False), ("6", True)])
def test_a_run_is_not_begun_for_ever(monkeypatch: pytest.MonkeyPatch, count: str, too_often: bool) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", count)
    if too_often:
        with pytest.raises(TrainingError, match="begun 5 times"):
            check_begun()
    else:
        check_begun()
