"""The store under race and failure, on SeaweedFS: publishers, people who change their mind, a collector and readers at
once. Nothing is lost, nothing doubled, nothing read unverified.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session

from tests.builders import done, judged
from tests.servers import S3Server, seaweedfs
from ti_core import client
from ti_core.errors import IntegrityError, NotFoundError, PseudowordError, WithdrawnError
from ti_core.publishing.audit import audit
from ti_core.publishing.catalogue import blobs_of, outcome_of, pointer_of, versions_of
from ti_core.publishing.collecting import collect
from ti_core.publishing.index import words
from ti_core.publishing.pointer import pin, rollback, withdraw
from ti_core.records import Change, Manifest
from ti_core.settings import Settings, load_settings
from ti_core.store import Store, get_blob, open_store, put_blob

pytestmark = pytest.mark.integration

PUBLISHERS = 12
SECONDS = 12.0
ROUNDS = int(os.environ.get("ROUNDS", "1"))
PAUSE = 0.02 * ROUNDS
"""Between two turns of the others, in seconds: longer in a longer race, whose records they would otherwise fill."""
GRACE = timedelta(seconds=1)
"""Far shorter than anybody should choose: the collector is after what publishers are about to name."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        yield running


@pytest.fixture
def settings(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PSEUDOWORD_STORE", f"s3://{server.bucket}/{tmp_path.name}")
    monkeypatch.setenv("PSEUDOWORD_HOME", str(tmp_path))
    return load_settings()


def test_twelve_publishers_people_a_collector_and_readers_at_once(settings: Settings, tmp_path: Path) -> None:
    """Rounds of twelve newcomers to one word, until time and rounds are over. Somebody withdraws, pins and rolls back
    all the while, somebody collects what nothing names, and two readers fetch and verify."""
    store = open_store(settings)
    done(store, judged(store, score=0.1))
    at_work, reads, turns, runs = True, [0, 0], [0, 0], []
    collected, late = {"aside": 0, "removed": 0, "brought_back": 0}, list[int]()
    withdrawn: set[int] = set()

    def publish(seed: int) -> None:
        while True:
            manifest = judged(store, seed=seed, score=(seed * 37 % 100) / 100)
            try:
                done(store, manifest)
            except IntegrityError as error:  # it took longer than the grace: it is told so, and is done again
                assert "blobs that are not in the store" in str(error)
                late.append(seed)
                continue
            runs.append(manifest)
            return

    def decide() -> None:
        while at_work:
            for act in (
                lambda: pin(store, "cat-toy", "miniature", "ann", ""),
                lambda: rollback(store, "cat-toy", "miniature", None, "ann", ""),
                lambda: withdrawn.add(_last_withdrawn(withdraw(store, "cat-toy", "miniature", None, "ann", ""))),
            ):
                with suppress(NotFoundError, WithdrawnError):  # nothing stands behind it, or somebody was faster
                    act()
                turns[0] += 1
                time.sleep(PAUSE)

    def sweep() -> None:
        while at_work:
            put_blob(store, os.urandom(64))  # what a run that was given up leaves behind
            did = collect(store, GRACE)
            for name in collected:
                collected[name] += getattr(did, name)
            turns[1] += 1
            time.sleep(20 * PAUSE)

    def fetch(reader: int) -> None:
        while at_work:
            with suppress(WithdrawnError):
                client.get("cat-toy", "miniature", out=tmp_path / f"reader-{reader}", settings=settings, strict=True)
            reads[reader] += 1
            time.sleep(PAUSE / 10)

    with ThreadPoolExecutor(PUBLISHERS + 4) as threads:
        others = [threads.submit(decide), threads.submit(sweep), threads.submit(fetch, 0), threads.submit(fetch, 1)]
        until, seed = time.monotonic() + SECONDS, 1
        while time.monotonic() < until or seed <= ROUNDS * PUBLISHERS or not collected["removed"]:
            list(threads.map(publish, range(seed, seed + PUBLISHERS)))
            seed += PUBLISHERS
        at_work = False
        for other in others:
            other.result()

    assert withdrawn <= {one.version for one in _changes(store) if one.action == "withdraw"}
    nothing_was_lost(store, runs)
    assert min(reads) > 0 and min(turns) > 0 and collected["aside"] > 0 and collected["removed"] > 0
    print(
        f"{len(runs)} runs ({len(late)} begun anew), {sum(reads)} verified reads, {turns[0]} decisions, {turns[1]} "
        f"collections: {collected}"
    )


def nothing_was_lost(store: Store, runs: list[Manifest]) -> None:
    """Every run ended with a version of its own, every blob that one names is there, index and pointer agree."""
    told = [outcome_of(store, run.plan) for run in runs]
    assert all(one and one.version for one in told), "every run ended"
    assert len({one.version for one in told if one}) == len(runs) == len(versions_of(store, "cat-toy", "miniature")) - 1
    pointer = pointer_of(store, "cat-toy", "miniature")
    assert pointer
    assert {row.version for row in words(store)} == (set() if pointer.vacant else {pointer.version})
    assert [one.what for one in audit(store) if one.kind not in {"untold", "unnamed"}] == []
    named = {sha256 for run in runs for sha256 in blobs_of(run)}
    assert all(get_blob(store, sha256) for sha256 in named), "none of them was lost"


def _changes(store: Store) -> tuple[Change, ...]:
    pointer = pointer_of(store, "cat-toy", "miniature")
    assert pointer
    return pointer.changes


def _last_withdrawn(pointer: object) -> int:
    changes = pointer.changes
    return int(next(one.version for one in reversed(changes) if one.action == "withdraw"))


def test_a_warm_get_costs_two_reads(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pointer and the file: what it takes on the wire, as time on a busy machine says nothing."""
    store, asked, send = open_store(settings), list[tuple[str, str]](), URLLib3Session.send
    done(store, judged(store))
    (word,) = (one for one in client.champion("cat-toy", "miniature", settings).files if one.layout == "diffusers")

    def noting(session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        asked.append((str(request.method), urlsplit(request.url).path))
        return send(session, request)

    client.get("cat-toy", "miniature", out=tmp_path / "cold", settings=settings)
    monkeypatch.setattr(URLLib3Session, "send", noting)
    client.get("cat-toy", "miniature", out=tmp_path / "warm", settings=settings)
    (first, pointer), (second, file) = asked
    assert first == second == "GET"
    assert pointer.endswith("/concepts/cat-toy/miniature/champion.json") and file.endswith(word.sha256)


def test_a_store_that_stops_is_told_and_the_copy_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with seaweedfs(tmp_path / "own") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PSEUDOWORD_HOME", str(tmp_path / "home"))
        settings = load_settings()
        store = open_store(settings)
        done(store, judged(store))
        path = client.get("cat-toy", "miniature", settings=settings)
    began = time.monotonic()
    assert client.get("cat-toy", "miniature", settings=settings) == path
    assert time.monotonic() - began < 10, "seconds, not minutes"
    with pytest.raises(PseudowordError, match="does not answer"):
        client.get("dog", "miniature", settings=settings)
