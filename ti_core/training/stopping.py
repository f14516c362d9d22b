"""When training is to pause: a signal, a spent time budget, somebody's wish; noticed at a step's boundary.

Python runs signal handlers between any two instructions, and Prefect's raises there, in the middle of a step. Here the
first SIGTERM or SIGINT is only noted; once the states are written it is raised again for whoever handled it before. A
second one is passed on at once. This module knows no training.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


_wishes: list[Callable[[], bool]] = []


@contextmanager
def pausing_when(wished: Callable[[], bool]) -> Iterator[None]:
    """While the block runs, training pauses once `wished` says so. It is asked before every step, and must not wait."""
    _wishes.append(wished)
    try:
        yield
    finally:
        _wishes.remove(wished)


class Pause:
    """Whether and why to pause. `seconds` 0 is no time budget."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._minutes = seconds / 60
        self._deadline = time.monotonic() + seconds if seconds else float("inf")
        self.signal: int = 0
        """The signal that was noted, or 0."""

    def __call__(self) -> bool:
        return bool(self.signal) or time.monotonic() >= self._deadline or any(wished() for wished in _wishes)

    @property
    def why(self) -> str:
        """Of a pause, in words."""
        if self.signal:
            return f"it was told to ({signal.Signals(self.signal).name})"
        return f"{self._minutes:g} minutes are over" if time.monotonic() >= self._deadline else "it was cancelled"


@contextmanager
def noting_signals(pause: Pause) -> Iterator[None]:
    """Note SIGTERM and SIGINT in `pause` while the block runs, and raise a noted one again after it.

    Outside the main thread, where Python allows no handlers, nothing is noted. A signal that this process ignores stays
    ignored: a script's `&` starts it so, and Ctrl-C is then not meant for it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}

    def note(number: int, _frame: FrameType | None) -> None:
        pause.signal = number
        signal.signal(number, before[number])

    for each in _SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            before[each] = signal.signal(each, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if pause.signal:  # also where the block fails: a failing store must not swallow the wish to end
            signal.raise_signal(pause.signal)
