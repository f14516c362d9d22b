"""`python -m flows.serving.worker gpu NAME` (or `cpu NAME`): a Prefect worker of the pool and the queues that the
deployments name for this kind, which can be stopped. Supervisors, containers, units and people start it.

A Prefect worker that is told to stop kills its runs on the spot. So it is a child of this process, which alone hears of
SIGTERM and Ctrl-C: the runs are told to end first, write their state and say that they were stopped, and so are given
to a worker again at once. What a run does that hears of it, this module does not know (`tasks.asking`).
"""

import argparse
import signal
import sys
import time
from contextlib import suppress

import psutil

from flows.serving.deploying import pool, queues

PLACES = {"gpu": 1, "cpu": 4}
"""Runs at a time: two on one card only slow each other down; those without a card mostly wait for others."""
GRACE_SECONDS = 50
"""How long runs may take to end. Whoever stops this process waits a minute or more before it kills."""
AGAIN_SECONDS = 15
"""So many seconds later a run is told again. Prefect raises an exception where the signal finds the run, and Python
drops one that is raised while an object is being deleted."""
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def command(kind: str, name: str) -> list[str]:
    """The Prefect worker with its queues; empty where no queue is of this kind."""
    served = [queue for queue in queues() if queue.cpu == (kind == "cpu")]
    if not served:
        return []
    words = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool(), "--name", name]
    words += ["--limit", str(PLACES[kind]), "--install-policy", "never"]
    return words + [word for queue in served for word in ("--work-queue", queue.name)]


def serve(words: list[str]) -> int:
    """Start a Prefect worker and wait for its end; on SIGTERM, SIGINT or SIGHUP end its runs, then the worker. A second
    signal ends it without waiting. Returns the worker's exit code."""
    for number in STOPS:
        signal.signal(number, signal.default_int_handler)
    worker = psutil.Popen(words, process_group=0)  # a terminal's Ctrl-C is for this process alone
    try:
        return int(worker.wait())
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt):  # who says it twice does not want to wait
            end_runs(worker)
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
        worker.send_signal(signal.SIGINT)
        return int(worker.wait())


def end_runs(worker: psutil.Process) -> None:
    """Tell the runs of a worker to end, also those that it begins meanwhile, and wait until they have."""
    told, until = dict[psutil.Process, float](), time.monotonic() + GRACE_SECONDS
    while (runs := worker.children()) and (now := time.monotonic()) < until:
        for run in runs:
            if now - told.get(run, float("-inf")) > AGAIN_SECONDS:
                told[run] = now
                with suppress(psutil.NoSuchProcess):
                    run.terminate()
        psutil.wait_procs(runs, timeout=0.2)


def main() -> int:
    """Serve what the command line names."""
    options = argparse.ArgumentParser(prog="python -m flows.serving.worker", description="Take runs from the queues.")
    options.add_argument("kind", choices=PLACES, help="gpu trains and judges, cpu coordinates and looks at pictures")
    options.add_argument("name", help="of the worker, in Prefect; no two have the same")
    given = options.parse_args()
    if not (words := command(given.kind, given.name)):
        options.error(f"no deployment has a queue for a {given.kind} worker")
    return serve(words)


if __name__ == "__main__":
    sys.exit(main())
