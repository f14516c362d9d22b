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
from flows.serving.programs import Program, cards_of, configuration, mlflow_accounts, programs
from flows.serving.stack import BUCKET, Options, Stack, decided, keep, kept, private
from flows.serving.supervising import Supervisor, answers, taken
from ti_core.errors import InputError, NotFoundError, ServiceError

SECONDS = 900.0
"""How long a server may take: seconds on an idle machine, minutes on a busy one; one that ends is told sooner."""
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

    Raises InputError for options that cannot be had, a port that is taken or a program that is missing, before
    anything is started or written; ServiceError for a server that does not come up (what is up then stays up).
    """
    from ti_core.settings import starting

    before = kept(home)
    stack = decided(before, asked)
    supervisor = Supervisor(home)
    states = supervisor.states() if home.is_dir() else {}
    if states and before is not None and stack != before:
        changed = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(asked.model_fields_set))
        raise InputError(f"The servers in {home} are up with other options than {changed}: run ti down first.")
    cards = cards_of(stack)
    them = programs(stack, cards)
    missing = [program for program in them if states.get(program.name) != "RUNNING"]
    os.environ.update(stack.environment(home))
    ready = _ready(stack)
    if not missing and all(ready[program.name]() for program in them if not program.worker):
        return Up(stack, cards, already=True)
    if not states:
        supervisor.end_leftovers()
    _check_ports(stack, [one for one in missing if states.get(one.name) not in {"STARTING", "STOPPING"}])
    if stack.postgres:
        _check_databases(stack)
    with starting(home):
        if not states:
            for folder in ("s3", "mlflow", "logs", "worker", "prefect"):
                (home / folder).mkdir(mode=0o700, exist_ok=True)
            keep(stack, home)
            private(home / "mlflow/auth.ini", mlflow_accounts(stack))
            private(home / "supervisord.conf", configuration(them))
            supervisor.launch()
        _start(supervisor, stack, them, missing, tell)
    return Up(stack, cards, already=False)


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
    register(stack.pictures, os.environ.get("PSEUDOWORD_ALERTS", ""))
    _pause(False)  # as `ti down --drain` left it
    workers = [program.name for program in missing if program.worker]
    for name in workers:
        supervisor.start(name)
    for name in workers:
        supervisor.wait_for(name, lambda name=name: name in online(), SECONDS)  # type: ignore[misc]
        tell(f"worker {name} is ready")


def take_down(home: Path, drain: bool, tell: Tell) -> bool:
    """Stop what runs of the stack in `home`: workers first, the store last. With `drain` workers first finish the runs
    that they are doing. Returns whether anything was running."""
    supervisor = Supervisor(home)
    stack = kept(home)
    if stack is None:
        raise NotFoundError(f"There are no servers in {home}: name their folder with --home.")
    states = supervisor.states()
    if drain and states.get("prefect") == "RUNNING":
        os.environ.update(stack.environment(home))
        _drain(tell)
    leftover = supervisor.stop()
    return bool(states) or leftover


def online() -> set[str]:
    """The names of the workers from whom Prefect has heard lately. Raises ServiceError where it does not answer."""
    with prefect_client() as client:
        return {worker.name for worker in client.read_workers_for_work_pool(pool()) if worker.status == "ONLINE"}


def _drain(tell: Tell) -> None:
    """Pause the pool, and wait for the runs of the GPU workers. What runs on a CPU worker waits for those that the
    pause holds back; it goes on with its next run."""
    _pause(True)
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


def _check_ports(stack: Stack, them: list[Program]) -> None:
    """Raise InputError for a port that somebody else has, with who it is and the option that names another."""
    for program in them:
        host = "127.0.0.1" if program.name == "store" else stack.host
        for port in program.ports:
            if who := taken(host, port):
                raise InputError(
                    f"Port {port}, which {program.name} needs, is taken by {who}: stop that, or name another with "
                    f"{program.option}."
                )


def _check_databases(stack: Stack) -> None:
    """Raise InputError where a database cannot be entered: sooner than two servers have tried it for minutes."""
    import psycopg

    from flows.serving.programs import database

    for name in ("mlflow", "prefect"):
        try:
            psycopg.connect(database(stack, name), connect_timeout=10).close()
        except psycopg.Error as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(
                f"The database {name} of --postgres cannot be used ({reason}): start the server, make both databases "
                "(createdb mlflow; createdb prefect), or correct the URL."
            ) from None
