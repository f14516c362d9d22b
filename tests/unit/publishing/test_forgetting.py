"""A forgotten word leaves nothing but its name and the decision, and nothing brings it back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders import done, judged
from ti_core.errors import IntegrityError, NotFoundError, WithdrawnError
from ti_core.publishing.audit import audit
from ti_core.publishing.catalogue import blobs_of, champion_of, outcome_of, pointer_of, versions_of
from ti_core.publishing.collecting import named
from ti_core.publishing.forgetting import allow, forget, forgotten_words, sweep
from ti_core.publishing.index import words
from ti_core.publishing.pointer import forgotten, pin, rollback, withdraw
from ti_core.records import (
    OUTBOX,
    BatchRow,
    BatchRows,
    Champion,
    Manifest,
    aside_key,
    batch_page_key,
    batch_rows_key,
    blob_key,
    champion_key,
    concept_prefix,
    manifest_key,
)
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store

NAME, BASE = "cat-toy", "miniature"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings(home=tmp_path))


def test_everything_goes_but_what_others_share(store: Store) -> None:
    mine, other = judged(store), judged(store, name="dog", seed=1)
    done(store, mine)
    done(store, judged(store, seed=2, score=0.9))
    done(store, other)
    withdraw(store, NAME, BASE, 1, "ann", "a secret reason")
    shared = blobs_of(mine) & blobs_of(other)
    assert shared and blobs_of(mine) - shared
    told = forget(store, NAME, BASE, "ann", "asked for")
    assert told.shared == len(shared) and told.blobs >= len(blobs_of(mine) - shared)
    assert list(store.keys(f"{concept_prefix(NAME, BASE)}/")) == [champion_key(NAME, BASE)]
    assert not any(store.exists(blob_key(sha256)) for sha256 in blobs_of(mine) - shared)
    assert all(get_blob(store, sha256) for sha256 in blobs_of(other))
    assert list(store.keys(f"{OUTBOX}{NAME}/")) == [f"{OUTBOX}{NAME}/{BASE}/forget.json"]
    assert [row.concept for row in words(store)] == ["dog"]
    tombstone = store.get(champion_key(NAME, BASE)).data
    assert b"secret" not in tombstone and not named(store, [champion_key(NAME, BASE)])


def test_batches_whose_pages_show_it_go_and_others_stay(store: Store) -> None:
    done(store, judged(store))
    for batch, outcome, base in (("monday", "published", BASE), ("tuesday", None, ""), ("friday", "published", "sd15")):
        row = BatchRow(concept=NAME, status="skipped", reason="", outcome=outcome, base=base)
        store.put(batch_rows_key(batch), BatchRows(rows=(row,)).to_bytes())
        store.put(batch_page_key(batch), b"<p>")
    store.put(batch_rows_key("torn"), b'{"rows": [{"concept": "cat-toy", "sta')
    store.put(batch_rows_key("other"), b"{")
    damaged = [fault.what for fault in audit(store) if fault.kind == "damaged"]
    assert len(damaged) == 2 and all("rows.json" in what for what in damaged)
    forget(store, NAME, BASE, "ann", "asked for")
    left = {key.split("/")[1] for key in store.keys("batches/")}
    assert left == {"tuesday", "friday", "other"}


def test_nothing_brings_it_back_until_it_is_allowed(store: Store) -> None:
    manifest = judged(store)
    done(store, manifest)
    forget(store, NAME, BASE, "ann", "asked for")
    judged(store)  # a training that still ran has stored its blobs
    for act in (
        lambda: done(store, manifest),
        lambda: pin(store, NAME, BASE, "bob", ""),
        lambda: rollback(store, NAME, BASE, 1, "bob", ""),
        lambda: withdraw(store, NAME, BASE, None, "bob", ""),
    ):
        with pytest.raises(WithdrawnError, match=r"forgotten on .* by ann: asked for"):
            act()
    (why,) = forgotten(store, [manifest.plan])
    assert why and "--allow-again" in str(why)
    assert forgotten_words(store, [(NAME, BASE)]) == [(NAME, BASE)]
    assert outcome_of(store, manifest.plan) is None and champion_of(store, NAME, BASE) is None
    forget(store, NAME, BASE, "bob", "again")  # completes what was torn off; the first decision stands
    pointer = pointer_of(store, NAME, BASE)
    assert pointer and pointer.forgotten and pointer.forgotten.who == "ann"

    allow(store, NAME, BASE, "bob", "they agreed")
    with pytest.raises(NotFoundError, match="was not forgotten"):
        allow(store, NAME, BASE, "bob", "")
    assert forgotten(store, [manifest.plan]) == [None]
    outcome = done(store, judged(store))
    assert (outcome.version, outcome.champion) == (1, True)
    pointer = pointer_of(store, NAME, BASE)
    assert pointer and [one.action for one in pointer.changes] == ["forget", "allow"]


def test_words_that_were_never_published_are_forgotten_too(store: Store) -> None:
    rejected = judged(store, accepted=False)
    done(store, rejected)
    forget(store, NAME, BASE, "ann", "")
    assert not any(store.exists(blob_key(sha256)) for sha256 in blobs_of(rejected))
    with pytest.raises(NotFoundError, match="holds nothing of dog"):
        forget(store, "dog", BASE, "ann", "")


def test_what_a_training_wrote_afterwards_is_swept(store: Store) -> None:
    done(store, judged(store))
    forget(store, NAME, BASE, "ann", "")
    late = f"{concept_prefix(NAME, BASE)}/runs/t/state/training-a.safetensors"
    store.put(late, b"a state that names nothing")
    assert sweep(store, NAME, BASE).objects == 1 and not store.exists(late)


def torn_off(store: Store) -> Manifest:
    """A forgotten word of which everything is still there, as after a forgetting that was stopped."""
    manifest = judged(store)
    done(store, manifest)
    there = {key: store.get(key).data for key in store.keys("") if not key.startswith("index/")}
    forget(store, NAME, BASE, "ann", "asked for")
    for key, data in there.items():
        if key != champion_key(NAME, BASE):
            store.put(key, data)
    return manifest


def test_an_unfinished_forgetting_is_finished_before_the_word_is_allowed_again(store: Store) -> None:
    manifest = torn_off(store)
    allow(store, NAME, BASE, "bob", "")
    assert not any(store.exists(key) for sha256 in blobs_of(manifest) for key in (blob_key(sha256), aside_key(sha256)))
    assert outcome_of(store, manifest.plan) is None and versions_of(store, NAME, BASE) == {}
    assert list(store.keys(f"{OUTBOX}{NAME}/")) == [f"{OUTBOX}{NAME}/{BASE}/forget.json"]


class Between:
    """Does something once, right before the first blob is put aside, or right after all are."""

    def __init__(self, store: Store, work: Callable[[], object], after: int) -> None:
        self._store, self._work, self._left = store, work, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def delete(self, key: str) -> None:
        self._store.delete(key)
        self._left -= key.startswith("blobs/")
        if not self._left:
            self._left = -1
            self._work()


def test_what_another_word_names_meanwhile_is_brought_back(store: Store) -> None:
    mine = torn_off(store)
    other = judged(store, name="dog")  # it has the same pictures and the same vectors, and no document yet
    last = len(blobs_of(mine))
    sweep(Between(store, lambda: store.put(manifest_key(other.plan), other.to_bytes()), last), NAME, BASE)
    assert all(get_blob(store, sha256) for sha256 in blobs_of(other))
    assert outcome_of(store, mine.plan) is None


def test_what_was_allowed_meanwhile_is_left_alone(store: Store) -> None:
    mine = torn_off(store)
    later = judged(store)
    allowed = Champion.from_bytes(store.get(champion_key(NAME, BASE)).data, "").model_copy(update={"changes": ()})
    work = Between(store, lambda: store.put(champion_key(NAME, BASE), allowed.to_bytes()), len(blobs_of(mine)))
    assert sweep(work, NAME, BASE).objects == 0
    assert all(get_blob(store, sha256) for sha256 in blobs_of(later)) and outcome_of(store, mine.plan)
    assert sweep(store, NAME, BASE).objects == 0, "it is not forgotten any more"


def test_a_damaged_document_of_another_word_loses_none_of_its_blobs(store: Store) -> None:
    other = judged(store, name="dog")
    done(store, other)
    mine = judged(store)
    done(store, mine)
    whole = store.get(manifest_key(other.plan)).data
    store.put(manifest_key(other.plan), whole[: len(whole) // 9])
    with pytest.raises(IntegrityError, match=r"manifest-.* is damaged, and what it named is not known"):
        forget(store, NAME, BASE, "ann", "")
    pointer = pointer_of(store, NAME, BASE)
    assert pointer and pointer.forgotten and [row.concept for row in words(store)] == ["dog"], (
        "readers are told all the same"
    )
    assert all(get_blob(store, sha256) for sha256 in blobs_of(other) | blobs_of(mine))
    store.put(manifest_key(other.plan), whole)
    forget(store, NAME, BASE, "ann", "")
    assert all(get_blob(store, sha256) for sha256 in blobs_of(other))
    assert not any(store.exists(blob_key(sha256)) for sha256 in blobs_of(mine) - blobs_of(other))


def test_a_word_that_owns_nothing_is_not_looked_for_in_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    done(store, judged(store, name="dog"))
    done(store, judged(store))
    forget(store, NAME, BASE, "ann", "")
    monkeypatch.setattr(store, "get", lambda key: pytest.fail(f"{key} was read"))
    sweep(store, NAME, BASE)
