"""Approval: what would move the pointer waits for a person, whose word is carried out by what is champion then."""

from pathlib import Path
from typing import Any

import pytest

from tests.builders import done, duel, judged
from ti_core.errors import ConflictError, InputError, NotFoundError, ServiceError, WithdrawnError
from ti_core.publishing.approving import approve, awaiting, decline, find_awaiting
from ti_core.publishing.audit import audit
from ti_core.publishing.catalogue import champion_of, outcome_of, versions_of
from ti_core.publishing.forgetting import forget
from ti_core.publishing.pointer import champion_from
from ti_core.publishing.transaction import RivalError, publish
from ti_core.records import AWAITING, Manifest, Outcome, awaiting_key, champion_key, manifest_key, outbox_key
from ti_core.settings import Settings
from ti_core.store import Store, open_store

NAME, BASE = "cat-toy", "miniature"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def store(settings: Settings) -> Store:
    return open_store(settings)


def asked(store: Store, manifest: Manifest) -> Outcome:
    """The run judged beside the champion, with approval asked for."""
    champion = champion_of(store, NAME, BASE)
    rival = {champion.judge_key: duel(manifest, champion.judge_key)} if champion else {}
    return publish(store, manifest, "run", rival, asks=True)


def readers_get(store: Store) -> str | None:
    champion = champion_of(store, NAME, BASE)
    return champion and champion.judge_key


def test_a_run_waits_without_a_version_until_it_is_approved(store: Store, settings: Settings) -> None:
    manifest = judged(store)
    waiting = asked(store, manifest)
    assert (waiting.status, waiting.version, waiting.champion) == ("awaiting-approval", None, False)
    assert waiting.reason == "It is the first of cat-toy on miniature. It awaits approval."
    assert readers_get(store) is None and not versions_of(store, NAME, BASE)
    assert publish(store, manifest, "another run", {}) == waiting, "without a person's word nothing moves"
    assert [waiting] == awaiting(store) == awaiting(store, NAME) and awaiting(store, "cat") == []
    assert find_awaiting(store, settings, NAME, run=waiting.judge_key[:8]) == waiting

    ended = approve(store, manifest, waiting.run_id, "ann", "as it should be")
    assert (ended.status, ended.version, ended.champion, ended.run_id) == ("published", 1, True, "run")
    assert "Version 1 is the first" in ended.reason and "by ann: as it should be" in ended.reason
    assert ended.approval and ended.approval.who == "ann"
    assert readers_get(store) == manifest.plan.judge_key and awaiting(store) == []
    assert approve(store, manifest, "run", "ben", "") == ended
    with pytest.raises(NotFoundError, match=r"awaits approval.* is published: Version 1"):
        find_awaiting(store, settings, NAME, run=ended.judge_key[:8])


def test_nobody_is_asked_where_readers_keep_what_they_have(store: Store) -> None:
    old, new, poor = judged(store), judged(store, seed=1), judged(store, seed=2, accepted=False)
    done(store, old)
    lost = {old.plan.judge_key: duel(new, old.plan.judge_key, -0.1)}
    outcome = publish(store, new, "run", lost, asks=True)
    assert (outcome.status, outcome.version, outcome.champion) == ("published", 2, False)
    assert publish(store, poor, "run", {}, asks=True).status == "rejected"
    assert awaiting(store) == []


def test_the_duel_is_fought_again_where_the_champion_has_moved(store: Store) -> None:
    first, waits, later = judged(store, score=0.5), judged(store, seed=1, score=0.6), judged(store, seed=2, score=0.7)
    done(store, first)
    assert "It is better than version 1, the best so far" in asked(store, waits).reason
    done(store, later)
    with pytest.raises(RivalError) as raised:
        approve(store, waits, "run", "ann", "")
    assert raised.value.champion.judge_key == later.plan.judge_key
    duels = {later.plan.judge_key: duel(waits, later.plan.judge_key, -0.1)}
    ended = approve(store, waits, "run", "ann", "", duels)
    assert (ended.status, ended.version, ended.champion) == ("published", 3, False)
    assert "worse than version 2" in ended.reason and "approved" in ended.reason
    assert readers_get(store) == later.plan.judge_key


def test_what_is_declined_stays_so(store: Store, settings: Settings) -> None:
    manifest = judged(store)
    waiting = asked(store, manifest)
    store.delete(outbox_key(manifest.plan))
    ended = decline(store, waiting, "ann", "the ears are wrong")
    assert (ended.status, ended.version, ended.run_id, ended.schema_version) == ("declined", None, "run", 3)
    assert "by ann: the ears are wrong" in ended.reason
    assert ended == outcome_of(store, manifest.plan) == publish(store, manifest, "run", {})
    assert awaiting(store) == [] and readers_get(store) is None
    assert store.exists(outbox_key(manifest.plan)), "the tracking server is to hear of it"
    with pytest.raises(ConflictError, match=r"cannot be approved any more.*the ears are wrong"):
        approve(store, manifest, "run", "ben", "")
    with pytest.raises(ConflictError, match="cannot be declined any more"):
        decline(store, waiting, "ben", "late")


def test_one_of_several_that_wait_is_named(store: Store, settings: Settings) -> None:
    runs = [judged(store, seed=seed) for seed in range(2)]
    for run in runs:
        publish(store, run, "run", {}, asks=True)
    with pytest.raises(InputError, match="2 runs of cat-toy on miniature await approval: name one with --run"):
        find_awaiting(store, settings, NAME)
    with pytest.raises(NotFoundError, match="No run of cat-toy on miniature whose key begins with 'nothing' awaits"):
        find_awaiting(store, settings, NAME, run="nothing")
    assert find_awaiting(store, settings, NAME, run=runs[1].plan.judge_key).judge_key == runs[1].plan.judge_key


class TornOff:
    """Fails once at the first call of `method` for a key with `part` in it, before it is done."""

    def __init__(self, store: Store, method: str, part: str) -> None:
        self._store, self._method, self._part = store, method, part

    def __getattr__(self, name: str) -> Any:
        def call(key: str, *rest: Any) -> Any:
            if name == self._method and self._part in key:
                self._method = ""
                raise ServiceError("put in by the test")
            return getattr(self._store, name)(key, *rest)

        return getattr(self._store, name) if name == "uri" else call


@pytest.mark.parametrize(
    ("method", "part"),
    [("create", "versions/"), ("create", "champion.json"), ("put", "outbox/"), ("replace", "outcome-")],
)
def test_an_approval_that_is_torn_off_is_completed_by_the_next(
    store: Store, settings: Settings, method: str, part: str
) -> None:
    manifest = judged(store)
    waiting = asked(store, manifest)
    with pytest.raises(ServiceError):
        approve(TornOff(store, method, part), manifest, "run", "ann", "")
    assert [waiting] == awaiting(store)
    if part != "versions/":
        assert any("torn off: `ti approve cat-toy --run" in one.what for one in audit(store))
    if readers_get(store):
        with pytest.raises(ConflictError, match="was approved, and readers got it"):
            decline(store, waiting, "ben", "no")
    assert approve(store, manifest, "run", "ann", "").champion
    assert versions_of(store, NAME, BASE) == {1: manifest.plan.judge_key} and awaiting(store) == []


class DeclinedMeanwhile:
    """Somebody declines the run right before the outcome of its publishing is written."""

    def __init__(self, store: Store, waiting: Outcome) -> None:
        self._store, self._waiting = store, waiting

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def replace(self, key: str, data: bytes, etag: str) -> None:
        if "outcome-" in key and self._waiting:
            declined = self._waiting.model_copy(update={"status": "declined", "schema_version": Outcome.SCHEMA})
            self._store.put(key, declined.to_bytes())
            self._waiting = None
        self._store.replace(key, data, etag)


def test_a_refusal_while_it_is_published_comes_too_late(store: Store) -> None:
    manifest = judged(store)
    ended = approve(DeclinedMeanwhile(store, asked(store, manifest)), manifest, "run", "ann", "")
    assert ended.status == "published" and outcome_of(store, manifest.plan) == ended


def test_what_readers_got_cannot_be_declined_even_where_another_has_its_place(store: Store) -> None:
    """An approval that was torn off before it was recorded, and overtaken since."""
    manifest, other = judged(store), judged(store, seed=1)
    waiting = asked(store, manifest)
    store.create(champion_key(NAME, BASE), champion_from(manifest, 1).to_bytes())
    publish(store, other, "", {manifest.plan.judge_key: duel(other, manifest.plan.judge_key)})
    assert readers_get(store) == other.plan.judge_key
    with pytest.raises(ConflictError, match="was approved, and readers got it"):
        decline(store, waiting, "ben", "no")


class PublishedMeanwhile:
    """Another worker, who asks nobody, records the run right before this one does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def create(self, key: str, data: bytes) -> bool:
        if "outcome-" in key:
            other = Outcome.from_bytes(data, key).model_copy(update={"status": "published", "champion": True})
            self._store.create(key, other.to_bytes())
        return self._store.create(key, data)


def test_where_another_was_faster_nothing_waits(store: Store) -> None:
    manifest = judged(store)
    assert publish(PublishedMeanwhile(store), manifest, "run", {}, asks=True).status == "published"
    assert not store.exists(awaiting_key(manifest.plan))


@pytest.mark.parametrize("ended", [True, False], ids=["declined and listed", "waiting and not listed"])
def test_the_audit_mends_the_list_of_what_waits(store: Store, settings: Settings, ended: bool) -> None:
    manifest = judged(store)
    waiting, key = asked(store, manifest), awaiting_key(manifest.plan)
    if ended:
        with pytest.raises(ServiceError):
            decline(TornOff(store, "delete", "awaiting/"), waiting, "ann", "no")
    else:
        store.delete(key)
    (found,) = [one.what for one in audit(store) if "ti list --awaiting" in one.what]
    assert ("awaits nothing and is still in the list" if ended else "awaits approval and is not in the list") in found
    audit(store, repair=True)
    assert store.exists(key) is not ended and awaiting(store) == ([] if ended else [waiting])
    assert not any("ti list --awaiting" in one.what for one in audit(store))


def test_a_forgotten_word_waits_no_more_and_damage_hides_nothing(store: Store) -> None:
    manifest, other = judged(store), judged(store, name="dog", seed=1)
    asked(store, manifest)
    waiting = publish(store, other, "run", {}, asks=True)
    forget(store, NAME, BASE, "ann", "asked for")
    assert list(store.keys(f"{AWAITING}{NAME}/")) == [] and awaiting(store) == [waiting]
    with pytest.raises(WithdrawnError):
        approve(store, manifest, "run", "ann", "")
    assert not store.exists(manifest_key(manifest.plan))
    store.put(f"{AWAITING}ant/miniature/x.json", b"{")
    assert awaiting(store) == [waiting]
    assert any("`ti approve` and `ti decline` find the run without it" in one.what for one in audit(store))
