"""The index tells what champion.json says, in a few reads, whoever writes at the same time."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.builders import done, judged
from ti_core.publishing.catalogue import champion_of
from ti_core.publishing.index import note, rebuild, row_of, words
from ti_core.records import Champion, champion_key, shard_key
from ti_core.settings import Settings
from ti_core.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings(home=tmp_path))


def champion(name: str, base: str = "miniature", version: int = 1) -> Champion:
    return Champion(
        concept=name, base=base, base_digest="d", placeholder=f"<{name}>", judge_key=f"j{version}", train_key="t",
        version=version, step=20, vectors="v", files=(), protocol="p", score=0.5, manifest="m", previous=None,
    )  # fmt: skip


def publish(store: Store, one: Champion) -> None:
    store.put(champion_key(one.concept, one.base), one.to_bytes())
    note(store, one.concept, one.base)


class Counting:
    """Counts what is asked of a store."""

    def __init__(self, store: Store) -> None:
        self._store, self.asked = store, list[str]()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if not callable(value) or name == "url":
            return value

        def call(*arguments: Any) -> Any:
            self.asked.append(name)
            return value(*arguments)

        return call


def test_reading_costs_a_few_requests_however_many_words_there_are(store: Store) -> None:
    for number in range(40):
        store.put(champion_key(f"word-{number}", "miniature"), champion(f"word-{number}").to_bytes())
    assert rebuild(store) == 40
    counting = Counting(store)
    assert [row.concept for row in words(counting)] == sorted(f"word-{number}" for number in range(40))
    assert len(counting.asked) <= 18
    counting.asked.clear()
    note(counting, "word-1", "miniature")
    assert len(counting.asked) <= 4 and "keys" not in counting.asked


def test_a_store_without_an_index_is_walked_and_gets_one_with_the_next_word(store: Store) -> None:
    for name in ("a", "b"):
        done(store, judged(store, name=name))
    shutil.rmtree(Path(store.uri) / "index")
    assert [row.concept for row in words(store)] == ["a", "b"]
    done(store, judged(store, name="c"))
    assert (Path(store.uri) / "index" / "whole.json").is_file()
    assert [row.concept for row in words(store)] == ["a", "b", "c"]


def test_a_damaged_part_is_walked_around_and_made_anew_by_the_next_writer(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    publish(store, champion("a"))
    publish(store, champion("b"))
    store.put(shard_key("a", "miniature"), b"{")
    assert [row.concept for row in words(store)] == ["a", "b"] and "looked through instead" in caplog.text
    publish(store, champion("a", version=2))
    assert [(row.concept, row.version) for row in words(store)] == [("a", 2), ("b", 1)]


def test_a_damaged_pointer_takes_no_word_out_of_the_index(store: Store) -> None:
    publish(store, champion("a"))
    store.put(champion_key("a", "miniature"), b"{")
    note(store, "a", "miniature")
    rebuild(store)
    assert [row.concept for row in words(store)] == ["a"]


def test_writers_at_the_same_time_lose_no_row(store: Store) -> None:
    names = [f"word-{number}" for number in range(6)]

    def work(number: int) -> None:
        for version in range(1, 4):
            publish(store, champion(names[number], version=version))
            if number == 0:
                rebuild(store)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    told = {row.concept: row for row in words(store)}
    assert sorted(told) == names
    for name in names:
        present = champion_of(store, name, "miniature")
        assert present and told[name] == row_of(present)
