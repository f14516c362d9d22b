"""Progress for whoever runs the line in this process: the line tells; the command line, logs and Prefect's artifacts
listen.

Nothing is stored; without a listener, telling does nothing.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ti_core.records import ImageSet, Manifest, Outcome, Plan, Scores

log = logging.getLogger(__name__)
"""Where `Lines` may go: Prefect keeps what `ti_core` logs with the flow run."""


@dataclass(frozen=True)
class Stage:
    """A station has begun its work on a concept."""

    concept: str
    name: str


@dataclass(frozen=True)
class Looked:
    """The pictures of concepts were looked at, before anything is trained: (concept, what was found)."""

    sets: tuple[tuple[str, ImageSet], ...]


@dataclass(frozen=True)
class Kept:
    """What training sees of a concept's pictures is in the store."""

    plan: Plan


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
class Drawn:
    """Pictures were made and seen: in how many passes of the U-Net, and in how many seconds."""

    passes: int
    seconds: float


@dataclass(frozen=True)
class Judged:
    """One set of pictures is judged: `done` of the `total` that are judged in this round."""

    concept: str
    what: str
    """What they show: `step 120`, or the word that stands for the concept."""
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


Event = Stage | Looked | Kept | Trained | Drawn | Judged | Assembled | Ended

LINE_SECONDS = 10.0
"""At most one line in so many seconds."""


class Lines:
    """A listener that tells in lines where nobody can watch a bar: in a pipe, a file, a log.

    A line names the concept, its station, its step, the share of all that the station has to do and the time that is
    left of it, estimated from what was done since the station began: `fox: training, step 120 of 500 (24%, about 3 min
    left)`. `say` gets each line, `clock` gives seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._said = float("-inf")
        self._began: tuple[type, int, int, float] | None = None
        """Station, its total, and what was done at which time when it was first heard of."""

    def __call__(self, event: Event) -> None:
        now = self._clock()
        match event:
            case Stage():
                text = f"{event.concept}: {event.name}"
            case Trained():
                whose = "" if event.total == event.steps else " of all"
                share = self._share(event, whose, now)
                text = f"{event.concept}: training, step {event.step} of {event.steps} ({share})"
            case Judged():
                share = self._share(event, "", now)
                text = f"{event.concept}: judging {event.what}, {event.done} of {event.total} ({share})"
            case Ended():
                text = f"{event.concept}: {event.outcome.status}"
            case _:
                return
        if now - self._said >= LINE_SECONDS:
            self._said = now
            self._say(text)

    def _share(self, event: Trained | Judged, whose: str, now: float) -> str:
        if self._began is None or self._began[:2] != (type(event), event.total) or self._began[2] > event.done:
            self._began = (type(event), event.total, event.done, now)
        _, _, done_then, then = self._began
        share = f"{event.done / event.total:.0%}{whose}"
        if event.done in {done_then, event.total}:
            return share
        left = (now - then) / (event.done - done_then) * (event.total - event.done)
        return f"{share}, {duration(left)} left"


def duration(seconds: float) -> str:
    """Seconds in words, roughly."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 90 else f"about {minutes // 60} h {minutes % 60} min"


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
