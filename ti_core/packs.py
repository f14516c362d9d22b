"""A batch in packs: what is open is split, each pack is run somewhere, and what came of it is read from the store.

A pack is what one worker takes together, on one base model: its concepts share batches of training and of judging.
Whoever runs it leaves a report in the store; a run that ends without one has died, and its pack is run again. Training
goes on from its state then. A pack that dies twice is split, and split again, until the concept that kills its worker
is alone.

Where packs are run is the executor's affair: here, one after the other, or on many machines. Asked again for the same
batch, all of it is done again in the same order, so that whoever coordinates may die as well. This module knows no
Prefect and no torch.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from ti_core.config import Packing
from ti_core.errors import NotFoundError, PausedError, PseudowordError, TrainingError, WithdrawnError
from ti_core.keys import digest
from ti_core.records import Came, PackReport, Packs, report_key, reports_prefix, split_key
from ti_core.settings import Settings
from ti_core.store import Store
from ti_core.summary import reason_of
from ti_core.works import Work

log = logging.getLogger(__name__)

Word = tuple[str, str]
"""A base model as it was named, and a concept's name: a batch may have a concept once for each base model."""
Kind = Literal["done", "known", "failed", "paused", "withdrawn"]
SIZE = 16
"""Concepts of a pack where nobody says: more than most cards hold at a time (docs/benchmarks/memory.md), so that places
are filled as they become free, and few enough that a night spreads over workers."""
DEATHS = 2
"""A pack that has died so often is split."""
STOPS = 10
"""So often a pack may be told to end before that is a death, too: a machine may end what takes its memory so."""
CANCELLED = "The run of its pack was cancelled: the same work goes on in the next batch."


@dataclass(frozen=True)
class Pack:
    """Concepts that are run together, by name, how often runs of them have died, the base model as it was named, and
    how often their workers were stopped."""

    names: tuple[str, ...]
    deaths: int = 0
    base_model: str = ""
    stops: int = 0

    @property
    def key(self) -> str:
        """The same for the same concepts on the same base model."""
        return digest([*self.names, {"base_model": self.base_model}])[:16]

    @property
    def words(self) -> list[Word]:
        """What tells its concepts from those of other packs."""
        return [(self.base_model, name) for name in self.names]


@dataclass(frozen=True)
class End:
    """The end of a pack's run as its executor saw it: why it ended without a report, if it did, whether a person
    wanted it so, and whether its worker was to end."""

    pack: Pack
    why: str = ""
    cancelled: bool = False
    stopped: bool = False


Executor = Callable[[deque[Pack]], Iterator[End]]
"""Takes packs from the queue, also those that are put there meanwhile, runs them and tells of each as it ends."""


def train_in_packs(works: Sequence[Work], packing: Packing, execute: Executor, batch: str, store: Store) -> list[Work]:
    """Run what is open of a batch in packs; returns all works, each with its outcome or the reason why it has none.
    `batch` names it in the store.

    What an earlier attempt at the same batch has done is told as done, and not as known from elsewhere.

    Raises ServiceError when the store does not answer, and what the executor raises where it is to end.
    """
    done = {(came.name, came.outcome.base): came for came in _done(store, batch) if came.outcome}
    works = [_after(one, done.get((one.name, one.outcome.base))) if one.outcome else one for one in works]
    still = {word_of(one): one for one in works if one.open}
    queue, after = deque[Pack](), dict[Word, Work]()

    def take(pack: Pack) -> bool:
        """Take over what a pack's report says; whether there is one."""
        report = _report(store, batch, pack)
        if report:
            came = {(pack.base_model, one.name): one for one in report.came}
            after.update({word: _after(still[word], came[word]) for word in came.keys() & still.keys()})
        return report is not None

    queue.extend(pack for pack in split(list(still), packing, batch, store) if not take(pack))
    for end in execute(queue):
        left = [word for word in end.pack.words if word in still]
        if take(end.pack):
            continue
        if end.cancelled:
            after.update({word: replace(still[word], error=PausedError(CANCELLED)) for word in left})
            continue
        if end.stopped and end.pack.stops < STOPS:
            queue.append(replace(end.pack, stops=end.pack.stops + 1))
            continue
        log.warning("A run of %s has died (%s).", ", ".join(name for _, name in left), end.why)
        again = [pack for pack in after_death(end.pack) if still.keys() & set(pack.words)]
        queue.extend(again)
        if not again:
            error = f"The runs that were to train it died, the last with nothing beside it: {end.why}"
            after.update({word: replace(still[word], error=TrainingError(error)) for word in left})
    return [after.get(word_of(one), one) if one.open else one for one in works]


def word_of(work: Work) -> Word:
    """What tells a work from the others of its batch."""
    return work.base_model, work.name


def has_begun(batch: str, store: Store) -> bool:
    """Whether an earlier attempt at a batch has split it."""
    return store.exists(split_key(batch))


def _done(store: Store, batch: str) -> Iterator[Came]:
    """What the packs of a batch have done so far."""
    for key in list(store.keys(reports_prefix(batch))):
        report = PackReport.from_bytes(store.get(key).data, store.url(key))
        yield from (came for came in report.came if came.kind == "done")


def split(words: Sequence[Word], packing: Packing, batch: str, store: Store) -> list[Pack]:
    """The packs of a batch, each of one base model: as they were when it began, and what has come to it since."""
    size = packing.pack_size or max(SIZE, packing.slots)
    key, there = split_key(batch), set(words)
    if not words:
        return []
    packs = _packs(words, size)
    made = Packs(packs=tuple(one.names for one in packs), base_models=tuple(one.base_model for one in packs))
    store.create(key, made.to_bytes())
    kept = Packs.from_bytes(store.get(key).data, store.url(key))
    begun = [Pack(names, base_model=of) for names, of in zip(kept.packs, kept.base_models, strict=True)]
    had = {word for pack in begun for word in pack.words}
    return [
        pack for pack in (*begun, *_packs([one for one in words if one not in had], size)) if there & set(pack.words)
    ]


def _packs(words: Sequence[Word], size: int) -> list[Pack]:
    base_models = dict.fromkeys(base_model for base_model, _ in words)
    return [
        Pack(names, base_model=one)
        for one in base_models
        for names in _chunks([name for base_model, name in words if base_model == one], size)
    ]


def _chunks(names: Sequence[str], size: int) -> tuple[tuple[str, ...], ...]:
    """As even as they can be: three packs of 11 and not of 16, 16 and 1. The larger ones come first, so that workers
    end together: with large and small in turn one of two workers would get all of the large ones."""
    count = -(-len(names) // size)
    whole, more = divmod(len(names), count) if count else (0, 0)
    ends = [number * whole + min(number, more) for number in range(count + 1)]
    return tuple(tuple(names[first:end]) for first, end in pairwise(ends))


def after_death(pack: Pack) -> list[Pack]:
    """What is run after a run of a pack has died: the same once more, then its halves, each of which is suspect from
    the start; nothing where the one that is left has been alone."""
    dead = replace(pack, deaths=pack.deaths + 1)
    if dead.deaths < DEATHS:
        return [dead]
    half = len(pack.names) // 2
    return (
        [replace(dead, names=part, deaths=DEATHS - 1) for part in (pack.names[:half], pack.names[half:])]
        if half
        else []
    )


def leave_report(works: Sequence[Work], key: str, store: Store) -> None:
    """Write down what came of a pack."""
    store.put(key, PackReport(came=tuple(map(_came, works))).to_bytes())


def accounted(works: Sequence[Work], seconds: float, settings: Settings) -> list[Work]:
    """The works that a run has done something for, with their shares of its time and what that cost."""
    done = [one for one in works if one.plan and not one.known]
    share = seconds / len(done) if done else 0.0
    cost = share / 3600 * settings.price_per_hour if settings.price_per_hour else None
    return [replace(one, seconds=share, cost=cost) if one.plan and not one.known else one for one in works]


def _report(store: Store, batch: str, pack: Pack) -> PackReport | None:
    key = report_key(batch, pack.key)
    try:
        return PackReport.from_bytes(store.get(key).data, store.url(key))
    except NotFoundError:
        return None


def _came(work: Work) -> Came:
    error = work.error or PausedError("It was not gone on with.")
    if work.outcome:
        kind: Kind = "known" if work.known else "done"
    else:
        kind = next((kind for kind, one in _ERRORS.items() if isinstance(error, one)), "failed")
    reason = "" if work.outcome else reason_of(error)
    return Came(
        name=work.name, kind=kind, reason=reason, outcome=work.outcome, seconds=work.seconds, cost=work.cost
    )  # fmt: skip


_ERRORS: dict[Kind, type[PseudowordError]] = {"paused": PausedError, "withdrawn": WithdrawnError}


def _after(work: Work, came: Came | None) -> Work:
    if came is None:
        return work
    error = None if came.outcome else _ERRORS.get(came.kind, TrainingError)(came.reason)
    known = came.kind == "known"
    return replace(work, outcome=came.outcome, known=known, error=error, seconds=came.seconds, cost=came.cost)
