"""What training leaves in the store, written by a thread of its own so that no step waits for it.

Checkpoints are always written, each followed by a state that names it; states between them now and then, and only when
the one before has been written. What the store did not take stays in line, in its order, and is tried again: a state is
never written before a checkpoint that came before it. This module knows the store; it knows no networks.
"""

import logging
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from ti_core import formats
from ti_core.errors import PseudowordError, ServiceError
from ti_core.records import Checkpoint
from ti_core.store import Store, put_blob
from ti_core.training.events import CheckpointReady
from ti_core.training.state import StateFiles, TrainingState

log = logging.getLogger(__name__)

STATE_SECONDS = 15.0
"""Seconds between two states of one concept that are not a checkpoint's: what a crash may cost."""


class Keeper:
    """The files of one concept's training. `checkpoints` are those made before; `name` is for sentences; `place` is the
    device and the number type that new ones are made on."""

    def __init__(
        self,
        name: str,
        store: Store,
        files: StateFiles,
        checkpoints: list[Checkpoint],
        thread: ThreadPoolExecutor,
        place: tuple[str, str],
    ) -> None:
        self._name, self._store, self._files, self._thread = name, store, files, thread
        self._device, self._dtype = place
        self._checkpoints = checkpoints
        self._line = deque[CheckpointReady | TrainingState]()
        self._writing: Future[None] | None = None
        self._begun = time.monotonic()

    def offer(self, state: TrainingState) -> None:
        """Keep a state if it is time for one and the writing keeps up."""
        busy = self._writing is not None and not self._writing.done()
        if not busy and time.monotonic() - self._begun >= STATE_SECONDS:
            self.keep(state)

    def keep(self, state: TrainingState) -> None:
        """Keep a state, after what is still in line."""
        self._begun = time.monotonic()
        self._line.append(state)
        self._write()

    def checkpoint(self, event: CheckpointReady) -> None:
        """Keep a checkpoint and its state, after what is still in line."""
        self._line.append(event)
        self.keep(event.state)

    def finish(self) -> tuple[Checkpoint, ...]:
        """Wait until all is written, and try once more what was not; returns all checkpoints by step.

        Raises ServiceError when the store did not take all: the same training then goes on from the last state that it
        has.
        """
        if self._failure():
            self._write()
        if failure := self._failure():
            if not isinstance(failure, PseudowordError):
                raise failure
            raise ServiceError(
                f"What {self._name} learned is not all in the store ({str(failure).rstrip('.')}): run it again, and it "
                "goes on from the last state that is."
            ) from failure
        return tuple(self._checkpoints)

    def _write(self) -> None:
        """Have the thread write what is in line; what failed before is told, and still the first there."""
        if self._writing is not None and self._writing.done() and (failure := self._writing.exception()):
            log.warning("What %s learned could not be kept and is tried again: %s", self._name, failure)
        self._writing = self._thread.submit(self._write_line)

    def _failure(self) -> BaseException | None:
        return self._writing.exception() if self._writing is not None else None

    def _write_line(self) -> None:
        while self._line:
            match self._line[0]:
                case CheckpointReady() as event:
                    vectors = {name: rows.numpy() for name, rows in event.state.vectors.items()}
                    blob = put_blob(self._store, formats.write_checkpoint(vectors))
                    kept = Checkpoint(
                        step=event.step, vectors=blob, norm=event.norm, loss=event.loss, device=self._device,
                        dtype=self._dtype,
                    )  # fmt: skip
                    self._checkpoints.append(kept)
                case state:
                    self._files.write(state, self._checkpoints)
            self._line.popleft()
