"""All servers of one machine up, and down again: in order, each waited for, only what is missing started.

It prints nothing: what happens is told to a function, in words.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flows.serving.deploying import pool, prefect_client, queues, register
from flows.serving.life import alive
from flows.serving.places import check_host, check_places
from flows.serving.programs import Program, cards_of, configuration, mlflow_accounts, programs
from flows.serving.stack import BUCKET, REGISTERED, STACK, Options, Stack, decided, keep, kept, private
from flows.serving.supervising import CONFIGURATION, Supervisor, answers
from ti_core.errors import InputError, NotFoundError, ServiceError

SECONDS = 900.0
"""How long a server may take: seconds on an idle machine, minutes on a busy one; one that ends is told sooner."""
SERVERS = {"store", "mlflow", "prefect"}
"""What is no worker."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Up:
    """What is running after `bring_up`."""

    stack: Stack
    cards: list[str]
    already: bool
    """Whether all of it was running before."""


def bring_up(home: Path, asked: Options, tell: Tell) -> Up:
    """Start what is not running of the stack in `home` (made where it is not there), register the deployments, and
    return when everything answers.

    Raises InputError for options that cannot be had, a host, port, database or store that cannot be used, a program
    that is missing, or servers that run otherwise, before anything is started or kept; ServiceError for a server that
    does not come up (what is up then stays up), or is being stopped.
    """
    from ti_core.settings import starting

    with starting(home):  # of two at once the second finds what the first has done
        before = kept(home)
        stack = decided(before, asked)
        check_host(stack.host)
        cards = cards_of(stack)
        them = programs(stack, cards)
        supervisor = Supervisor(home)
        if states := supervisor.states():
            _check_same(home, before, stack, them)
        for name in stack.left_behind(os.environ):
            del os.environ[name]
        os.environ.update(stack.environment(home))
        # A worker's run has a working folder of its own, so that which counts is this one.
        os.environ.setdefault("PSEUDOWORD_ALLOWED_ROOTS", f"{Path.cwd()}:{Path.home()}")
        ready = _ready(stack)
        missing = [program for program in them if states.get(program.name) != "RUNNING"]
        whole = not missing and all(ready[program.name]() for program in them if not program.worker)
        if not whole:
            if not states:
                supervisor.end_leftovers()
            check_places(stack, [one for one in missing if states.get(one.name) not in {"STARTING", "STOPPING"}])
            if not states:
                _launch(supervisor, home, stack, them)
            _start(supervisor, stack, them, missing, tell)
        elif stack != before:
            tell("registering the deployments")
            register(stack.pictures, stack.alerts)
        keep(stack, home)
        return Up(stack, cards, already=whole)


def _launch(supervisor: Supervisor, home: Path, stack: Stack, them: list[Program]) -> None:
    """Start the supervisor over what is written for it and for the servers."""
    for folder in ("s3", "mlflow", "logs", "worker", "prefect"):
        (home / folder).mkdir(mode=0o700, exist_ok=True)
    keep(stack, home)
    private(home / "mlflow/auth.ini", mlflow_accounts(stack))
    private(home / CONFIGURATION, configuration(them))
    supervisor.launch()


def _ready(stack: Stack) -> dict[str, Callable[[], bool]]:
    """Of each server, whether it does its work."""
    return {
        "store": partial(_has_bucket, stack),
        "mlflow": partial(answers, f"{stack.mlflow_url}/health"),
        "prefect": partial(answers, f"{stack.prefect_url}/api/health"),
    }


def _start(supervisor: Supervisor, stack: Stack, them: list[Program], missing: list[Program], tell: Tell) -> None:
    """Servers together, then the deployments, then the workers. One that runs already may still be on its way up."""
    for program in missing:
        if not program.worker:
            tell(f"starting {program.name}")
            supervisor.start(program.name)
    for program in them:
        if not program.worker:
            supervisor.wait_for(program.name, _ready(stack)[program.name], SECONDS)
            tell(f"{program.name} answers")
    tell("registering the deployments")
    register(stack.pictures, stack.alerts)
    _pause(False)  # as `ti down --drain` left it
    workers = [program.name for program in missing if program.worker]
    for name in workers:
        supervisor.start(name)
    for name in workers:
        supervisor.wait_for(name, partial(_is_online, name), SECONDS)
        tell(f"worker {name} is ready")


def take_down(home: Path, drain: bool, tell: Tell) -> bool:
    """Stop what runs of the stack in `home`: workers first, the store last. With `drain` workers first finish the runs
    that they are doing. Returns whether anything was running.

    Raises NotFoundError where there is no stack; ServiceError, and stops nothing, where workers are alive whose runs
    cannot be waited for, as Prefect does not answer.
    """
    supervisor, running = Supervisor(home), alive(str(home))
    if not running and not (home / STACK).exists():
        raise NotFoundError(f"There are no servers in {home}: name their folder with --home.")
    if drain and running - SERVERS:
        supervisor.states()  # what is being stopped already cannot be drained
        _drain(home, tell)
    return supervisor.stop()


def _is_online(worker: str) -> bool:
    """Whether Prefect has heard from a worker lately. Raises ServiceError where it does not answer."""
    with prefect_client() as client:
        there = client.read_workers_for_work_pool(pool())
        return any(one.name == worker and one.status == "ONLINE" for one in there)


def _drain(home: Path, tell: Tell) -> None:
    """Pause the pool, and wait for the runs of the GPU workers. What runs on a CPU worker waits for those that the
    pause holds back; it goes on with its next run."""
    stack = kept(home)
    if stack is None:
        raise NotFoundError(f"There is no {home / STACK} to find Prefect by: ti down alone stops all at once.")
    os.environ.update(stack.environment(home))
    try:
        _pause(True)
    except ServiceError as error:
        raise ServiceError(
            f"{error} Without it nobody knows what the workers are doing, and nothing was stopped: start it with "
            "ti up, or stop all at once with ti down alone."
        ) from None
    done = False
    try:
        told: list[str] = []
        while runs := _at_work():
            if runs != told:
                tell(f"waiting for {', '.join(runs)}")
                told = runs
            time.sleep(2)
        done = True
    finally:
        if not done:  # interrupted: the workers go on as before
            _pause(False)


def _pause(paused: bool) -> None:
    from prefect.client.schemas.actions import WorkPoolUpdate

    with prefect_client() as client:
        client.update_work_pool(pool(), WorkPoolUpdate(is_paused=paused))


def _at_work() -> list[str]:
    """The names of the runs that GPU workers are doing."""
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType

    states = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    names = [queue.name for queue in queues() if not queue.cpu]
    with prefect_client() as client:
        found = client.read_flow_runs(
            flow_run_filter=filters.FlowRunFilter(
                state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=states))
            ),
            work_pool_filter=filters.WorkPoolFilter(name=filters.WorkPoolFilterName(any_=[pool()])),
        )
    return sorted(run.name for run in found if run.work_queue_name in names)


def _has_bucket(stack: Stack) -> bool:
    from ti_core.settings import load_settings
    from ti_core.store import open_store

    if not answers(stack.s3_url):
        return False
    try:
        next(open_store(load_settings(), f"s3://{BUCKET}").keys("store/"), None)
    except ServiceError:
        return False
    return True


def _check_same(home: Path, before: Stack | None, stack: Stack, them: list[Program]) -> None:
    """Raise InputError where the servers that run were started for another stack than the one that is asked for."""
    if before is None:
        raise InputError(f"Servers run in {home}, and their {STACK} is gone: run ti down, then ti up.")
    changed = [name for name in Options.model_fields if getattr(stack, name) != getattr(before, name)]
    if fixed := [f"--{name.replace('_', '-')}" for name in changed if name not in REGISTERED]:
        raise InputError(
            f"The servers in {home} are up with another {', '.join(fixed)}: run ti down, then this command again."
        )
    file = home / CONFIGURATION
    if not file.exists() or file.read_text() != configuration(them):
        raise InputError(
            f"The servers in {home} were started for other cards, or from another installation: run ti down, then "
            "ti up."
        )
