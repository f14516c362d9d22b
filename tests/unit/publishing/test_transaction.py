"""The transaction over a real folder store, with failures put in at every step."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.builders import done, duel, judged
from ti_core.errors import ConflictError, IntegrityError, ServiceError
from ti_core.publishing.catalogue import (
    blobs_of,
    champion_of,
    duel_of,
    manifest_of,
    outcome_of,
    outcomes_of,
    versions_of,
)
from ti_core.publishing.transaction import RivalError, publish, show_pictures
from ti_core.records import (
    Champion,
    blob_key,
    champion_key,
    former_champion_key,
    outbox_key,
    outcome_key,
)
from ti_core.settings import Settings
from ti_core.store import Store, open_store

NAME, BASE = "cat-toy", "miniature"


class Failing:
    """Passes calls on to `target`, and fails once at one of them: before it is done, or after (the answer got lost)."""

    def __init__(self, target: Any, method: str, key: str = "", after: bool = False) -> None:
        self._target, self._method, self._key, self._after = target, method, key, after
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if name != self._method:
            return value

        def call(*arguments: Any, **named: Any) -> Any:
            if self._key not in str(arguments[0]) or self.failed:
                return value(*arguments, **named)
            self.failed = True
            if self._after:
                value(*arguments, **named)
            raise ServiceError("put in by the test")

        return call


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings(home=tmp_path))


def now_champion(store: Store) -> Champion:
    champion = champion_of(store, NAME, BASE)
    assert champion is not None
    return champion


def test_first_accepted_run_becomes_champion(store: Store) -> None:
    manifest = judged(store)
    plan = manifest.plan
    assert (outcome_of(store, plan), manifest_of(store, plan), champion_of(store, NAME, BASE)) == (None, None, None)
    outcome = done(store, manifest, "run")
    assert (outcome.status, outcome.version, outcome.champion, outcome.step) == ("published", 1, True, 20)
    assert outcome == outcome_of(store, plan)
    assert manifest == manifest_of(store, plan)
    champion = now_champion(store)
    assert champion.judge_key == plan.judge_key
    assert champion.files == manifest.files
    assert champion.vectors == manifest.checkpoints[0].vectors
    assert champion.previous is None
    assert store.exists(champion.manifest)


def test_outcomes_are_listed_oldest_first(store: Store) -> None:
    late = done(store, judged(store), "late")
    manifest = judged(store, seed=1)
    early = done(store, manifest, "early").model_copy(update={"ended": late.ended - timedelta(days=1)})
    store.put(outcome_key(manifest.plan), early.to_bytes())
    assert outcomes_of(store, NAME, BASE) == [early, late]
    assert outcomes_of(store, "nothing", BASE) == []


def test_missing_blob_stops_before_anything_is_written(store: Store) -> None:
    manifest = judged(store)
    for sha256 in blobs_of(manifest):
        kept = store.get(blob_key(sha256)).data
        store.delete(blob_key(sha256))
        with pytest.raises(IntegrityError, match=sha256):
            done(store, manifest, "run")
        store.put(blob_key(sha256), kept)
    assert manifest_of(store, manifest.plan) is None
    assert done(store, manifest, "run").champion


def test_work_that_has_ended_is_not_done_again(store: Store) -> None:
    manifest = judged(store)
    outcome = done(store, manifest, "run")
    assert done(store, manifest, "another run") == outcome


def test_newer_champion_is_refused_in_a_sentence(store: Store) -> None:
    done(store, judged(store), "run-0")
    newer = now_champion(store).model_copy(update={"schema_version": Champion.SCHEMA + 1})
    store.put(champion_key(NAME, BASE), newer.to_bytes())
    with pytest.raises(IntegrityError, match="upgrade Pseudoword"):
        done(store, judged(store, seed=1), "run-1")
    assert store.get(champion_key(NAME, BASE)).data == newer.to_bytes()


def test_champion_stays_unless_the_newcomer_is_surely_better(store: Store) -> None:
    runs = [judged(store, seed=n, score=score) for n, score in enumerate((0.6, 0.6, 0.5, 0.7))]
    outcomes = [done(store, run) for run in runs]
    assert [one.version for one in outcomes] == [1, 2, 3, 4]
    assert [one.champion for one in outcomes] == [True, False, False, True]
    assert "not surely better than version 1, the best so far, which stays" in outcomes[1].reason
    assert "worse than version" in outcomes[2].reason and "-0.100" in outcomes[2].reason
    assert outcomes[3].reason.startswith("Version 4 is better than version 1, the best so far")
    assert now_champion(store).previous == runs[0].plan.judge_key


def test_duel_is_asked_for_recorded_once_and_read_by_reruns(store: Store) -> None:
    old, new = judged(store, score=0.5), judged(store, seed=1, score=0.6)
    done(store, old)
    with pytest.raises(RivalError, match="judge both on the same pictures") as raised:
        publish(store, new, "run", {})
    assert raised.value.champion == now_champion(store)
    other = duel(new, "0" * 32)
    with pytest.raises(RivalError):  # a duel with somebody else says nothing about this champion
        publish(store, new, "run", {old.plan.judge_key: other})
    assert outcome_of(store, new.plan) is None

    first, second = (duel(new, old.plan.judge_key, difference) for difference in (-0.1, 0.1))
    with pytest.raises(ServiceError):
        publish(Failing(store, "create", "outcome-"), new, "run", {old.plan.judge_key: first})
    assert not publish(store, new, "run", {old.plan.judge_key: second}).champion
    assert duel_of(store, NAME, BASE, new.plan.judge_key, old.plan.judge_key) == first


def test_champion_for_other_weights_gives_way_without_a_duel(store: Store) -> None:
    done(store, judged(store, score=0.9))
    store.put(champion_key(NAME, BASE), now_champion(store).model_copy(update={"base_digest": "0" * 64}).to_bytes())
    outcome = publish(store, judged(store, seed=1, score=0.1), "run", {})
    assert outcome.champion and "other weights" in outcome.reason


@pytest.mark.parametrize("verdict", ["rejected", "undecided"])
def test_what_is_not_accepted_is_kept_and_never_offered(store: Store, verdict: str) -> None:
    manifest = judged(store)
    report = manifest.report.model_copy(update={"verdict": verdict, "reason": "Because."})
    manifest = manifest.model_copy(update={"report": report})
    outcome = publish(store, manifest, "run", {})
    assert (outcome.status, outcome.version, outcome.champion, outcome.reason) == (verdict, None, False, "Because.")
    assert manifest_of(store, manifest.plan) == manifest
    assert champion_of(store, NAME, BASE) is None and not versions_of(store, NAME, BASE)
    assert store.exists(outbox_key(manifest.plan))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("method", "key", "readers_get"),
    [
        ("create", "manifest-", "old"),
        ("create", "versions/", "old"),
        ("create", "duels/", "old"),
        ("create", "champions/", "old"),
        ("replace", "champion.json", "moved"),
        ("put", "outbox/", "new"),
        ("create", "outcome-", "new"),
    ],
)
def test_failure_at_each_step_then_again(store: Store, method: str, key: str, readers_get: str, after: bool) -> None:
    old, new = judged(store, score=0.5), judged(store, seed=1, score=0.6)
    done(store, old)
    with pytest.raises(ServiceError, match="put in by the test"):
        done(Failing(store, method, key, after), new)
    if readers_get == "moved":
        readers_get = "new" if after else "old"
    assert now_champion(store).judge_key == {"old": old, "new": new}[readers_get].plan.judge_key

    outcome = done(store, new)
    assert (outcome.status, outcome.champion, outcome.version) == ("published", True, 2)
    assert "+0.100" in outcome.reason
    assert outcome_of(store, new.plan) == outcome
    assert now_champion(store).previous == old.plan.judge_key
    assert versions_of(store, NAME, BASE) == {1: old.plan.judge_key, 2: new.plan.judge_key}


def test_stored_manifest_wins(store: Store) -> None:
    first = judged(store, score=0.6)
    again = first.model_copy(update={"report": first.report.model_copy(update={"score": 0.7})})
    with pytest.raises(ServiceError):
        publish(Failing(store, "create", "versions/"), first, "run", {})
    assert publish(store, again, "run", {}).score == 0.6
    assert now_champion(store).score == 0.6


def test_rerun_does_not_take_back_what_a_later_run_won(store: Store) -> None:
    runs = [judged(store, seed=n, score=0.6 + n / 10) for n in range(3)]
    with pytest.raises(ServiceError):
        publish(Failing(store, "put", "outbox/"), runs[0], "run-0", {})
    done(store, runs[1])
    done(store, runs[2])
    before = store.get(champion_key(NAME, BASE))
    outcome = publish(store, runs[0], "run-0", {})
    assert store.get(champion_key(NAME, BASE)) == before
    assert (outcome.status, outcome.champion, outcome.version) == ("published", True, 1)  # it was what readers got
    assert "until version 3" in outcome.reason


class Overtaken:
    """A store where another worker moves the pointer just before each of the next `times` swaps."""

    def __init__(self, store: Store, leader: Champion, times: int) -> None:
        self._store, self._leader, self._times = store, leader, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def replace(self, key: str, data: bytes, etag: str) -> None:
        if key == champion_key(NAME, BASE) and self._times:
            self._times -= 1
            self._store.put(key, self._leader.model_copy(update={"version": 100 + self._times}).to_bytes())
        self._store.replace(key, data, etag)


def test_overtaken_run_meets_the_new_champion(store: Store) -> None:
    done(store, judged(store, score=0.5))
    leader = now_champion(store).model_copy(update={"judge_key": "0" * 32, "score": 0.7})
    outcome = done(Overtaken(store, leader, times=1), judged(store, seed=1, score=0.6))
    assert not outcome.champion and "version 100" in outcome.reason
    assert now_champion(store).judge_key == leader.judge_key


def test_pointer_that_never_rests_is_given_up(store: Store) -> None:
    done(store, judged(store, score=0.5))
    restless = Overtaken(store, now_champion(store), times=1000)
    with pytest.raises(ConflictError, match="publish again later"):
        done(restless, judged(store, seed=1))


def test_two_workers_with_the_same_run_make_one_version(store: Store) -> None:
    manifest = judged(store)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda run: done(store, manifest, run), ["run-a", "run-b"]))
    assert versions_of(store, NAME, BASE) == {1: manifest.plan.judge_key}
    assert outcomes[0] == outcomes[1] == outcome_of(store, manifest.plan)


def test_races_end_in_one_recorded_chain_of_duels(store: Store) -> None:
    manifests = [judged(store, seed=n, score=score) for n, score in enumerate((0.5, 0.8, 0.6, 0.7))]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda manifest: done(store, manifest), manifests))
    champion = now_champion(store)
    assert champion.score == 0.8
    assert sorted(versions_of(store, NAME, BASE)) == [1, 2, 3, 4]
    while champion.previous:
        won = duel_of(store, NAME, BASE, champion.judge_key, champion.previous)
        assert won and won.won
        key = former_champion_key(NAME, BASE, champion.previous)
        champion = Champion.from_bytes(store.get(key).data, key)


def test_pictures_are_hidden_and_shown_again_on_known_work(store: Store) -> None:
    manifest = judged(store)
    publish(store, manifest, "run", {})
    store.delete(outbox_key(manifest.plan))
    assert show_pictures(store, manifest, True) is manifest
    hidden = show_pictures(store, manifest, False)
    assert hidden == manifest_of(store, manifest.plan) and not hidden.plan.concept.show_pictures
    assert store.exists(blob_key(hidden.page)) and not store.exists(blob_key(manifest.page))
    assert store.exists(outbox_key(manifest.plan))
    shown = show_pictures(store, hidden, True)
    assert shown.page != hidden.page and not store.exists(blob_key(hidden.page))
    assert publish(store, shown, "run", {}).champion
