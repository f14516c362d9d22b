"""Training curves on their way to the tracking server: first into a file, then, while training goes on, to the server.

Each process has one file per tracking run under the data folder. A thread sends what is new there every few seconds;
training waits for none of it, and a server that is silent is tried again. A file is removed when all of it was sent.
What a killed process or a silent server left is sent by the next `Curves` or `drain_curves`. Rows carry the time at
which they were measured, and MLflow keeps equal ones once, so sending again adds nothing. It knows no training.
"""

import contextvars
import fcntl
import json
import logging
import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from ti_core.errors import NotFoundError, ServiceError
from ti_core.keys import digest
from ti_core.registry.server import without_credentials
from ti_core.settings import Settings

log = logging.getLogger(__name__)

SECONDS = 10.0
"""Between two times of sending."""
ROWS = 200
"""So many new rows are sent at once."""
PATIENCE = 5.0
"""Seconds that the end of training waits for the last rows to be sent; after that the next run sends them."""

Row = Mapping[str, float]


class Server(Protocol):
    """What curves need of `ti_core.registry.Registry`."""

    def log_training(self, run_id: str, rows: Iterable[Row]) -> None:
        """Log training metrics; may be called again with the same rows."""


class Curves:
    """The curves of the runs of one training, within a `with`: `add` rows, they are sent. Leaving it waits `PATIENCE`
    for the last of them, whether training ended or was torn out."""

    def __init__(self, settings: Settings, server: Server) -> None:
        self._folder, self._server = _folder(settings), server
        self._spools: dict[str, _Spool] = {}
        self._new, self._full = 0, False
        self._wake, self._closing = threading.Event(), threading.Event()
        # Prefect finds by its context to which run a line of the log belongs.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._work,), name="curves", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._wake.set()
        self._thread.join(PATIENCE)

    def add(self, run_id: str, step: int, values: Row) -> None:
        """Take down what was measured now at `step` of a tracking run, by name."""
        row = {"step": step, "time": int(time.time() * 1000), **values}
        try:
            if run_id not in self._spools:
                self._spools[run_id] = _Spool(self._folder, run_id)
            self._spools[run_id].append(row)
        except OSError as error:
            if not self._full:  # once, and training goes on
                log.warning("The training curves cannot be kept in %s: %s.", self._folder, error.strerror)
            self._full = True
        self._new += 1
        if self._new >= ROWS:
            self._new = 0
            self._wake.set()

    def _work(self) -> None:
        _send_left(self._folder, self._server)
        while True:
            self._wake.wait(SECONDS)
            self._wake.clear()
            last = self._closing.is_set()  # before sending, so that the last round sees all
            sent = all([self._send(spool) for spool in list(self._spools.values())])
            if last:
                for spool in self._spools.values():
                    spool.close()
                if not sent:
                    log.warning("The tracking server is told the rest of the training curves by the next run.")
                return

    def _send(self, spool: "_Spool") -> bool:
        """Send what is new in a file; returns whether all of it is with the server."""
        try:
            rows, end = spool.unsent()
            if rows:
                self._server.log_training(spool.run_id, rows)
            spool.sent = end
        except NotFoundError as error:
            log.warning("%s Its training curves go nowhere.", error)
            spool.sent = spool.path.stat().st_size
        except (ServiceError, OSError) as error:
            log.info("The training curves are sent later: %s", error)
            return False
        return True


def drain_curves(settings: Settings, server: Server) -> None:
    """Send what earlier processes left. A server that does not answer is told the next time."""
    _send_left(_folder(settings), server)


def _send_left(folder: Path, server: Server) -> None:
    for path in sorted(folder.glob("*.jsonl")):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                run_id = path.stem.rpartition("-")[0]
                rows, _ = _rows(file.read())
                try:
                    server.log_training(run_id, rows)
                except NotFoundError as error:
                    log.warning("%s The training curves that were left of it are removed.", error)
                path.unlink()
        except (BlockingIOError, FileNotFoundError):
            continue  # its process lives and sends it, or another one has just done so
        except (ServiceError, OSError) as error:
            log.info("The training curves of an earlier run are sent later: %s", error)
            return


class _Spool:
    """One run's file, held by a lock while its process lives: nobody else sends it."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self.run_id, self.sent = run_id, 0
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{run_id}-{secrets.token_hex(4)}.jsonl"
        hidden = self.path.with_name(f".{self.path.name}")
        self._file = hidden.open("ab", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        hidden.rename(self.path)  # nobody finds it before it is held

    def append(self, row: Row) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")

    def unsent(self) -> tuple[list[Row], int]:
        """The rows that were not sent yet, and where they end."""
        with self.path.open("rb") as file:
            file.seek(self.sent)
            rows, length = _rows(file.read())
        return rows, self.sent + length

    def close(self) -> None:
        """Let go of the file, and remove it when all of it was sent."""
        if self.sent == self.path.stat().st_size:
            self.path.unlink()
        self._file.close()


def _rows(data: bytes) -> tuple[list[Row], int]:
    """The whole lines of a file as rows, and their length. A killed process or a full disk may leave half a line."""
    whole, rows = data[: data.rfind(b"\n") + 1], list[Row]()
    for line in whole.splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            log.warning("A damaged row of the training curves is left out: %r", line[:80])
    return rows, len(whole)


def _folder(settings: Settings) -> Path:
    """Where the curves for the settings' tracking server wait: a run is known to its own server alone."""
    return settings.home.absolute() / "curves" / digest(without_credentials(settings.mlflow_uri))[:12]
