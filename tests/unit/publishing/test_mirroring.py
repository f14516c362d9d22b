"""Telling the tracking server afterwards: a real folder store, a small registry in memory that is away at times."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.builders import done, judged
from ti_core.errors import ServiceError
from ti_core.publishing.approving import approve
from ti_core.publishing.forgetting import allow, forget
from ti_core.publishing.mirroring import compare, drain, mirror, open_run
from ti_core.publishing.pointer import rollback, withdraw
from ti_core.publishing.transaction import publish, show_pictures
from ti_core.records import OUTBOX, Manifest, Outcome, Plan, champion_key
from ti_core.settings import Settings
from ti_core.store import Store, open_store

NAME, BASE = "cat-toy", "miniature"


class MemoryRegistry:
    """What MLflow does for mirroring, carelessly: like MLflow, it makes a second version of anything if two ask."""

    def __init__(self) -> None:
        self.runs = {"run"}
        self.versions: dict[str, list[str]] = defaultdict(list)
        self.numbers: list[int] = []
        self.aliases: dict[str, int] = {}
        self.mirrored: list[str] = []
        self.recorded: list[str] = []
        self.forgotten: list[str] = []
        self.away = ""

    def _fail(self, method: str) -> None:
        if method == self.away:
            self.away = ""
            raise ServiceError("The tracking server is away.")

    def has_run(self, run_id: str) -> bool:
        return run_id in self.runs

    def open_run(self, plan: Plan, batch: str = "") -> str:
        self.runs.add(plan.judge_key)
        return plan.judge_key

    def mirror(self, run_id: str, manifest: Manifest, read: Callable[[str], bytes]) -> dict[int, str]:
        self._fail("mirror")
        assert read(manifest.page)
        self.mirrored.append(run_id)
        return {checkpoint.step: f"{run_id}/{checkpoint.step}" for checkpoint in manifest.checkpoints}

    def register(self, run_id: str, manifest: Manifest, model_id: str, store_version: int) -> int:
        self._fail("register")
        versions, key = self.versions[manifest.plan.concept.name], manifest.plan.judge_key
        if key not in versions:
            time.sleep(0.02)  # whoever looks meanwhile does not see it yet
            versions.append(key)
            self.numbers.append(store_version)
        return versions.index(key) + 1

    def number_of(self, concept: str, base: str, judge_key: str) -> int | None:
        versions = self.versions[concept]
        return versions.index(judge_key) + 1 if judge_key in versions else None

    def set_alias(self, concept: str, base: str, alias: str, version: int) -> None:
        self._fail("set_alias")
        self.aliases[alias] = version

    def drop_alias(self, concept: str, base: str, alias: str) -> None:
        self.aliases.pop(alias, None)

    def alias_of(self, concept: str, base: str, alias: str) -> int | None:
        return self.aliases.get(alias)

    def doubled(self, concept: str, base: str, ended: Mapping[str, str], repair: bool) -> list[str]:
        return []

    def record(self, run_id: str, outcome: Outcome, withdrawn: str = "") -> None:
        self._fail("record")
        self.recorded.append(withdrawn or outcome.status)

    def forget(self, concept: str, base: str) -> None:
        self.forgotten.append(concept)

    def close_run(self, run_id: str, status: str) -> None:
        self._fail("close_run")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings(home=tmp_path))


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


def test_aliases_follow_the_store_by_the_servers_own_numbers(store: Store, registry: MemoryRegistry) -> None:
    done(store, judged(store, score=0.5), "run")  # the server never hears of it: its numbers are others from here on
    for key in list(store.keys(OUTBOX)):
        store.delete(key)
    for seed, score in ((1, 0.7), (2, 0.6)):
        manifest = judged(store, seed=seed, score=score)
        mirror(store, registry, manifest, done(store, manifest, "run"))
    assert registry.numbers == [2, 3]
    assert registry.aliases == {"champion": 1, "challenger": 2}
    assert not list(store.keys(OUTBOX))


@pytest.mark.parametrize("away", ["mirror", "register", "set_alias", "record", "close_run"])
def test_a_later_drain_completes_what_failed(store: Store, registry: MemoryRegistry, away: str) -> None:
    manifest = judged(store)
    outcome = done(store, manifest, "run")
    registry.away = away
    with pytest.raises(ServiceError):
        mirror(store, registry, manifest, outcome)
    assert drain(store, registry) == 1
    assert registry.versions[NAME] == [manifest.plan.judge_key]
    assert registry.aliases == {"champion": 1} and set(registry.recorded) == {"published"}
    told = list(registry.mirrored)
    assert drain(store, registry) == 0
    mirror(store, registry, manifest, outcome)
    assert registry.mirrored == told


@pytest.mark.parametrize("run_id", ["", "of another server"])
def test_a_run_that_the_server_does_not_know_is_opened(store: Store, registry: MemoryRegistry, run_id: str) -> None:
    manifest = judged(store, accepted=False)
    mirror(store, registry, manifest, done(store, manifest, run_id))
    assert registry.mirrored == [manifest.plan.judge_key] and registry.recorded == ["rejected"]
    assert not registry.versions[NAME]


def test_drain_tells_in_the_order_of_the_ends_and_passes_what_is_damaged(
    store: Store, registry: MemoryRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    for seed, score in enumerate((0.5, 0.6)):
        done(store, judged(store, seed=seed, score=score), "run")
    store.put(f"{OUTBOX}broken", b"{")
    assert drain(store, registry) == 2
    assert list(store.keys(OUTBOX)) == [f"{OUTBOX}broken"]
    assert "stays in the outbox" in caplog.text


def led(registry: MemoryRegistry) -> str:
    """The judge_key of the version that the alias names."""
    return registry.versions[NAME][registry.aliases["champion"] - 1]


def test_aliases_follow_what_people_decide(store: Store, registry: MemoryRegistry) -> None:
    runs = [judged(store, seed=seed, score=score) for seed, score in ((0, 0.5), (1, 0.7))]
    for run in runs:
        done(store, run, "run")
    drain(store, registry)
    assert led(registry) == runs[1].plan.judge_key
    rollback(store, NAME, BASE, None, "me", "")
    drain(store, registry)
    assert led(registry) == runs[0].plan.judge_key
    withdraw(store, NAME, BASE, None, "me", "bad")  # nothing stands before version 1
    drain(store, registry)
    assert "champion" not in registry.aliases
    assert any("me: bad" in one for one in registry.recorded)
    forget(store, NAME, BASE, "me", "")
    assert drain(store, registry) == 0 and registry.forgotten == [NAME]
    assert not list(store.keys(OUTBOX))


def test_an_alias_that_a_stopped_worker_has_left_wrong_is_found_and_set(store: Store, registry: MemoryRegistry) -> None:
    runs = [judged(store, seed=seed, score=score) for seed, score in ((0, 0.5), (1, 0.7))]
    for run in runs:
        done(store, run, "run")
    drain(store, registry)
    assert compare(store, registry, [(NAME, BASE)], repair=False) == []
    right = registry.aliases["champion"]
    registry.aliases["champion"] = 3 - right
    (found,) = compare(store, registry, [(NAME, BASE)], repair=True)
    assert f"names {3 - right}, and should name {right}" in found.what and found.repaired
    assert registry.aliases["champion"] == right
    registry.versions[NAME].clear()  # another database
    (found,) = compare(store, registry, [(NAME, BASE)], repair=True)
    assert "no version" in found.what and led(registry) == runs[1].plan.judge_key
    assert compare(store, registry, [(NAME, BASE)], repair=True) == []


def test_a_champion_that_moves_while_its_alias_is_set_is_followed(
    store: Store, registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = judged(store, score=0.5), judged(store, seed=1, score=0.7)
    mirror(store, registry, second, done(store, second, "run"))
    outcome = done(store, first, "run")
    point = registry.set_alias

    def slow(concept: str, base: str, alias: str, version: int) -> None:
        monkeypatch.setattr(registry, "set_alias", point)
        withdraw(store, NAME, BASE, None, "somebody faster", "")
        point(concept, base, alias, version)

    monkeypatch.setattr(registry, "set_alias", slow)
    mirror(store, registry, first, outcome)
    assert "champion" not in registry.aliases


def test_two_workers_tell_of_one_run_once(store: Store, registry: MemoryRegistry) -> None:
    manifest = judged(store)
    outcome = done(store, manifest, "run")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: mirror(store, registry, manifest, outcome), range(2)))
    assert registry.mirrored == ["run"] and len(registry.versions[NAME]) == 1


def test_a_page_written_anew_is_told_too(store: Store, registry: MemoryRegistry) -> None:
    manifest = judged(store)
    outcome = done(store, manifest, "run")
    mirror(store, registry, manifest, outcome)
    mirror(store, registry, show_pictures(store, manifest, False), outcome)
    assert registry.mirrored == ["run", "run"]


def test_what_the_outbox_still_holds_is_no_fault(store: Store, registry: MemoryRegistry) -> None:
    done(store, judged(store, score=0.5), "run")
    drain(store, registry)
    done(store, judged(store, seed=1, score=0.7), "run")
    assert compare(store, registry, [(NAME, BASE)], repair=False) == []
    drain(store, registry)
    rollback(store, NAME, BASE, None, "me", "")
    assert compare(store, registry, [(NAME, BASE)], repair=False) == []
    drain(store, registry)
    forget(store, NAME, BASE, "me", "")
    assert compare(store, registry, [(NAME, BASE)], repair=False) == []
    store.put(champion_key(NAME, BASE), b"{")
    assert compare(store, registry, [(NAME, BASE)], repair=False) == []


def test_what_was_forgotten_does_not_come_back_on_the_server(store: Store, registry: MemoryRegistry) -> None:
    manifest = judged(store)
    outcome = done(store, manifest, "run")
    entry = {key: store.get(key).data for key in store.keys(OUTBOX)}
    forget(store, NAME, BASE, "me", "")
    for key, data in entry.items():
        store.put(key, data)  # a worker that began before
    mirror(store, registry, manifest, outcome)
    assert registry.mirrored == [] and registry.forgotten == [NAME] and not list(store.keys(OUTBOX))


def test_what_is_to_be_forgotten_goes_before_what_is_trained_anew(store: Store, registry: MemoryRegistry) -> None:
    done(store, judged(store), "run")
    forget(store, NAME, BASE, "me", "")
    allow(store, NAME, BASE, "me", "")
    manifest = judged(store)
    open_run(store, registry, manifest.plan, "")
    assert registry.forgotten == [NAME] and manifest.plan.judge_key in registry.runs
    mirror(store, registry, manifest, done(store, manifest, "run"))
    assert registry.forgotten == [NAME] and registry.aliases == {"champion": 1}


def test_it_is_told_what_a_person_has_decided_since(store: Store) -> None:
    """By a worker that judged the others of its pack meanwhile."""
    manifest, registry = judged(store), MemoryRegistry()
    waiting = publish(store, manifest, "run", {}, asks=True)
    approve(store, manifest, "run", "ann", "")
    mirror(store, registry, manifest, waiting)
    assert registry.versions == {NAME: [manifest.plan.judge_key]} and registry.aliases["champion"]
