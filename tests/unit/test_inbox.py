"""The inbox: which folders are there, which are complete, and what is dealt with once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ti_core.inbox import SETTLED, Dropped, concept_of, dropped, settled, take
from ti_core.records import SEEN, TAKEN
from ti_core.settings import Settings
from ti_core.store import Store, open_store

LATER = timedelta(minutes=3)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", store=str(tmp_path / "home/store"), allowed_roots=(tmp_path / "nowhere",))


@pytest.fixture
def store(settings: Settings) -> Store:
    return open_store(settings)


def drop(settings: Settings, name: str, data: bytes = b"picture") -> None:
    open_store(settings, settings.inbox_uri).put(name, data)


def names(found: list[Dropped]) -> list[str]:
    return [one.name for one in found]


def test_every_folder_is_one_and_loose_files_together_are_told(settings: Settings) -> None:
    assert dropped(settings) == []
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/.hidden", ".trash/1.png", "lost.png"):
        drop(settings, name)
    loose, cat, dog = dropped(settings)
    assert (cat.name, cat.place) == ("cat", f"{settings.inbox_uri}/cat") and dog.name == "dog"
    assert "Files lie beside the folders" in concept_of(loose, "object", settings).reason


def test_a_folder_is_complete_when_it_stays_as_it_was_between_two_looks(settings: Settings, store: Store) -> None:
    drop(settings, "cat/1.png")
    now = datetime.now(UTC)
    assert settled(dropped(settings), store, now) == []
    assert settled(dropped(settings), store, now + SETTLED / 2) == []
    drop(settings, "cat/2.png")  # it is still being uploaded
    assert settled(dropped(settings), store, now + LATER) == []
    assert names(settled(dropped(settings), store, now + 2 * LATER)) == ["cat"]
    assert len(list(store.keys(SEEN))) == 1, "what it was before is forgotten"


def test_what_was_dealt_with_comes_again_only_when_it_has_changed(settings: Settings, store: Store) -> None:
    drop(settings, "cat/1.png")
    later = datetime.now(UTC) + LATER
    settled(dropped(settings), store, later - LATER)
    (cat,) = settled(dropped(settings), store, later)
    take(cat, "run", store)
    assert settled(dropped(settings), store, later) == [] and list(store.keys(SEEN)) == []
    drop(settings, "cat/2.png")
    settled(dropped(settings), store, later)
    assert names(settled(dropped(settings), store, later + LATER)) == ["cat"]
    assert list(store.keys(TAKEN)) == [], "what it was before is forgotten"


def test_a_folder_says_what_it_is_or_why_it_is_none(settings: Settings) -> None:
    """The inbox may be read wherever pictures may come from."""
    drop(settings, "Bad Name/1.png")
    drop(settings, "cat/1.png")
    drop(settings, "cat/concept.toml", b'class_word = "cat"\nsteps = 40\n')
    bad, cat = (concept_of(one, "object", settings) for one in dropped(settings))
    assert bad.spec is None and "'Bad Name' cannot name a concept" in bad.reason
    assert cat.spec and (cat.spec.class_word, cat.own.steps) == ("cat", 40)
