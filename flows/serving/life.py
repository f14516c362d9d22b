"""`python -m flows.serving.life COMMAND …`: what the supervisor starts in place of each server.

A server that was killed may leave children that hold its port or its card (MLflow's web server, a worker's run), and
a shell gives what it starts with `&` an ignored Ctrl-C, after which a Prefect worker ignores SIGTERM too. So the
children of the life before are ended, signals are put back, and the command takes this process's place.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil

MARK = "PSEUDOWORD_SERVERS"
"""Environment variable of every process of a stack: its folder."""
SECONDS = 10
"""How long a process may take to end before it is killed."""


def leftovers(home: str, program: str = "") -> Iterator[psutil.Process]:
    """This user's processes of the stack in `home`, or of one program of it, but for this one."""
    return (process for process, name in _processes(home) if program in {"", name})


def alive(home: str) -> set[str]:
    """The names of the programs that have a process, under the supervisor or left behind by one."""
    return {name for _, name in _processes(home)} - {""}


def _processes(home: str) -> Iterator[tuple[psutil.Process, str]]:
    """With the program that each belongs to; "" for the supervisor itself."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environment = process.environ()
            if environment.get(MARK) == home and process.pid != os.getpid():
                yield process, environment.get("SUPERVISOR_PROCESS_NAME", "")


def end(processes: list[psutil.Process]) -> None:
    """End processes, gently first."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(processes, SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def main(command: list[str]) -> None:
    """Take the place of the last life of this program."""
    end(list(leftovers(os.environ[MARK], os.environ["SUPERVISOR_PROCESS_NAME"])))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.execvp(command[0], command)  # noqa: S606 (the supervisor's own list of words)


if __name__ == "__main__":
    main(sys.argv[1:])
