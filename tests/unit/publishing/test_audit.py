"""The audit finds each kind of damage, mends what can be mended, and finds nothing in a sound store."""

import shutil
from pathlib import Path

import pytest

from tests.builders import done, judged
from ti_core.errors import IntegrityError
from ti_core.publishing.audit import audit
from ti_core.publishing.catalogue import champion_of
from ti_core.publishing.files import published_file
from ti_core.publishing.index import words
from ti_core.publishing.pointer import rollback, withdraw
from ti_core.records import (
    OUTBOX,
    Manifest,
    blob_key,
    champion_key,
    manifest_key,
    outcome_key,
    shard_key,
    version_key,
)
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store, put_blob

NAME, BASE = "cat-toy", "miniature"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings(home=tmp_path))


@pytest.fixture
def manifest(store: Store) -> Manifest:
    """Two versions, told to the tracking server; the files are as assembly makes them. Returns the champion's."""
    done(store, judged(store, score=0.5))
    made = judged(store, seed=1, score=0.7)
    files = []
    for file in made.files:
        data = published_file(store, made, file.layout)
        files.append(file.model_copy(update={"sha256": put_blob(store, data), "size": len(data)}))
    made = made.model_copy(update={"files": tuple(files)})
    done(store, made)
    for key in list(store.keys(OUTBOX)):
        store.delete(key)
    return made


def kinds(store: Store, repair: bool = False) -> list[str]:
    return [one.kind for one in audit(store, repair) if one.kind != "unnamed"]


def test_a_sound_store_has_no_findings(store: Store, manifest: Manifest) -> None:
    assert kinds(store) == []


@pytest.mark.parametrize("missing", [False, True])
def test_a_published_file_is_made_again(store: Store, manifest: Manifest, missing: bool) -> None:
    for file in manifest.files:
        key = blob_key(file.sha256)
        if missing:
            store.delete(key)
        else:
            store.put(key, b"damaged")
    kind = "missing" if missing else "damaged"
    found = audit(store)
    assert [one.kind for one in found if one.kind == kind] == [kind] * 2
    (pointer,) = [one for one in found if one.kind == "pointer"]
    assert "readers get version 1 instead" in pointer.what
    assert sorted(kinds(store, repair=True)) == [kind] * 2
    assert kinds(store) == []
    assert all(len(get_blob(store, file.sha256)) == file.size for file in manifest.files)


def test_what_cannot_be_made_again_is_told(store: Store, manifest: Manifest) -> None:
    store.put(blob_key(manifest.checkpoints[1].vectors), b"damaged")
    (found,) = [one for one in audit(store, repair=True) if one.kind == "damaged"]
    assert not found.repaired and "backup" in found.what


def test_a_damaged_pointer_and_documents_are_told_and_hide_nothing_else(store: Store, manifest: Manifest) -> None:
    done(store, judged(store, name="dog"))
    store.put(champion_key(NAME, BASE), b"{")
    found = audit(store, repair=True)
    assert ["ti rollback cat-toy" in one.what for one in found if one.kind == "pointer"] == [True]
    assert "index" not in [one.kind for one in found], "damage unpublishes nothing"
    assert champion_of(store, "dog", BASE)


def test_damaged_documents_are_findings_and_hide_no_other(store: Store, manifest: Manifest) -> None:
    withdraw(store, NAME, BASE, 1, "ann", "")
    done(store, judged(store, name="dog"))
    for key in list(store.keys(OUTBOX)):
        store.delete(key)
    parts = ("versions/000001", "/changes/", "/champions/", "/duels/")
    damaged = [next(key for key in store.keys(f"concepts/{NAME}/") if part in key) for part in parts]
    damaged += [manifest_key(manifest.plan), outcome_key(manifest.plan)]
    whole = {key: store.get(key).data for key in damaged}
    for key in damaged:
        store.put(key, whole[key][:20])
    told = {one.what.partition(" is damaged")[0]: one for one in audit(store) if one.kind == "damaged"}
    assert set(told) == {store.url(key) for key in damaged} and all("What to do: " in one.what for one in told.values())
    store.put(blob_key(manifest.page), b"damaged")
    found = [one for one in audit(store, repair=True) if one.kind == "damaged"]
    assert any(store.url(blob_key(manifest.page)) in one.what for one in found), "others go on"
    mended = [key for key in damaged if store.get(key).data == whole[key]]
    assert mended == damaged[:2], "what others tell is written anew"


def test_a_number_whose_document_is_damaged_stays_taken(store: Store, manifest: Manifest) -> None:
    store.put(version_key(NAME, BASE, 2), b"{")
    with pytest.raises(IntegrityError, match=r"which run is version 2 is not known: .ti audit --repair"):
        rollback(store, NAME, BASE, 2, "ann", "")
    assert done(store, judged(store, seed=5, score=0.1)).version == 3


def test_publishing_that_was_torn_off_is_told(store: Store, manifest: Manifest) -> None:
    store.delete(outcome_key(manifest.plan))
    (found,) = [one for one in audit(store) if one.kind == "interrupted"]
    assert "version 2 of cat-toy on miniature" in found.what
    store.put(manifest_key(manifest.plan), b"{")
    assert "interrupted" in kinds(store)


def test_the_index_is_made_anew(store: Store, manifest: Manifest) -> None:
    for spoil in (b"{", b'{"schema_version": 1, "words": {}}'):
        store.put(shard_key(NAME, BASE), spoil)
        found = kinds(store, repair=True)
        assert found == (["index"] if spoil != b"{" else found)
        assert [row.version for row in words(store)] == [2]
    assert kinds(store) == []


def test_what_the_tracking_server_was_not_told_is_counted(store: Store, manifest: Manifest) -> None:
    done(store, judged(store, seed=5, score=0.1))
    assert kinds(store) == ["untold"]


def test_a_backup_serves_and_is_sound(store: Store, manifest: Manifest, tmp_path: Path) -> None:
    """As the guide says: documents first, blobs after, restored the other way round."""
    for order in (("concepts", "index"), ("blobs",)):
        for part in order:
            shutil.copytree(Path(store.uri) / part, tmp_path / "backup" / part)
    shutil.rmtree(store.uri)
    for part in ("blobs", "concepts", "index"):
        shutil.copytree(tmp_path / "backup" / part, Path(store.uri) / part)
    assert kinds(store, repair=True) == []
    champion = champion_of(store, NAME, BASE)
    assert champion and champion.version == 2
    assert done(store, judged(store, seed=7, score=0.1)).version == 3
