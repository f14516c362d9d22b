"""What a flow run asks of its Prefect server while it works, so that an outage of the server ends nothing.

After an outage a worker does not hear of a cancellation any more, so a run looks for itself whether it is to end.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import httpx
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError, TerminationSignal
from prefect.settings import PREFECT_API_URL

from ti_core.errors import NotFoundError, PseudowordError, ServiceError, TrainingError
from ti_core.records import AWAITS
from ti_core.settings import load_settings
from ti_core.training.stopping import pausing_when
from ti_core.works import Work

log = logging.getLogger(__name__)

P, T = ParamSpec("P"), TypeVar("T")
AGAIN_SECONDS = 5.0
"""Between two looks at one's own state, and between two tries where the server does not answer."""
BEGUN = 5
"""So often a run is begun."""
PATIENCE_SECONDS = 3600.0
"""How long a server may be away before what needs it is given up."""


class CancelledError(PseudowordError):
    """A person has cancelled the run."""

    def __init__(self) -> None:
        super().__init__("It was cancelled: the same work goes on from its state when it is asked for again.")


def patiently(ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Ask the server, again and again while it does not answer. Raises ServiceError after an hour."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask(*args, **kwargs)
        except (httpx.TransportError, PrefectHTTPStatusError) as error:
            if isinstance(error, PrefectHTTPStatusError) and error.response.status_code < 500:
                raise
            if time.monotonic() > until:
                raise ServiceError(f"The Prefect server has not answered for an hour ({error}).") from None
            log.warning("The Prefect server does not answer (%r): it is asked again.", error)
            time.sleep(AGAIN_SECONDS)


def ask_for_approval(works: Sequence[Work]) -> None:
    """Start a run that asks for each word that awaits approval, where the server has its deployment; once for each, so
    that nobody is asked again by the next batch. Elsewhere `ti approve` and `ti decline` say it. A server that is away
    is not waited for, as a card may be: the next batch asks."""
    for outcome in (work.outcome for work in works if work.outcome and work.outcome.status == AWAITS):
        try:
            run_deployment(
                "approve/approve",
                parameters={"concept": outcome.concept, "base_model": outcome.base, "run": outcome.judge_key},
                flow_run_name=f"{outcome.concept} on {outcome.base}",
                timeout=0,
                as_subflow=False,  # what is part of another run cannot be suspended
                job_variables=of_namespace(),
                # The same pictures under two names have one judge_key.
                idempotency_key="-".join(
                    ["approve", load_settings().namespace, outcome.concept, outcome.base, outcome.judge_key]
                ),
            )
        except ObjectNotFound:
            return
        except (httpx.TransportError, PrefectHTTPStatusError) as error:
            log.warning("Nobody is asked for approval now, `ti list --awaiting` shows what waits: %r", error)
            return


def started(deployment: str, **how: Any) -> UUID:
    """Start a run of a deployment for a worker, in this namespace and a part of no other run, waiting for a server that
    does not answer; `how` are further words of Prefect's `run_deployment`. Returns the run's id.

    Raises NotFoundError where the server does not have the deployment, ServiceError after an hour of silence.
    """
    try:
        run = patiently(run_deployment, deployment, timeout=0, as_subflow=False, job_variables=of_namespace(), **how)
    except ObjectNotFound:
        raise not_registered(deployment) from None
    return run.id


def not_registered(deployment: str) -> NotFoundError:
    """What is said where the server does not have a deployment."""
    return NotFoundError(
        f"The Prefect server has no deployment {deployment}: ti up, or deployments/setup.sh, registers it."
    )


def of_namespace() -> dict[str, Any]:
    """Job variables of a run that is started from here: it is of the same namespace, whichever worker takes it."""
    namespace = load_settings().namespace
    return {"env": {"PSEUDOWORD_NAMESPACE": namespace}} if namespace else {}


def check_begun() -> None:
    """Raise TrainingError where the present flow run was begun too often: its worker died or was stopped each time, and
    it was given to a worker again (deployments/automations.yaml)."""
    if (runtime.flow_run.run_count or 0) > BEGUN:
        raise TrainingError(
            f"It was begun {BEGUN} times, and its worker died or was stopped each time: see the worker's log, and run "
            "it again."
        )


def is_cancelled() -> bool:
    """Whether the present flow run was cancelled, asked once; no where the server does not say."""
    return _is_cancelled(str(runtime.flow_run.id))


@contextmanager
def minding_cancellation() -> Iterator[Callable[[], bool]]:
    """While the block runs, a thread of its own looks now and then whether the present flow run was cancelled; training
    then pauses at a step's boundary. Yields what says so. Without a server there is nobody to cancel it.

    A worker cancels by SIGTERM, and stops by it, too. Prefect takes it for a crash where it came in the middle of
    training, which notes signals itself; and what crashed is begun again. So it becomes a CancelledError here.
    """
    wish, over, run_id = threading.Event(), threading.Event(), str(runtime.flow_run.id)

    def look() -> None:
        while not over.wait(AGAIN_SECONDS) and not wish.is_set():
            if _is_cancelled(run_id):
                wish.set()

    if PREFECT_API_URL.value():
        threading.Thread(target=look, name="cancellation", daemon=True).start()
    try:
        with pausing_when(wish.is_set):
            yield wish.is_set
    except TerminationSignal:
        if _is_cancelled(run_id):
            raise CancelledError from None
        raise
    finally:
        over.set()


def _is_cancelled(run_id: str) -> bool:
    try:
        with get_client(httpx_settings={"timeout": AGAIN_SECONDS}, sync_client=True) as client:
            state = client.read_flow_run(UUID(run_id)).state
    except (httpx.HTTPError, RuntimeError, ObjectNotFound):  # the last where the run was deleted
        return False
    return state is not None and (state.is_cancelling() or state.is_cancelled())
