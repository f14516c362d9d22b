"""`python -m flows.serving.worker gpu NAME` (or `cpu NAME`): take this process's place with a Prefect worker of the
pool and the queues that the deployments name for this kind. Supervisors, containers and units start it.
"""

import os
import sys

from flows.serving.deploying import pool, queues

PLACES = {"gpu": 1, "cpu": 4}
"""Runs at a time: two on one card only slow each other down; those without a card mostly wait for others."""


def command(kind: str, name: str) -> list[str]:
    """The worker's command; empty where no queue is of this kind."""
    served = [queue for queue in queues() if queue.cpu == (kind == "cpu")]
    if not served:
        return []
    words = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool(), "--name", name]
    words += ["--limit", str(PLACES[kind]), "--install-policy", "never"]
    return words + [word for queue in served for word in ("--work-queue", queue.name)]


if __name__ == "__main__":
    if not (words := command(*sys.argv[1:3])):
        sys.exit(f"No deployment has a queue for a {sys.argv[1]} worker.")
    os.execv(words[0], words)  # noqa: S606 (our own words)
