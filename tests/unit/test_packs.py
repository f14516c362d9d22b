"""Packs of a batch over a store, run by a fake that publishes, dies or is cancelled as it is told."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.builders import judged
from ti_core.config import Packing
from ti_core.errors import InputError, PausedError, TrainingError, WithdrawnError
from ti_core.packs import End, Executor, Pack, accounted, leave_report, split, train_in_packs
from ti_core.records import Outcome, report_key
from ti_core.settings import Settings
from ti_core.store.folder import FolderStore
from ti_core.works import Work

TWO = Packing(pack_size=2)


@dataclass
class Workers:
    """Runs packs: a concept named so kills its run (`dying` so many times), cancels it, or stands for a worker that is
    stopped (`stopping` so many times)."""

    store: FolderStore
    dying: dict[str, float] = field(default_factory=dict)
    cancelled: str = ""
    stopping: dict[str, int] = field(default_factory=dict)
    ran: list[tuple[str, ...]] = field(default_factory=list)
    before: Callable[[Pack], None] = lambda _: None

    def __call__(self, queue: deque[Pack]) -> Iterator[End]:
        while queue:
            pack = queue.popleft()
            self.before(pack)
            self.ran.append(pack.names)
            killer = next((name for name in pack.names if self.dying.get(name, 0) > 0), None)
            if killer:
                self.dying[killer] -= 1
                yield End(pack, "Crashed: killed")
            elif stopped := next((name for name in pack.names if self.stopping.get(name, 0) > 0), None):
                self.stopping[stopped] -= 1
                yield End(pack, "Stopped", stopped=True)
            elif self.cancelled in pack.names:
                yield End(pack, "Cancelled", cancelled=True)
            else:
                base = pack.base_model or "miniature"
                works = [Work(place, name, outcome=outcome(name, base)) for place, name in enumerate(pack.names)]
                leave_report(works, report_key("night", pack.key), self.store)
                yield End(pack)


def outcome(name: str, base: str = "miniature") -> Outcome:
    return Outcome(
        judge_key="j", train_key="t", concept=name, base=base, status="published", reason="Why.", step=20,
        score=0.5, version=1, champion=True, run_id="", manifest="m",
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def works_of(names: str, store: FolderStore) -> list[Work]:
    plan = judged(store).plan
    return [Work(place, name, plan) for place, name in enumerate(names)]


def run(works: Sequence[Work], workers: Executor, store: FolderStore) -> dict[str, Work]:
    after = train_in_packs(works, TWO, workers, "night", store)
    assert [one.place for one in after] == [one.place for one in works]
    return {one.name: one for one in after}


def test_what_is_open_is_run_in_packs_and_nothing_else(store: FolderStore) -> None:
    a, b, c, d, e = works_of("abcde", store)
    known = replace(b, outcome=outcome("b"), known=True)
    broken = replace(d, error=InputError("No usable picture."))
    workers = Workers(store)
    after = run([a, known, c, broken, e], workers, store)
    assert workers.ran == [("a", "c"), ("e",)]
    assert after["b"] is known and after["d"] is broken
    assert all(after[name].outcome == outcome(name) and not after[name].known for name in "ace")


def test_a_batch_in_which_all_is_known_starts_nothing_and_writes_nothing(store: FolderStore) -> None:
    known = [replace(one, outcome=outcome(one.name), known=True) for one in works_of("ab", store)]
    workers = Workers(store)
    run(known, workers, store)
    assert not workers.ran and not list(store.keys("batches/"))


def test_a_pack_that_dies_once_is_run_again_whole(store: FolderStore) -> None:
    workers = Workers(store, {"c": 1})
    after = run(works_of("abcd", store), workers, store)
    assert workers.ran == [("a", "b"), ("c", "d"), ("c", "d")]
    assert all(one.outcome for one in after.values())


def test_a_pack_that_dies_twice_is_split_until_the_culprit_is_alone(store: FolderStore) -> None:
    workers = Workers(store, {"f": float("inf")})
    after = train_in_packs(works_of("abcdefgh", store), Packing(pack_size=8), workers, "night", store)
    whole = tuple("abcdefgh")
    assert workers.ran == [whole, whole, tuple("abcd"), tuple("efgh"), ("e", "f"), ("g", "h"), ("e",), ("f",)]
    (culprit,) = [one for one in after if not one.outcome]
    assert culprit.name == "f" and isinstance(culprit.error, TrainingError)
    assert "with nothing beside it: Crashed: killed" in str(culprit.error)


def test_stopping_a_worker_is_no_death(store: FolderStore) -> None:
    workers = Workers(store, stopping={"b": 5})
    after = run(works_of("ab", store), workers, store)
    assert workers.ran == [("a", "b")] * 6
    assert all(one.outcome for one in after.values())


def test_who_stops_a_pack_for_ever_is_taken_for_its_death(store: FolderStore) -> None:
    """A machine whose memory is spent may end what takes it so."""
    workers = Workers(store, stopping={"b": 10**6})
    after = run(works_of("ab", store), workers, store)
    assert after["a"].outcome and isinstance(after["b"].error, TrainingError)
    assert len(workers.ran) < 20


def test_one_concept_is_a_pack_that_is_tried_twice(store: FolderStore) -> None:
    workers = Workers(store, {"a": float("inf")})
    assert run(works_of("a", store), workers, store)["a"].error
    assert workers.ran == [("a",), ("a",)]


def test_a_cancelled_pack_waits_for_the_next_batch(store: FolderStore) -> None:
    after = run(works_of("abcd", store), Workers(store, cancelled="b"), store)
    assert {name for name, one in after.items() if isinstance(one.error, PausedError)} == {"a", "b"}
    assert after["c"].outcome and after["d"].outcome


def test_a_report_counts_also_where_its_run_died_afterwards(store: FolderStore) -> None:
    def dies_late(queue: deque[Pack]) -> Iterator[End]:
        for end in Workers(store)(queue):
            yield End(end.pack, "Crashed: killed")

    assert all(one.outcome for one in run(works_of("abc", store), dies_late, store).values())


def test_a_coordinator_that_died_goes_on_with_the_same_packs(store: FolderStore) -> None:
    def dies(pack: Pack) -> None:
        if "e" in pack.names:
            raise KeyboardInterrupt

    works, first = works_of("abcde", store), Workers(store, before=dies)
    with pytest.raises(KeyboardInterrupt):
        run(works, first, store)
    begun = split([("", name) for name in "abcde"], TWO, "night", store)
    # What was published meanwhile is known now; one has come to the batch.
    (new,) = works_of("f", store)
    still = [*(replace(one, outcome=outcome("a"), known=True) if one.name == "a" else one for one in works), new]
    second = Workers(store)
    after = run(still, second, store)
    assert second.ran == [pack.names for pack in begun if "e" in pack.names] + [("f",)]
    assert all(one.outcome for one in after.values())
    assert not after["a"].known, "this batch has done it"


def test_why_a_concept_failed_travels_as_what_it_was(store: FolderStore) -> None:
    names = {
        "bad": TrainingError("No."),
        "late": PausedError("Later."),
        "gone": WithdrawnError("Never."),
        "bug": KeyError("x"),
    }

    def fails(queue: deque[Pack]) -> Iterator[End]:
        while queue:
            pack = queue.popleft()
            leave_report(
                [Work(0, name, error=names[name]) for name in pack.names], report_key("night", pack.key), store
            )
            yield End(pack)

    plan = judged(store).plan
    after = run([Work(place, name, plan) for place, name in enumerate(names)], fails, store)
    assert {name: type(one.error) for name, one in after.items()} == {
        "bad": TrainingError, "late": PausedError, "gone": WithdrawnError, "bug": TrainingError
    }  # fmt: skip
    assert str(after["bug"].error) == "KeyError: 'x'"


def test_time_and_cost_are_shared_by_what_was_worked_on(store: FolderStore, tmp_path: Path) -> None:
    a, b, c, d = works_of("abcd", store)
    works = [a, replace(b, outcome=outcome("b"), known=True), c, replace(d, plan=None, error=InputError("No."))]
    priced = accounted(works, 7200.0, Settings(home=tmp_path, price_per_hour=2.5))
    assert [(one.seconds, one.cost) for one in priced] == [(3600.0, 2.5), (None, None), (3600.0, 2.5), (None, None)]
    assert {one.cost for one in accounted(works, 7200.0, Settings(home=tmp_path))} == {None}


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(17, 16, [9, 8]), (16, 16, [16]), (1, 16, [1]), (5, 2, [2, 2, 1]), (21, 4, [4, 4, 4, 3, 3, 3])],
)
def test_packs_are_even_the_larger_ones_first(store: FolderStore, count: int, size: int, sizes: list[int]) -> None:
    names = [f"word-{number}" for number in range(count)]
    packs = split([("", name) for name in names], Packing(pack_size=size), "night", store)
    assert [len(pack.names) for pack in packs] == sizes
    assert [name for pack in packs for name in pack.names] == names


def test_a_concept_on_two_base_models_is_two_works_and_never_in_one_pack(store: FolderStore) -> None:
    plan = judged(store).plan
    works = [Work(place, name, plan, base_model=base) for place, (name, base) in
             enumerate((name, base) for name in "abc" for base in ("sd15", "sdxl"))]  # fmt: skip
    workers = Workers(store, {"c": 1})
    after = train_in_packs(works, TWO, workers, "night", store)
    assert sorted(workers.ran[:4]) == [("a", "b"), ("a", "b"), ("c",), ("c",)]
    assert [(one.name, one.outcome and one.outcome.base) for one in after] == [
        (one.name, one.base_model) for one in works
    ]  # fmt: skip
    known = [replace(one, outcome=outcome(one.name, one.base_model), known=True) for one in works]
    assert not any(one.known for one in train_in_packs(known, TWO, workers, "night", store)), "this batch has done them"
