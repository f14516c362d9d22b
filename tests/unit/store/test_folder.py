import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ti_core.errors import InputError, ServiceError
from ti_core.settings import Settings
from ti_core.store import open_store
from ti_core.store.folder import FolderStore

ROOT = Path(__file__).parents[3]

OVERWRITE = """
import itertools, sys
from pathlib import Path
from ti_core.store.folder import FolderStore

store = FolderStore(Path(sys.argv[1]))
for turn in itertools.count():
    store.put("state", bytes([turn % 256]) * 2_000_000)
    if turn == 3:
        print("writing", flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def files(store: FolderStore) -> list[str]:
    return sorted(path.name for path in Path(store.uri).rglob("*") if path.is_file())


def test_an_object_is_a_plain_file_others_may_read(store: FolderStore) -> None:
    umask = os.umask(0o022)
    try:
        store.put("a/b.txt", b"x")
        store.create("a/c.txt", b"x")
    finally:
        os.umask(umask)
    for key in ("a/b.txt", "a/c.txt"):
        path = Path(store.url(key))
        assert path.read_bytes() == b"x"
        assert path.stat().st_mode & 0o777 == 0o644


def test_nothing_but_the_objects_and_the_lock_stays(store: FolderStore) -> None:
    store.put("a/b", b"1")
    store.create("a/c", b"1")
    assert not store.create("a/c", b"2")
    store.replace("a/b", b"2", store.get("a/b").etag)
    store.put("a/d", b"1")
    store.delete("a/d")
    assert files(store) == [".pseudoword-lock", "b", "c"]
    assert list(store.keys("")) == ["a/b", "a/c"]


def test_a_new_store_is_empty_and_reading_creates_nothing(store: FolderStore) -> None:
    assert list(store.keys("")) == []
    assert not store.exists("a")
    store.delete("a")
    assert not Path(store.uri).exists()


def test_a_failed_write_changes_nothing(store: FolderStore) -> None:
    store.put("a/state", b"old")
    etag = store.get("a/state").etag
    before = files(store)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for write in (
            lambda: store.put("a/state", b"n" * 5000),
            lambda: store.replace("a/state", b"n" * 5000, etag),
            lambda: store.create("a/other", b"n" * 5000),
        ):
            with pytest.raises(ServiceError, match=r"cannot be written .*disk"):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.get("a/state").data == b"old"
    assert files(store) == before


def test_a_killed_writer_leaves_a_whole_object(store: FolderStore) -> None:
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", OVERWRITE, store.uri], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout
        assert writer.stdout.readline() == "writing\n"
        time.sleep(0.013)
        writer.kill()
        writer.communicate()
        data = store.get("state").data
        assert len(data) == 2_000_000
        assert len(set(data)) == 1
        assert list(store.keys("")) == ["state"]


def test_one_key_cannot_be_the_folder_of_another(store: FolderStore) -> None:
    store.put("a", b"file")
    store.put("b/c", b"file")
    for key in ("a/b", "b"):
        with pytest.raises(InputError, match="a file and a folder at once"):
            store.put(key, b"x")
        with pytest.raises(InputError, match="a file and a folder at once"):
            store.create(key, b"x")
        assert not store.exists(key)
    assert list(store.keys("")) == ["a", "b/c"]


def test_files_that_are_no_keys_are_passed_over(store: FolderStore) -> None:
    store.put("a", b"x")
    (Path(store.uri) / "back\\slash").write_bytes(b"")
    (Path(store.uri) / ".pseudoword-0123456789abcdef").write_bytes(b"left by a crash")
    assert list(store.keys("")) == ["a"]


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="is a file"):
        FolderStore(tmp_path / "file")


def test_a_relative_folder_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(Settings(), "here")
    monkeypatch.chdir("/")
    store.put("a", b"x")
    assert (tmp_path / "here" / "a").read_bytes() == b"x"
