"""Progress for whoever runs the line in this process: the line tells, the command line and Prefect's artifacts listen.

Nothing is stored; without a listener, telling does nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ti_core.records import Manifest, Outcome, Scores


@dataclass(frozen=True)
class Stage:
    """A station has begun its work on a concept."""

    concept: str
    name: str


@dataclass(frozen=True)
class Trained:
    """Training of a concept stands at `step` of `steps`. `key` tells it from others of its name."""

    key: str
    concept: str
    step: int
    steps: int
    loss: float
    norm: float
    samples_per_second: float
    done: int
    total: int
    """Steps of all concepts that are trained with it, those of earlier runs counted."""


@dataclass(frozen=True)
class Judged:
    """One set of pictures is judged: `done` of the `total` that are judged in this round."""

    concept: str
    scores: Scores
    done: int
    total: int


@dataclass(frozen=True)
class Assembled:
    """All that is known of a judged run is in its manifest, whose blobs are in the store."""

    concept: str
    manifest: Manifest


@dataclass(frozen=True)
class Ended:
    """A run has its outcome; `page` is where a browser finds its page."""

    concept: str
    outcome: Outcome
    page: str


Event = Stage | Trained | Judged | Assembled | Ended
_listeners: list[Callable[[Event], None]] = []


@contextmanager
def listening(listener: Callable[[Event], None]) -> Iterator[None]:
    """Call `listener` with every event while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(event: Event) -> None:
    """Pass an event to all listeners."""
    for listener in list(_listeners):
        listener(event)
