"""What training leaves in the store, written by a thread of its own so that no step waits for it.

Checkpoints are always written, each followed by a state that names it; states between them now and then, and only when
the one before has been written. This module knows the store; it knows no networks.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor

from ti_core import formats
from ti_core.records import Checkpoint
from ti_core.store import Store, put_blob
from ti_core.training.events import CheckpointReady
from ti_core.training.state import StateFiles, TrainingState

STATE_SECONDS = 15.0
"""Seconds between two states of one concept that are not a checkpoint's: what a crash may cost."""


class Keeper:
    """The files of one concept's training. `checkpoints` are those made before."""

    def __init__(
        self, store: Store, files: StateFiles, checkpoints: list[Checkpoint], thread: ThreadPoolExecutor
    ) -> None:
        self._store, self._files, self._checkpoints, self._thread = store, files, checkpoints, thread
        self._last: Future[None] | None = None
        self._begun = time.monotonic()

    def offer(self, state: TrainingState) -> None:
        """Keep a state if it is time for one and the writing keeps up."""
        busy = self._last is not None and not self._last.done()
        if not busy and time.monotonic() - self._begun >= STATE_SECONDS:
            self.keep(state)

    def keep(self, state: TrainingState) -> None:
        """Keep a state."""
        self._raise_failure()
        self._begun = time.monotonic()
        self._last = self._thread.submit(self._write_state, state)

    def checkpoint(self, event: CheckpointReady) -> None:
        """Keep a checkpoint and its state."""
        self._raise_failure()
        self._last = self._thread.submit(self._write_checkpoint, event)

    def finish(self) -> tuple[Checkpoint, ...]:
        """Wait until all is written; returns all checkpoints by step. Raises ServiceError when the store failed."""
        if self._last is not None:
            self._last.result()
        return tuple(self._checkpoints)

    def _raise_failure(self) -> None:
        if self._last is not None and self._last.done():
            self._last.result()

    def _write_checkpoint(self, event: CheckpointReady) -> None:
        vectors = {name: rows.numpy() for name, rows in event.state.vectors.items()}
        blob = put_blob(self._store, formats.write_checkpoint(vectors))
        self._checkpoints.append(Checkpoint(step=event.step, vectors=blob, norm=event.norm, loss=event.loss))
        self._write_state(event.state)

    def _write_state(self, state: TrainingState) -> None:
        self._files.write(state, self._checkpoints)
