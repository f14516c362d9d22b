"""A forgotten word leaves nothing but its name and the decision, and nothing brings it back."""

from pathlib import Path

import pytest

from tests.builders import done, judged
from ti_core.errors import NotFoundError, WithdrawnError
from ti_core.publishing.catalogue import blobs_of, champion_of, outcome_of, pointer_of
from ti_core.publishing.collecting import named
from ti_core.publishing.forgetting import allow, forget, forgotten_words, sweep
from ti_core.publishing.index import words
from ti_core.publishing.pointer import forgotten, pin, rollback, withdraw
from ti_core.records import OUTBOX, blob_key, champion_key, concept_prefix
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
