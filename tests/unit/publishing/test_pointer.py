"""People change their mind: rollback, pin, withdraw, by the one compare-and-swap, recorded, kept by every publisher."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.builders import done, judged
from ti_core.errors import ConflictError, InputError, IntegrityError, NotFoundError, WithdrawnError
from ti_core.publishing.catalogue import champion_of, changes_of, outcome_of, pointer_of
from ti_core.publishing.index import words
from ti_core.publishing.pointer import pin, rollback, withdraw
from ti_core.records import OUTBOX, Champion, Manifest, blob_key, champion_key, outcome_key
from ti_core.settings import Settings
from ti_core.store import Store, open_store

NAME, BASE = "cat-toy", "miniature"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings(home=tmp_path))


@pytest.fixture
def three(store: Store) -> list[Manifest]:
    """Versions 1, 2 and 3, each better than the one before."""
    runs = [judged(store, seed=seed, score=score) for seed, score in enumerate((0.4, 0.5, 0.6))]
    assert all(done(store, run).champion for run in runs)
    for key in list(store.keys(OUTBOX)):
        store.delete(key)
    return runs


def version(store: Store) -> int:
    champion = champion_of(store, NAME, BASE)
    return champion.version if champion else 0


def pointer(store: Store) -> Champion:
    found = pointer_of(store, NAME, BASE)
    assert found
    return found


def test_rollback_goes_one_back_or_to_a_version_and_says_who_and_why(store: Store, three: list[Manifest]) -> None:
    rollback(store, NAME, BASE, None, "ann", "too shiny")
    assert version(store) == 2
    rollback(store, NAME, BASE, None, "ann", "")
    assert version(store) == 1
    with pytest.raises(NotFoundError, match="Nothing of cat-toy on miniature stands behind version 1"):
        rollback(store, NAME, BASE, None, "ann", "")
    rollback(store, NAME, BASE, 3, "bob", "it was the lamp")
    assert version(store) == 3
    with pytest.raises(InputError, match="Version 3 is what readers"):
        rollback(store, NAME, BASE, 3, "bob", "")
    with pytest.raises(NotFoundError, match="no version 7: there are 1, 2, 3"):
        rollback(store, NAME, BASE, 7, "bob", "")
    told = [(one.action, one.version, one.who, one.why) for one in pointer(store).changes]
    assert told == [
        ("rollback", 2, "ann", "too shiny"),
        ("rollback", 1, "ann", ""),
        ("rollback", 3, "bob", "it was the lamp"),
    ]
    assert sorted(told) == sorted((one.action, one.version, one.who, one.why) for one in changes_of(store, NAME, BASE))
    assert [row.version for row in words(store)] == [3]
    assert list(store.keys(OUTBOX)), "the tracking server is to follow"


def test_what_was_rolled_back_does_not_come_back_by_itself(store: Store, three: list[Manifest]) -> None:
    rollback(store, NAME, BASE, 1, "ann", "")
    for run in three:
        store.delete(outcome_key(run.plan))  # as if it had been torn off before its end
        assert done(store, run).version
    assert version(store) == 1
    outcome = outcome_of(store, three[2].plan)
    assert outcome and "was the best until version 1 took its place" in outcome.reason


def test_a_newcomer_meets_the_version_that_was_gone_back_to(store: Store, three: list[Manifest]) -> None:
    rollback(store, NAME, BASE, 1, "ann", "")
    assert done(store, judged(store, seed=9, score=0.45)).champion  # better than version 1, not than version 3
    assert (version(store), pointer(store).previous) == (4, three[0].plan.judge_key)
    assert [one.action for one in pointer(store).changes] == ["rollback"]


def test_a_version_that_never_was_champion_can_be_gone_to(store: Store, three: list[Manifest]) -> None:
    loser = judged(store, seed=9, score=0.1)
    assert not done(store, loser).champion
    rollback(store, NAME, BASE, 4, "ann", "I like it")
    assert (version(store), pointer(store).files, pointer(store).previous) == (
        4, loser.files, three[2].plan.judge_key,
    )  # fmt: skip


def test_rollback_verifies_before_it_moves(store: Store, three: list[Manifest]) -> None:
    store.put(blob_key(three[1].files[0].sha256), b"damaged")
    with pytest.raises(IntegrityError, match="is damaged"):
        rollback(store, NAME, BASE, 2, "ann", "")
    assert version(store) == 3 and not pointer(store).changes


def test_a_pinned_champion_stays_until_it_is_unpinned(store: Store, three: list[Manifest]) -> None:
    pin(store, NAME, BASE, "ann", "the campaign runs")
    pin(store, NAME, BASE, "bob", "again")  # changes nothing
    outcome = done(store, judged(store, seed=9, score=0.9))
    assert not outcome.champion and "pinned" in outcome.reason and "ann: the campaign runs" in outcome.reason
    assert (version(store), len(pointer(store).changes)) == (3, 1)
    pin(store, NAME, BASE, "ann", "", off=True)
    assert pointer(store).pin is None
    assert done(store, judged(store, seed=10, score=0.9)).champion


def test_a_move_ends_a_pin(store: Store, three: list[Manifest]) -> None:
    pin(store, NAME, BASE, "ann", "")
    rollback(store, NAME, BASE, None, "bob", "")
    assert pointer(store).pin is None and version(store) == 2


def test_a_withdrawn_champion_gives_way_to_the_one_before_it(store: Store, three: list[Manifest]) -> None:
    withdraw(store, NAME, BASE, 2, "ann", "a likeness")
    assert version(store) == 3
    withdraw(store, NAME, BASE, None, "ann", "a likeness too")
    assert version(store) == 1
    with pytest.raises(WithdrawnError, match="withdrawn already"):
        withdraw(store, NAME, BASE, 3, "ann", "")
    with pytest.raises(WithdrawnError, match=r"Version 2 .* was withdrawn .*a likeness"):
        rollback(store, NAME, BASE, 2, "ann", "")
    withdraw(store, NAME, BASE, None, "ann", "")
    assert version(store) == 0 and pointer(store).withdrawn and words(store) == []
    with pytest.raises(NotFoundError, match="no version to be pinned"):
        pin(store, NAME, BASE, "ann", "")


def test_a_withdrawn_version_does_not_come_back_and_any_newcomer_takes_its_place(store: Store) -> None:
    first = judged(store, score=0.9)
    done(store, first)
    withdraw(store, NAME, BASE, None, "ann", "a likeness")
    store.delete(outcome_key(first.plan))
    outcome = done(store, first)
    assert (outcome.champion, version(store)) == (False, 0) and "was withdrawn" in outcome.reason
    second = done(store, judged(store, seed=1, score=0.2))  # without a duel: nobody stands in its way
    assert second.champion and "version 1: that was withdrawn" in second.reason
    assert pointer(store).withdrawal(first.plan.judge_key), "the next publisher knows it too"
    with pytest.raises(NotFoundError):
        rollback(store, NAME, BASE, None, "ann", "")


def test_a_damaged_predecessor_is_passed_over(store: Store, three: list[Manifest]) -> None:
    store.put(blob_key(three[1].files[0].sha256), b"damaged")
    withdraw(store, NAME, BASE, None, "ann", "")
    assert version(store) == 1


def test_a_damaged_pointer_is_written_anew_and_still_knows_what_was_withdrawn(
    store: Store, three: list[Manifest]
) -> None:
    withdraw(store, NAME, BASE, 2, "ann", "")
    for damaged in (b"{", pointer(store).model_copy(update={"base": "other"}).to_bytes()):
        store.put(champion_key(NAME, BASE), damaged)
        with pytest.raises(IntegrityError):
            rollback(store, NAME, BASE, None, "ann", "")
        with pytest.raises(WithdrawnError):
            rollback(store, NAME, BASE, 2, "ann", "")
        rollback(store, NAME, BASE, 1, "ann", "")
        assert version(store) == 1


def test_an_answer_that_got_lost_moves_the_pointer_once(store: Store, three: list[Manifest]) -> None:
    class Lost:
        """The move is made, and its repetition meets the first copy of itself, as with S3."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def replace(self, key: str, data: bytes, etag: str) -> None:
            store.replace(key, data, etag)
            if key.endswith("champion.json"):
                raise ConflictError("put in by the test")

    rollback(Lost(), NAME, BASE, None, "ann", "")
    assert version(store) == 2 and len(pointer(store).changes) == 1


def test_decisions_and_publishers_at_the_same_time_lose_nothing(store: Store) -> None:
    runs = [judged(store, seed=seed, score=0.3 + seed / 20) for seed in range(6)]
    done(store, runs[0])

    def work(number: int) -> None:
        if number < 6:
            done(store, runs[number])
        else:
            pin(store, NAME, BASE, f"person {number}", "", off=bool(number % 2))

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(work, range(1, 10)))
    withdraw(store, NAME, BASE, 6, "ann", "")
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda run: done(store, run), runs))
    assert version(store) != 6
    changes = pointer(store).changes
    assert changes[-1].action == "withdraw" and list(changes) == sorted(changes, key=lambda one: one.when)
    assert all(outcome_of(store, run.plan) for run in runs)
    assert {row.version for row in words(store)} == {version(store)}


def test_a_pin_that_a_move_has_ended_does_not_come_back_with_its_version(store: Store, three: list[Manifest]) -> None:
    pin(store, NAME, BASE, "ann", "")
    rollback(store, NAME, BASE, None, "bob", "")
    rollback(store, NAME, BASE, 3, "bob", "")
    assert version(store) == 3 and pointer(store).pin is None
    assert done(store, judged(store, seed=9, score=0.9)).champion


@pytest.mark.parametrize("decide", ["rollback", "withdraw"])
def test_the_same_vectors_judged_anew_do_not_come_back(store: Store, three: list[Manifest], decide: str) -> None:
    """Under other prompts or another rule, as after an upgrade, they are another run: with a key of its own."""
    if decide == "rollback":
        rollback(store, NAME, BASE, 1, "ann", "too shiny")
        pin(store, NAME, BASE, "ann", "")
        pin(store, NAME, BASE, "ann", "", off=True)
    else:
        withdraw(store, NAME, BASE, 3, "ann", "too shiny")
    stands = version(store)
    outcome = done(store, judged(store, seed=2, score=0.9, guidance=5.0))
    assert not outcome.champion and version(store) == stands and "ann: too shiny" in outcome.reason
    if decide == "rollback":
        rollback(store, NAME, BASE, outcome.version, "ann", "on second thought")
        assert version(store) == outcome.version
    else:
        with pytest.raises(WithdrawnError, match="the vectors of version 3, which was withdrawn"):
            rollback(store, NAME, BASE, outcome.version, "ann", "")


def test_withdrawing_vectors_withdraws_them_under_every_name(store: Store) -> None:
    done(store, judged(store, score=0.4))
    done(store, judged(store, seed=1, score=0.5))
    done(store, judged(store, seed=1, score=0.6, guidance=5.0))
    assert version(store) == 3
    withdraw(store, NAME, BASE, 2, "ann", "")
    assert version(store) == 1


class StoppedError(BaseException):
    """The process is gone."""


class Stopping:
    """Everything after the move of the pointer fails: the process is gone."""

    def __init__(self, store: Store) -> None:
        self._store, self.moved = store, False

    def __getattr__(self, name: str) -> Any:
        if self.moved:
            raise StoppedError
        return getattr(self._store, name)

    def replace(self, key: str, data: bytes, etag: str) -> None:
        self._store.replace(key, data, etag)
        self.moved = True


@pytest.mark.parametrize("by", ["the same again", "another decision", "publishing"])
def test_a_decision_that_was_stopped_after_its_move_is_completed(store: Store, three: list[Manifest], by: str) -> None:
    with pytest.raises(StoppedError):
        withdraw(Stopping(store), NAME, BASE, 3, "ann", "")
    assert version(store) == 2 and [row.version for row in words(store)] == [3] and not changes_of(store, NAME, BASE)
    if by == "the same again":
        with pytest.raises(WithdrawnError):
            withdraw(store, NAME, BASE, 3, "ann", "")
    elif by == "another decision":
        pin(store, NAME, BASE, "bob", "")
    else:
        done(store, judged(store, seed=9, score=0.1))
    assert changes_of(store, NAME, BASE) == list(pointer(store).changes)
    assert [row.version for row in words(store)] == [2]
    assert any(three[2].plan.judge_key in key for key in store.keys(OUTBOX)), "MLflow hears of what was withdrawn"
