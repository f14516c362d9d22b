"""What every store does, judged on a folder and on a real S3 server."""

import hashlib
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import boto3
import pytest

from tests.servers import S3Server, seaweedfs
from ti_core.errors import ConflictError, InputError, IntegrityError, NotFoundError, ServiceError
from ti_core.records import aside_key, blob_key
from ti_core.settings import load_settings
from ti_core.store import Store, bring_back, get_blob, has_blob, lease, open_store, put_blob

ROOT = Path(__file__).parents[2]

COUNT = """
import sys
from ti_core.errors import ConflictError
from ti_core.settings import load_settings
from ti_core.store import open_store

store = open_store(load_settings())
store.exists("counter")
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[1])):
    while True:
        seen = store.get("counter")
        try:
            store.replace("counter", str(int(seen.data) + 1).encode(), seen.etag)
            break
        except ConflictError:
            pass
"""

HOLD = """
import sys, time
from ti_core.settings import load_settings
from ti_core.store import lease, open_store

with lease(open_store(load_settings()), "work", seconds=float(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        yield running


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh prefix on the server, which the settings name."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    uri = f"s3://{server.bucket}/{uuid.uuid4().hex}"
    monkeypatch.setenv("PSEUDOWORD_STORE", uri)
    return uri


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """An empty store, which the settings name, for this process and its children."""
    if request.param == "s3":
        request.getfixturevalue("bucket")
    else:
        monkeypatch.setenv("PSEUDOWORD_STORE", str(tmp_path / "store"))
    return open_store(load_settings())


def child(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process with the same store."""
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def at_once(count: int, work: Callable[[int], object]) -> list[object]:
    """The results of `work(i)` in as many threads, which start together."""
    barrier = threading.Barrier(count)

    def one(i: int) -> object:
        barrier.wait()
        return work(i)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


# --- objects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"text\r\n", bytes(range(256)) * 8000], ids=["empty", "text", "2 MB binary"])
def test_bytes_come_back_as_they_went(store: Store, data: bytes) -> None:
    store.put("some/where/object.bin", data)
    assert store.get("some/where/object.bin").data == data


def test_put_overwrites(store: Store) -> None:
    store.put("key", b"old")
    before = store.get("key")
    store.put("key", b"new and longer")
    after = store.get("key")
    assert (before.data, after.data) == (b"old", b"new and longer")
    assert before.etag != after.etag


def test_a_listing_tells_sizes_and_what_has_changed(store: Store) -> None:
    store.put("a/1", b"abc")
    store.put("a/2", b"")
    store.put("b", b"elsewhere")
    first = list(store.entries("a/"))
    assert [(one.key, one.size) for one in first] == [("a/1", 3), ("a/2", 0)]
    assert list(store.entries("a/")) == first
    store.put("a/1", b"abd")
    again = list(store.entries("a/"))
    assert again[0] != first[0] and again[1] == first[1]


def test_what_is_missing_is_missing(store: Store) -> None:
    store.put("there/object", b"x")
    for key in ("nowhere", "there", "there/object/below", "there/objec"):
        with pytest.raises(NotFoundError, match=key):
            store.get(key)
        assert not store.exists(key)
        with pytest.raises(ConflictError, match="changed meanwhile"):
            store.replace(key, b"y", "etag")
    store.delete("nowhere")
    assert list(store.keys("")) == ["there/object"]


def test_delete_removes_one_object(store: Store) -> None:
    store.put("a/1", b"x")
    store.put("a/2", b"y")
    store.delete("a/1")
    assert not store.exists("a/1")
    assert store.exists("a/2")
    store.put("a/1", b"again")
    assert store.get("a/1").data == b"again"


def test_readers_never_see_half_an_object(store: Store) -> None:
    size = 300_000
    store.put("key", b"a" * size)
    stop = threading.Event()

    def overwrite() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            store.put("key", (b"b" if turn % 2 else b"a") * size)

    writer = threading.Thread(target=overwrite)
    writer.start()
    try:
        seen = {store.get("key").data for _ in range(40)}
    finally:
        stop.set()
        writer.join()
    assert seen <= {b"a" * size, b"b" * size}


# --- conditional writes ---------------------------------------------------------------------------------------------


def test_create_writes_once(store: Store) -> None:
    assert store.create("key", b"first") is True
    assert store.create("key", b"second") is False
    assert store.get("key").data == b"first"
    store.delete("key")
    assert store.create("key", b"third") is True


def test_of_racing_creators_exactly_one_wins(store: Store) -> None:
    for turn in range(3):
        key = f"race/{turn}"
        wins = at_once(8, lambda i, key=key: store.create(key, f"thread {i}".encode() * 1000))
        assert sorted(wins) == [False] * 7 + [True]
        assert store.get(key).data == f"thread {wins.index(True)}".encode() * 1000


def test_replace_only_what_was_read(store: Store) -> None:
    store.put("key", b"one")
    first = store.get("key")
    store.replace("key", b"two", first.etag)
    with pytest.raises(ConflictError, match="key in the store"):
        store.replace("key", b"three", first.etag)
    assert store.get("key").data == b"two"


def test_replace_does_not_bring_back_what_was_deleted(store: Store) -> None:
    store.put("key", b"one")
    first = store.get("key")
    store.delete("key")
    with pytest.raises(ConflictError):
        store.replace("key", b"two", first.etag)
    assert not store.exists("key")


def test_no_update_is_lost_between_threads(store: Store) -> None:
    store.put("counter", b"0")

    def count(_: int) -> int:
        conflicts = 0
        for _ in range(6):
            while True:
                seen = store.get("counter")
                try:
                    store.replace("counter", str(int(seen.data) + 1).encode(), seen.etag)
                    break
                except ConflictError:
                    conflicts += 1
        return conflicts

    conflicts = at_once(6, count)
    assert store.get("counter").data == b"36"
    assert any(conflicts), "the threads never met, so nothing was tried"


def test_no_update_is_lost_between_processes(store: Store) -> None:
    store.put("counter", b"0")
    children = [child(COUNT, "25") for _ in range(3)]
    assert [process.stdout.readline() for process in children if process.stdout] == ["ready\n"] * 3
    for process in children:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in children:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert store.get("counter").data == b"75"


# --- names and listings ---------------------------------------------------------------------------------------------


def test_keys_are_sorted_as_whole_strings(store: Store) -> None:
    keys = ["a/b/c", "a/x", "a-b/x", "a.b", "ab", "A", "a b/ü + 100%.png", "z/\u202fnarrow"]
    for key in keys:
        store.put(key, key.encode())
    assert list(store.keys("")) == sorted(keys)
    assert all(store.get(key).data == key.encode() for key in keys)


def test_a_prefix_is_a_beginning_of_the_key(store: Store) -> None:
    for key in ("concepts/cat/1", "concepts/cat-toy/1", "concepts/dog/1", "con"):
        store.put(key, b"")
    assert list(store.keys("concepts/cat")) == ["concepts/cat-toy/1", "concepts/cat/1"]
    assert list(store.keys("concepts/cat/")) == ["concepts/cat/1"]
    assert list(store.keys("concepts/cat/1")) == ["concepts/cat/1"]
    assert list(store.keys("nothing/here")) == []


def test_listings_are_longer_than_a_page(store: Store) -> None:
    keys = [f"{folder}/{i:03}" for folder in ("a", "a-b", "b") for i in range(350)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: store.put(key, b"x"), keys))
    assert list(store.keys("")) == sorted(keys)
    assert list(store.keys("a")) == sorted(key for key in keys if key.startswith("a"))


def test_a_store_can_lie_within_a_store(store: Store) -> None:
    inner = open_store(load_settings(), f"{store.uri}/inner")
    inner.put("key", b"x")
    store.put("key", b"outside")
    assert list(inner.keys("")) == ["key"]
    assert list(store.keys("")) == ["inner/key", "key"]
    assert inner.url("key") == f"{store.uri}/inner/key"


def test_malformed_keys_are_refused_by_every_door(store: Store) -> None:
    for key in (
        *(
            "",
            "/",
            "/abs",
            "a//b",
            "a/",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            "a\\b",
            "a\nb",
            "a\0b",
            "\x7f",
            "\ud800",
        ),
        *(".pseudoword-lock", "a/.pseudoword-x"),
    ):
        doors: list[Callable[[str], object]] = [
            store.get,
            store.exists,
            store.delete,
            store.url,
            lambda key: store.put(key, b""),
            lambda key: store.create(key, b""),
            lambda key: store.replace(key, b"", "etag"),
        ]
        for door in doors:
            with pytest.raises(InputError, match="cannot name an object"):
                door(key)


def test_malformed_prefixes_are_refused_at_once(store: Store) -> None:
    for prefix in ("..", "../", "/", "a//", "a/../b", "a\\"):
        with pytest.raises(InputError):
            store.keys(prefix)


# --- blobs ----------------------------------------------------------------------------------------------------------


def test_blobs_are_found_by_their_digest(store: Store) -> None:
    data = bytes(range(256))
    sha256 = put_blob(store, data)
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert get_blob(store, sha256) == data
    assert put_blob(store, data) == sha256
    assert list(store.keys("")) == [blob_key(sha256)]


def test_a_whole_blob_is_not_written_again_and_a_damaged_one_is(store: Store) -> None:
    sha256 = put_blob(store, b"data")
    (before,) = store.entries(blob_key(sha256))
    put_blob(store, b"data")
    assert list(store.entries(blob_key(sha256))) == [before]
    for damaged in (b"changed", b"dat", b""):
        store.put(blob_key(sha256), damaged)
        with pytest.raises(IntegrityError, match="is damaged"):
            get_blob(store, sha256)
        assert put_blob(store, b"data") == sha256
        assert get_blob(store, sha256) == b"data"


def test_a_blob_that_was_put_aside_comes_back(store: Store) -> None:
    sha256 = put_blob(store, b"data")
    for ask in (partial(bring_back, store), partial(has_blob, store), lambda _: put_blob(store, b"data")):
        store.put(aside_key(sha256), b"data")
        store.delete(blob_key(sha256))
        assert ask(sha256)
        assert store.get(blob_key(sha256)).data == b"data"
    store.delete(blob_key(sha256))
    assert get_blob(store, sha256) == b"data"
    assert not store.exists(blob_key(sha256))  # whoever reads may not be allowed to write
    store.delete(aside_key(sha256))
    store.delete(blob_key(sha256))
    assert not has_blob(store, sha256)


def test_entries_tell_sizes_and_times(store: Store) -> None:
    store.put("a-b/x", b"12345")
    store.put("a/x", b"")
    entries = list(store.entries("a"))
    assert [(one.key, one.size) for one in entries] == [("a-b/x", 5), ("a/x", 0)]
    assert all(abs((datetime.now(UTC) - one.written).total_seconds()) < 60 for one in entries)


def test_a_tampered_blob_is_refused(store: Store) -> None:
    sha256 = put_blob(store, b"data")
    store.put(blob_key(sha256), b"tampered")
    with pytest.raises(IntegrityError, match="is damaged"):
        get_blob(store, sha256)


def test_a_missing_blob_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError):
        get_blob(store, "0" * 64)


# --- leases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used before"])
def test_a_lease_admits_one_at_a_time(store: Store, used: bool) -> None:
    if used:  # then the contenders take over an expired lease, else they create it
        with lease(store, "models/cat-toy.mini"):
            pass
    inside = 0
    most = 0

    def work(_: int) -> None:
        nonlocal inside, most
        with lease(store, "models/cat-toy.mini"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    at_once(5, work)
    assert most == 1


def test_a_taken_lease_names_its_owner_and_end(store: Store) -> None:
    with lease(store, "work", seconds=600):
        began = time.monotonic()
        with pytest.raises(ServiceError, match=rf"process {os.getpid()}.* until \d{{4}}-.* UTC"):
            with lease(store, "work", wait=0.3):
                pytest.fail("two at once")
        assert time.monotonic() - began < 5
        with lease(store, "other work", wait=0):
            pass


def test_a_lease_is_given_back_when_the_work_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        with lease(store, "work", seconds=600):
            raise ZeroDivisionError
    with lease(store, "work", wait=0):
        pass


def test_the_lease_of_a_killed_process_expires(store: Store) -> None:
    holder = child(HOLD, "2")
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ServiceError, match=f"process {holder.pid}"):
        with lease(store, "work", wait=0):
            pytest.fail("two at once")
    holder.kill()
    holder.communicate()
    with lease(store, "work", wait=20):
        pass


def test_who_overstays_does_not_end_the_successors_lease(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    first = lease(store, "work", seconds=0.05)
    second = lease(store, "work", seconds=600, wait=10)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert "expired before its work was done" in caplog.text
    with pytest.raises(ServiceError, match="is held by"):
        with lease(store, "work", wait=0):
            pytest.fail("two at once")
    second.__exit__(None, None, None)
    with lease(store, "work", wait=0):
        pass


# --- only a server can refuse ---------------------------------------------------------------------------------------


def every_door(store: Store) -> list[Callable[[], object]]:
    return [
        lambda: store.get("key"),
        lambda: store.put("key", b"x"),
        lambda: store.create("key", b"x"),
        lambda: store.exists("key"),
        lambda: list(store.keys("")),
        lambda: store.delete("key"),
    ]


@pytest.mark.integration
def test_a_wrong_secret_is_refused(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for door in every_door(open_store(load_settings())):
        with pytest.raises(ServiceError, match=f"{bucket} refuses access .*credentials"):
            door()


@pytest.mark.integration
@pytest.mark.usefixtures("bucket")
def test_a_missing_bucket_is_named() -> None:
    for door in every_door(open_store(load_settings(), "s3://no-such-bucket/x")):
        with pytest.raises(ServiceError, match="There is no bucket for the store s3://no-such-bucket/x"):
            door()


@pytest.mark.integration
def test_foreign_folder_objects_are_passed_over(bucket: str, server: S3Server) -> None:
    store = open_store(load_settings())
    store.put("pictures/1.png", b"x")
    client = boto3.session.Session().client("s3", endpoint_url=server.endpoint)
    prefix = bucket.removeprefix(f"s3://{server.bucket}/")
    for name in ("", "pictures/", "empty/"):
        client.put_object(Bucket=server.bucket, Key=f"{prefix}/{name}", Body=b"")
    listed = client.list_objects_v2(Bucket=server.bucket, Prefix=prefix)["Contents"]
    assert f"{prefix}/empty/" in [entry["Key"] for entry in listed]
    assert list(store.keys("")) == ["pictures/1.png"]


@pytest.mark.integration
@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_both_checksum_settings_work(bucket: str, monkeypatch: pytest.MonkeyPatch, checksums: str) -> None:
    monkeypatch.setenv("PSEUDOWORD_S3_CHECKSUMS", checksums)
    store = open_store(load_settings())
    assert store.uri == bucket
    assert store.create("key", b"data")
    assert store.get("key").data == b"data"
