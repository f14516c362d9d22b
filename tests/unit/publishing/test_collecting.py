"""What nothing names goes in two steps, and whoever is about to name it loses nothing."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.builders import done, judged
from ti_core.errors import IntegrityError, NotFoundError
from ti_core.publishing.catalogue import blobs_of
from ti_core.publishing.collecting import collect, get_back
from ti_core.records import ASIDE, BLOBS, aside_key, blob_key, champion_key, manifest_key
from ti_core.settings import Settings
from ti_core.store import Store, Stored, get_blob, open_store, put_blob

HOUR, NOW = timedelta(hours=1), timedelta(0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings(home=tmp_path))


def age(store: Store, prefix: str, hours: float) -> None:
    for entry in list(store.entries(prefix)):
        then = entry.written.timestamp() - 3600 * hours
        os.utime(store.url(entry.key), (then, then))


def test_what_nothing_names_is_put_aside_and_later_removed(store: Store) -> None:
    manifest = judged(store)
    done(store, manifest)
    lone = put_blob(store, b"nobody's")
    assert collect(store, HOUR).aside == 0, "it is young"
    age(store, BLOBS, 2)
    counted = collect(store, HOUR, dry=True)
    assert counted.aside == 1 and store.exists(blob_key(lone))
    collect(store, HOUR)
    assert not store.exists(blob_key(lone)) and store.get(aside_key(lone)).data == b"nobody's"
    assert collect(store, HOUR).removed == 0, "it was put aside just now"
    age(store, ASIDE, 2)
    done_ = collect(store, HOUR)
    assert (done_.removed, done_.freed) == (1, 8)
    with pytest.raises(NotFoundError):
        get_blob(store, lone)
    assert all(get_blob(store, sha256) for sha256 in blobs_of(manifest))


def test_what_is_named_meanwhile_comes_back(store: Store) -> None:
    manifest = judged(store)
    age(store, BLOBS, 2)
    assert collect(store, HOUR).aside == len(blobs_of(manifest)) == len(list(store.keys(ASIDE)))
    done(store, manifest)  # it was stored before, and is named now
    age(store, ASIDE, 2)
    collect(store, HOUR)
    assert not list(store.keys(ASIDE))
    assert all(get_blob(store, sha256) for sha256 in blobs_of(manifest))


def test_a_damaged_document_stops_all_removing_and_is_named(store: Store) -> None:
    manifest = judged(store)
    done(store, manifest)
    lone, out = put_blob(store, b"nobody's"), put_blob(store, b"nobody's either")
    collect(store, NOW)
    put_blob(store, b"nobody's")
    whole = store.get(manifest_key(manifest.plan)).data
    store.put(manifest_key(manifest.plan), whole[: len(whole) // 9])
    age(store, BLOBS, 2)
    age(store, ASIDE, 2)
    for dry in (True, False):
        with pytest.raises(IntegrityError, match=r"manifest-.* is damaged, and what it named is not known"):
            collect(store, HOUR, dry)
    assert all(get_blob(store, sha256) for sha256 in blobs_of(manifest) | {lone, out})
    store.put(champion_key("cat-toy", "miniature"), b"{")
    with pytest.raises(IntegrityError, match=r"champion.json \(and 1 more\)"):
        collect(store, HOUR)
    store.put(manifest_key(manifest.plan), whole)
    store.delete(champion_key("cat-toy", "miniature"))
    assert collect(store, HOUR).removed == 2


def test_reading_what_lies_aside_writes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader may have the right to read alone."""
    lone = put_blob(store, b"nobody's")
    collect(store, NOW)
    for name in ("put", "create", "replace", "delete"):
        monkeypatch.setattr(store, name, lambda *_: pytest.fail("it writes"))
    assert not store.exists(blob_key(lone)) and get_blob(store, lone) == b"nobody's"


def test_a_reader_meets_a_blob_that_just_came_back(store: Store) -> None:
    class Moving:
        """What lies aside comes back right before it is read there."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def get(self, key: str) -> Stored:
            if key.startswith(ASIDE):
                get_back(store, lone)
            return store.get(key)

    lone = put_blob(store, b"nobody's")
    collect(store, NOW)
    assert get_blob(Moving(), lone) == b"nobody's"


def test_a_damaged_blob_aside_never_takes_a_whole_one_s_place(store: Store) -> None:
    lone = put_blob(store, b"nobody's")
    store.put(blob_key(lone), b"damaged")
    collect(store, NOW)
    assert not store.exists(aside_key(lone))
    assert put_blob(store, b"nobody's") == lone and get_blob(store, lone) == b"nobody's"


def test_publishers_lose_nothing_to_a_collector_that_never_rests(store: Store) -> None:
    """What they are about to name lies there unnamed and old: the collector is after exactly that."""
    for seed in range(12):
        judged(store, name=f"word-{seed}", seed=seed)
    age(store, BLOBS, 2)
    manifests, at_work = [], True

    def publish(seed: int) -> None:
        manifest = judged(store, name=f"word-{seed}", seed=seed)
        manifests.append(manifest)
        assert done(store, manifest).champion

    def sweep() -> int:
        turns = 0
        while at_work:
            collect(store, HOUR)
            turns += 1
        return turns

    with ThreadPoolExecutor(5) as threads:
        sweeper = threads.submit(sweep)
        list(threads.map(publish, range(12)))
        at_work = False
        assert sweeper.result() > 0
    for manifest in manifests:
        assert all(get_blob(store, sha256) for sha256 in blobs_of(manifest))
