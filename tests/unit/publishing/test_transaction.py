"""The transaction over a real folder store and a small registry in memory, with failures put in at every step."""

import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.builders import judged
from ti_core.errors import ConflictError, IntegrityError, ServiceError
from ti_core.publishing.catalogue import blobs_of, champion_of, manifest_of, outcome_of, outcomes_of
from ti_core.publishing.transaction import Mirror, publish
from ti_core.records import Champion, Manifest, Outcome, blob_key, champion_key, outcome_key
from ti_core.settings import Settings
from ti_core.store import Store, open_store, put_blob

NAME, BASE = "cat-toy", "miniature"


class MemoryRegistry:
    """What MLflow does for publishing, carelessly: like MLflow, it makes a second version of anything if two ask."""

    def __init__(self) -> None:
        self.versions: dict[str, list[str]] = defaultdict(list)
        self.aliases: dict[tuple[str, str], int] = {}
        self.mirrored: list[str] = []
        self.recorded: dict[str, str] = {}

    def mirror(self, run_id: str, manifest: Manifest, read: Callable[[str], bytes]) -> dict[int, str]:
        for checkpoint in manifest.checkpoints:
            assert read(checkpoint.vectors)
        self.mirrored.append(run_id)
        return {checkpoint.step: f"{run_id}/{checkpoint.step}" for checkpoint in manifest.checkpoints}

    def register(self, run_id: str, manifest: Manifest, model_id: str) -> int:
        versions = self.versions[manifest.plan.concept.name]
        key = manifest.plan.judge_key
        if key not in versions:
            time.sleep(0.02)  # whoever looks meanwhile does not see it yet
            versions.append(key)
        return versions.index(key) + 1

    def set_alias(self, concept: str, base: str, alias: str, version: int) -> None:
        self.aliases[concept, alias] = version

    def record(self, run_id: str, outcome: Outcome) -> None:
        self.recorded[run_id] = outcome.status


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


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


def now_champion(store: Store) -> Champion:
    champion = champion_of(store, NAME, BASE)
    assert champion is not None
    return champion


def test_first_accepted_run_becomes_champion(store: Store, registry: Mirror) -> None:
    manifest = judged(store)
    plan = manifest.plan
    assert (outcome_of(store, plan), manifest_of(store, plan), champion_of(store, NAME, BASE)) == (None, None, None)
    outcome = publish(store, registry, manifest, "run")
    assert (outcome.status, outcome.version, outcome.champion, outcome.step) == ("published", 1, True, 20)
    assert outcome == outcome_of(store, plan)
    assert manifest == manifest_of(store, plan)
    champion = now_champion(store)
    assert champion.judge_key == plan.judge_key
    assert champion.files == manifest.files
    assert champion.vectors == manifest.checkpoints[0].vectors
    assert champion.previous is None
    assert store.exists(champion.manifest)


def test_better_or_equal_takes_over_and_worse_waits(store: Store, registry: MemoryRegistry) -> None:
    first, equal, worse = (judged(store, seed=n, score=score) for n, score in enumerate((0.6, 0.6, 0.59)))
    publish(store, registry, first, "run-0")
    assert publish(store, registry, equal, "run-1").champion
    outcome = publish(store, registry, worse, "run-2")
    assert (outcome.status, outcome.champion, outcome.version) == ("published", False, 3)
    assert "0.590" in outcome.reason and "0.600" in outcome.reason and "challenger" in outcome.reason
    assert now_champion(store).judge_key == equal.plan.judge_key
    assert now_champion(store).previous == first.plan.judge_key
    assert registry.aliases == {(NAME, "champion"): 2, (NAME, "challenger"): 3}


def test_outcomes_are_listed_oldest_first(store: Store, registry: Mirror) -> None:
    late = publish(store, registry, judged(store), "late")
    manifest = judged(store, seed=1)
    early = publish(store, registry, manifest, "early").model_copy(update={"ended": late.ended - timedelta(days=1)})
    store.put(outcome_key(manifest.plan), early.to_bytes())
    assert outcomes_of(store, NAME, BASE) == [early, late]
    assert outcomes_of(store, "nothing", BASE) == []


def test_rejected_run_is_kept_and_never_offered(store: Store, registry: MemoryRegistry) -> None:
    manifest = judged(store, accepted=False)
    outcome = publish(store, registry, manifest, "run")
    assert (outcome.status, outcome.version, outcome.champion) == ("rejected", None, False)
    assert outcome.reason == manifest.decision.explanation
    assert manifest_of(store, manifest.plan) == manifest
    assert registry.mirrored == ["run"]
    assert registry.recorded == {"run": "rejected"}
    assert not registry.versions
    assert champion_of(store, NAME, BASE) is None


def test_champion_of_another_protocol_must_be_judged_again(store: Store, registry: Mirror) -> None:
    old, new = judged(store, score=0.9), judged(store, seed=1, score=0.6, guidance=5.0)
    publish(store, registry, old, "run-0")
    with pytest.raises(ConflictError, match=f"judge its vectors again under protocol {new.plan.protocol_digest}"):
        publish(store, registry, new, "run-1")
    with pytest.raises(ConflictError):  # the score of some other champion says nothing about this one
        publish(store, registry, new, "run-1", {"0" * 32: 0.1})
    assert now_champion(store).judge_key == old.plan.judge_key
    assert outcome_of(store, new.plan) is None

    outcome = publish(store, registry, new, "run-1", {old.plan.judge_key: 0.55})
    assert (outcome.champion, outcome.version) == (True, 2)
    assert now_champion(store).judge_key == new.plan.judge_key


def test_worse_than_the_champion_judged_again_waits(store: Store, registry: Mirror) -> None:
    old, new = judged(store, score=0.3), judged(store, seed=1, score=0.6, guidance=5.0)
    publish(store, registry, old, "run-0")
    assert not publish(store, registry, new, "run-1", {old.plan.judge_key: 0.65}).champion
    assert now_champion(store).judge_key == old.plan.judge_key


def test_missing_blob_stops_before_anything_is_written(store: Store, registry: MemoryRegistry) -> None:
    manifest = judged(store)
    for sha256 in blobs_of(manifest):
        kept = store.get(blob_key(sha256)).data
        store.delete(blob_key(sha256))
        with pytest.raises(IntegrityError, match=sha256):
            publish(store, registry, manifest, "run")
        store.put(blob_key(sha256), kept)
    assert manifest_of(store, manifest.plan) is None
    assert not registry.mirrored
    assert publish(store, registry, manifest, "run").champion


def test_stored_manifest_wins(store: Store, registry: MemoryRegistry) -> None:
    first = judged(store, score=0.6)
    again = first.model_copy(update={"report": first.report.model_copy(update={"score": 0.7})})
    with pytest.raises(ServiceError):
        publish(store, Failing(registry, "register"), first, "run")
    assert publish(store, registry, again, "run").score == 0.6
    assert now_champion(store).score == 0.6


def test_stored_manifest_that_lost_a_blob_is_not_published(store: Store, registry: MemoryRegistry) -> None:
    first = judged(store)
    with pytest.raises(ServiceError):
        publish(store, Failing(registry, "mirror"), first, "run")
    store.delete(blob_key(first.page))
    again = first.model_copy(update={"page": put_blob(store, b"another page")})
    with pytest.raises(IntegrityError, match=first.page):
        publish(store, registry, again, "run")
    assert champion_of(store, NAME, BASE) is None


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("where", "method", "key", "readers_get"),
    [
        ("store", "create", "manifest-", "old"),
        ("registry", "mirror", "", "old"),
        ("registry", "register", "", "old"),
        ("store", "create", "champions/", "old"),
        ("store", "replace", "champion.json", "moved"),
        ("registry", "set_alias", "", "new"),
        ("registry", "record", "", "new"),
        ("store", "create", "outcome-", "new"),
    ],
)
def test_failure_at_each_step_then_again(
    store: Store, registry: MemoryRegistry, where: str, method: str, key: str, readers_get: str, after: bool
) -> None:
    old, new = judged(store, score=0.5), judged(store, seed=1, score=0.6)
    publish(store, registry, old, "run-0")
    failing = Failing({"store": store, "registry": registry}[where], method, key, after)
    with pytest.raises(ServiceError, match="put in by the test"):
        publish(*((failing, registry) if where == "store" else (store, failing)), new, "run-1")
    if readers_get == "moved":
        readers_get = "new" if after else "old"
    assert now_champion(store).judge_key == {"old": old, "new": new}[readers_get].plan.judge_key

    outcome = publish(store, registry, new, "run-1")
    assert (outcome.status, outcome.champion, outcome.version) == ("published", True, 2)
    assert outcome_of(store, new.plan) == outcome
    assert now_champion(store).judge_key == new.plan.judge_key
    assert now_champion(store).previous == old.plan.judge_key
    assert registry.versions[NAME] == [old.plan.judge_key, new.plan.judge_key]
    assert registry.aliases == {(NAME, "champion"): 2}
    assert registry.recorded["run-1"] == "published"


def test_rerun_does_not_take_back_what_a_later_run_won(store: Store, registry: MemoryRegistry) -> None:
    """Equal scores, where the comparison alone would give the place back; and two later champions, not one."""
    runs = [judged(store, seed=n, score=0.6) for n in range(3)]
    with pytest.raises(ServiceError):
        publish(store, Failing(registry, "set_alias"), runs[0], "run-0")
    assert now_champion(store).judge_key == runs[0].plan.judge_key
    publish(store, registry, runs[1], "run-1")
    publish(store, registry, runs[2], "run-2")
    before = store.get(champion_key(NAME, BASE))

    outcome = publish(store, registry, runs[0], "run-0")
    assert store.get(champion_key(NAME, BASE)) == before
    assert registry.aliases == {(NAME, "champion"): 3}
    assert (outcome.status, outcome.champion, outcome.version) == ("published", True, 1)  # it was what readers got
    assert "until version 3" in outcome.reason


def test_rerun_of_a_run_that_never_led_competes_anew(store: Store, registry: MemoryRegistry) -> None:
    slow, quick = judged(store, score=0.6), judged(store, seed=1, score=0.5)
    with pytest.raises(ServiceError):
        publish(Failing(store, "create", "champion.json"), registry, slow, "run-0")
    assert publish(store, registry, quick, "run-1").champion
    assert publish(store, registry, slow, "run-0").champion
    assert now_champion(store).judge_key == slow.plan.judge_key
    assert registry.versions[NAME] == [slow.plan.judge_key, quick.plan.judge_key]


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


def test_overtaken_run_compares_itself_with_the_new_champion(store: Store, registry: MemoryRegistry) -> None:
    publish(store, registry, judged(store, score=0.5), "run-0")
    leader = now_champion(store).model_copy(update={"judge_key": "0" * 32, "score": 0.7})
    outcome = publish(Overtaken(store, leader, times=1), registry, judged(store, seed=1, score=0.6), "run-1")
    assert not outcome.champion
    assert "version 100" in outcome.reason
    assert now_champion(store).judge_key == leader.judge_key


def test_overtaken_run_that_is_still_better_wins(store: Store, registry: MemoryRegistry) -> None:
    publish(store, registry, judged(store, score=0.5), "run-0")
    leader = now_champion(store).model_copy(update={"judge_key": "0" * 32, "score": 0.55})
    assert publish(Overtaken(store, leader, times=3), registry, judged(store, seed=1), "run-1").champion
    assert now_champion(store).previous == leader.judge_key


def test_pointer_that_never_rests_is_given_up(store: Store, registry: MemoryRegistry) -> None:
    publish(store, registry, judged(store, score=0.5), "run-0")
    restless = Overtaken(store, now_champion(store), times=1000)
    with pytest.raises(ConflictError, match="publish again later"):
        publish(restless, registry, judged(store, seed=1), "run-1")


def test_two_workers_with_the_same_run_make_one_version(store: Store, registry: MemoryRegistry) -> None:
    manifest = judged(store)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda run: publish(store, registry, manifest, run), ["run-a", "run-b"]))
    assert registry.versions[NAME] == [manifest.plan.judge_key]
    assert outcomes[0] == outcomes[1] == outcome_of(store, manifest.plan)
    assert outcomes[0].version == 1


def test_many_workers_leave_the_best_as_champion(store: Store, registry: MemoryRegistry) -> None:
    manifests = [judged(store, seed=n, score=score) for n, score in enumerate((0.5, 0.8, 0.6, 0.7))]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda manifest: publish(store, registry, manifest, "run"), manifests))
    champion = now_champion(store)
    assert champion.score == 0.8
    assert sorted(registry.versions[NAME]) == sorted(manifest.plan.judge_key for manifest in manifests)
    assert registry.aliases[NAME, "champion"] == champion.version


def test_work_that_has_ended_is_not_done_again(store: Store, registry: MemoryRegistry) -> None:
    manifest = judged(store)
    outcome = publish(store, registry, manifest, "run")
    assert publish(store, registry, manifest, "another run") == outcome
    assert registry.mirrored == ["run"]


def test_approved_run_replaces_its_waiting_outcome(store: Store, registry: MemoryRegistry) -> None:
    manifest = judged(store)
    plan = manifest.plan
    waiting = Outcome(
        judge_key=plan.judge_key, train_key=plan.train_key, concept=NAME, base=BASE, status="awaiting-approval",
        reason="A person decides.", step=20, score=0.6, version=None, champion=False, run_id="run", manifest="m",
    )  # fmt: skip
    store.create(outcome_key(plan), waiting.to_bytes())
    outcome = publish(store, registry, manifest, "run")
    assert outcome.status == "published"
    assert outcome_of(store, plan) == outcome


def test_newer_champion_is_refused_in_a_sentence(store: Store, registry: MemoryRegistry) -> None:
    publish(store, registry, judged(store), "run-0")
    newer = now_champion(store).model_copy(update={"schema_version": 2})
    store.put(champion_key(NAME, BASE), newer.to_bytes())
    with pytest.raises(IntegrityError, match="upgrade Pseudoword"):
        publish(store, registry, judged(store, seed=1), "run-1")
    assert store.get(champion_key(NAME, BASE)).data == newer.to_bytes()
