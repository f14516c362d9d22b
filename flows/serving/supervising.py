"""The supervisor of a stack (supervisord, over its socket in the stack's folder), and how long one waits for a server.

It does not know what the programs are.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from flows.serving.life import MARK, end, leftovers
from ti_core.errors import ServiceError

CONFIGURATION = "supervisord.conf"
"""What it is started with, in the stack's folder."""
DEAD = {"FATAL", "EXITED", "STOPPED", "UNKNOWN"}
"""States of a program that does not come up by itself."""


class GoingDownError(ServiceError):
    """The supervisor has been told to stop, and answers nothing more until it has."""


class Supervisor:
    """The supervisor in the folder `home`, whether it runs or not."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def states(self) -> dict[str, str]:
        """The state of each program, as supervisord calls it; empty where it does not run. Raises GoingDownError."""
        try:
            with self._calls() as calls:
                return {one["name"]: one["statename"] for one in calls.getAllProcessInfo()}
        except OSError:
            return {}

    def pids(self) -> dict[str, int]:
        """The process of each program that runs."""
        with self._calls() as calls:
            return {one["name"]: one["pid"] for one in calls.getAllProcessInfo() if one["pid"]}

    def launch(self) -> None:
        """Start the supervisor, which starts nothing yet. It and all that it starts carry this process's environment
        and the mark of the folder."""
        (self._home / "supervisor.sock").unlink(missing_ok=True)
        done = subprocess.run(  # noqa: S603 (our own words)
            [sys.executable, "-m", "supervisor.supervisord", "-c", CONFIGURATION],
            cwd=self._home, env=os.environ | {MARK: str(self._home)}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        until = time.monotonic() + 20
        while not self.states():
            if done.returncode != 0 or time.monotonic() > until:
                raise ServiceError(f"The supervisor does not start: {(done.stderr or done.stdout).strip()[-300:]}")
            time.sleep(0.1)

    def start(self, program: str) -> None:
        """Start a program that is not running. Whoever waits for it hears what came of it."""
        with suppress(OSError, xmlrpc.client.Fault), self._calls() as calls:
            calls.startProcess(program, False)

    def wait_for(self, program: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready()`. Raises ServiceError with the end of the program's log where it gives up or is late."""
        until = time.monotonic() + seconds
        while not ready():
            state = self.states().get(program, "UNKNOWN")
            late = time.monotonic() > until
            if state in DEAD or late:
                log = self._home / "logs" / f"{program}.log"
                how = f"did not answer within {seconds:.0f} seconds" if late else f"does not start ({state})"
                raise ServiceError(f"{program} {how}: {log} says why; it ends with {_last_line(log)!r}.")
            time.sleep(0.3)

    def stop(self) -> bool:
        """Stop all programs in order, then the supervisor, also where another command has begun it; end whatever is
        left. Returns whether anything was running."""
        found = False
        with suppress(OSError):
            while True:
                with suppress(GoingDownError), self._calls() as calls:
                    calls.shutdown()
                found = True
                time.sleep(0.3)
        return self.end_leftovers() or found

    def end_leftovers(self) -> bool:
        """End what a supervisor that was killed has left behind. Returns whether there was anything."""
        left = list(leftovers(str(self._home)))
        end(left)
        return bool(left)

    @contextmanager
    def _calls(self) -> Iterator[Any]:
        from supervisor.xmlrpc import Faults, SupervisorTransport

        # By its name alone: the path of a socket may have no more than a hundred characters.
        transport = SupervisorTransport(None, None, "unix://supervisor.sock")
        try:
            with chdir(self._home), xmlrpc.client.ServerProxy("http://localhost", transport) as server:
                yield server.supervisor
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != Faults.SHUTDOWN_STATE:
                raise
            raise GoingDownError(
                f"The servers in {self._home} are being stopped: wait until they are (ti down does), then try again."
            ) from None


def answers(url: str) -> bool:
    """Whether a server answers there, be it with a refusal."""
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 (http on loopback)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False
    return True


def taken(host: str, port: int) -> str:
    """Who listens on a port, in words; "" when it is free."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        return ""
    except OSError:
        pass
    with suppress(psutil.Error):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid:
                return f"{psutil.Process(one.pid).name()}, process {one.pid}"
    return "another program"


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")
