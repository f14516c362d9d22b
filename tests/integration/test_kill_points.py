"""Whoever moves the pointer dies at each of his requests: readers see before or after, and a rerun completes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders import done, judged
from ti_core.errors import InputError, WithdrawnError
from ti_core.publishing.audit import audit
from ti_core.publishing.catalogue import changes_of, pointer_of
from ti_core.publishing.forgetting import forget
from ti_core.publishing.index import words
from ti_core.publishing.pointer import pin, rollback, withdraw
from ti_core.publishing.reading import best, file_of, read_file
from ti_core.records import FORGET, OUTBOX, Manifest
from ti_core.store import Store
from ti_core.store.folder import FolderStore

NAME, BASE = "cat-toy", "miniature"


class KilledError(BaseException):
    """The process is gone."""


class Dying:
    """Passes requests on; the process dies after so many, before the next one is made."""

    def __init__(self, store: Store, after: int) -> None:
        self._store, self.left = store, after

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if not callable(value) or name == "url":
            return value

        def call(*arguments: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise KilledError
            return value(*arguments)

        return call


def read(store: Store) -> int:
    """The version that a reader gets, verified; 0 for a word that is withdrawn or forgotten."""
    pointer = pointer_of(store, NAME, BASE)
    assert pointer
    try:
        return best(store, pointer, lambda one: read_file(store, file_of(one, "a1111")), strict=True)[0].version
    except WithdrawnError:
        return 0


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A store with two versions, and a third run whose blobs lie there."""
    folder = tmp_path_factory.mktemp("before")
    store = FolderStore(folder)
    for seed, score in enumerate((0.4, 0.5)):
        done(store, judged(store, seed=seed, score=score))
    for key in list(store.keys(OUTBOX)):
        store.delete(key)
    return folder, judged(store, seed=2, score=0.6)


def everything_followed(store: Store, after: int) -> None:
    """Index, records and outbox say what the pointer says, without an audit."""
    pointer = pointer_of(store, NAME, BASE)
    assert pointer
    assert [row.version for row in words(store)] == ([after] if after else [])
    assert changes_of(store, NAME, BASE) == ([] if pointer.forgotten else list(pointer.changes))
    told = list(store.keys(OUTBOX))
    assert any(key.endswith(f"-{pointer.judge_key}.json" if after else FORGET) for key in told)
    assert all(any(one.judge_key in key for key in told) for one in pointer.changes)


ACTS: dict[str, tuple[Callable[[Store, Manifest], object], int]] = {
    "publish": (done, 3),
    "rollback": (lambda store, _: rollback(store, NAME, BASE, 1, "ann", ""), 1),
    "pin": (lambda store, _: pin(store, NAME, BASE, "ann", ""), 2),
    "withdraw": (lambda store, _: withdraw(store, NAME, BASE, 2, "ann", ""), 1),
    "forget": (lambda store, _: forget(store, NAME, BASE, "ann", ""), 0),
}
"""What is done, and the version that readers get then."""


@pytest.mark.parametrize("name", ACTS)
def test_dying_at_every_request(name: str, before: tuple[Path, Manifest], tmp_path: Path) -> None:
    (folder, newcomer), (act, after) = before, ACTS[name]
    for requests in range(500):
        store = FolderStore(shutil.copytree(folder, tmp_path / str(requests)))
        try:
            act(Dying(store, requests), newcomer)
            break
        except KilledError:
            assert read(store) in {2, after}
        try:
            act(store, newcomer)  # again, as a person or the next night does
        except WithdrawnError:
            assert name == "withdraw"  # it was withdrawn already
        except InputError as error:
            assert name == "rollback" and "already" in str(error)
        assert read(store) == after
        everything_followed(store, after)
        found = audit(store, repair=True)
        assert all(one.repaired or one.kind in {"unnamed", "untold"} for one in found), found
    else:
        raise AssertionError("it never ended")
    assert requests > 5 and list(store.keys(OUTBOX))
