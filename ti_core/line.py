"""The line, stated once, over a list of concepts; one concept is a list of one.

    ingest → preprocess → train → evaluate (each step) → select → evaluate for the report → register

`Line.run` takes a list through all stations. A station takes the concepts that are still open and returns them with
what it has added; one that fails is told apart and stops nobody. How a station is called is the caller's affair
(`call`): plainly here, as a task run in Prefect. This module knows no station's inside, no Prefect and no torch.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from ti_core.config import Packing
from ti_core.planning.batch import BatchItem
from ti_core.records import Manifest, Plan
from ti_core.settings import Settings
from ti_core.stations import Stations
from ti_core.store import Store
from ti_core.works import Asked, Work, rounds_of, standing

T = TypeVar("T")
Station = Callable[[list[Work]], list[Work]]
Call = Callable[..., Any]
"""`call(name, label, station, *given)` runs `station(*given)`. What it returns has an `error` for each concept."""


def plainly(_name: str, _label: str, station: Callable[..., T], *given: Any) -> T:
    """Call a station as a function."""
    return station(*given)


class Line:
    """The stations in their order."""

    def __init__(
        self, settings: Settings, store: Store, packing: Packing = Packing(), batch: str = "", call: Call = plainly
    ) -> None:
        self.stations, self._call = Stations(settings, store, packing, batch), call

    def run(self, items: Sequence[BatchItem], asked: Asked) -> list[Work]:
        """Take concepts from their pictures to their outcomes; returns them in the given order, each with its outcome
        or the reason why it has none.

        Raises ServiceError when a server that all need does not answer.
        """
        works = self.meet_rivals(self.study(items, asked))
        return self._each("register", "register", partial(self.stations.register, asks=asked.approval), works)

    def meet_rivals(self, works: list[Work]) -> list[Work]:
        """Judge the champions that stand in the works' way beside them."""
        return self._each("evaluate", "evaluate the champions", self.stations.evaluate_rivals, works)

    def study(self, items: Sequence[BatchItem], asked: Asked) -> list[Work]:
        """The line up to the report: what a study wants, which publishes nothing."""
        works: list[Work] = self._call("ingest", "ingest", self.stations.ingest, list(items), asked)
        works = self._each("preprocess", "preprocess", self.stations.prepare, works)
        return self.judge(self._each("train", "train", self.stations.train, works))

    def judge_again(self, old: Manifest, plan: Plan) -> Manifest:
        """Judge the stored checkpoints of a run as `plan` (of `planning.replan`) says, and keep what comes of it beside
        the old one, under keys of its own; what readers get does not change. What is kept already is only read.

        Raises InputError for a plan of another training, and why it could not be judged.
        """
        works = self._call("recall", "recall", self.stations.again, old, plan)
        works = self._each("keep", "keep", self.stations.keep_judged, self.judge(works))
        return self.stations.judged(works)

    def judge(self, works: list[Work]) -> list[Work]:
        """Judge all checkpoints of the works, choose a step of each, and judge that one on the reporting set."""
        still = [one for one in works if one.open]
        if not still:
            return works
        rungs = max(len(rounds_of(one)) for one in still)
        for rung in range(rungs):
            marks = [
                self._call("evaluate", _label(step, rung, rungs), self.stations.evaluate, still, step, rung)
                for step in _steps(still, rung)
            ]
            if rung + 1 < rungs:
                label = f"halve after rung {rung + 1}"
                still = self._call("halve", label, self.stations.halve, still, marks, rung)
        works = _replaced(works, self._call("select", "select", self.stations.select, still, marks))
        return self._each("evaluate", "evaluate for the report", self.stations.evaluate_report, works)

    def _each(self, name: str, label: str, station: Station, works: list[Work]) -> list[Work]:
        """Call a station with the works that are open; none is called for nothing."""
        open_works = [one for one in works if one.open]
        return _replaced(works, self._call(name, label, station, open_works)) if open_works else works


def _replaced(works: Sequence[Work], newer: Sequence[Work]) -> list[Work]:
    by_place = {one.place: one for one in newer}
    return [by_place.get(one.place, one) for one in works]


def _steps(works: Sequence[Work], rung: int) -> list[int]:
    """The steps that a rung judges, the class word (0) first: it ends both scales, so the first rung sees all of it."""
    there = {one.step for work in works if rung < len(rounds_of(work)) for one in standing(work)}
    return [*([] if rung else [0]), *sorted(there)]


def _label(step: int, rung: int, rungs: int) -> str:
    if not step:
        return "evaluate class word"
    return f"evaluate step {step}, rung {rung + 1}" if rungs > 1 else f"evaluate step {step}"
