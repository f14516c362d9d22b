"""A store behind a web server: read by the client, and nothing else."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.builders import done, judged
from ti_core import client
from ti_core.errors import InputError, NotFoundError, ServiceError, WithdrawnError
from ti_core.publishing.pointer import withdraw
from ti_core.settings import Settings
from ti_core.store import http, open_store
from ti_core.store.folder import FolderStore


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Broken(Quiet):
    asked = 0

    def do_GET(self) -> None:
        Broken.asked += 1
        self.send_error(503)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running: list[ThreadingHTTPServer] = []

    def start(folder: Path, handler: type[Quiet] = Quiet) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_words_are_fetched_without_keys(store: FolderStore, tmp_path: Path, serve: Callable[..., str]) -> None:
    assert done(store, judged(store)).champion
    reader = Settings(home=tmp_path / "reader", store=serve(tmp_path / "store") + "/")
    path = client.get("cat-toy", "miniature", out=tmp_path / "words", settings=reader)
    assert path.read_bytes() == client.get(
        "cat-toy", "miniature", out=tmp_path / "other", settings=Settings(home=tmp_path, store=store.uri)
    ).read_bytes()  # fmt: skip
    withdraw(store, "cat-toy", "miniature", None, "Ada", "no consent")
    with pytest.raises(WithdrawnError, match="no consent"):
        client.get("cat-toy", "miniature", out=tmp_path / "words", settings=reader)


def test_odd_keys_and_what_is_not_there(store: FolderStore, serve: Callable[..., str], tmp_path: Path) -> None:
    store.put("a/ü b#?.json", b"x")
    web = open_store(Settings(), serve(tmp_path / "store"))
    assert web.get("a/ü b#?.json").data == b"x" and web.exists("a/ü b#?.json")
    assert not web.exists("a/b")
    with pytest.raises(NotFoundError, match="There is no a/b in the store http"):
        web.get("a/b")


def test_it_is_read_only_and_gives_no_listing(serve: Callable[..., str], tmp_path: Path) -> None:
    web = open_store(Settings(), serve(tmp_path))
    for write in (web.put, web.create):
        with pytest.raises(InputError, match="can only be read"):
            write("a", b"x")
    with pytest.raises(InputError, match="can only be read"):
        web.replace("a", b"x", "tag")
    with pytest.raises(InputError, match="can only be read"):
        web.delete("a")
    for listing in (web.keys, web.entries):
        with pytest.raises(InputError, match=r"concepts/: check the name, and name the base model"):
            listing("concepts/")


def test_a_server_that_fails_is_asked_again_and_told(
    serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "SECONDS", 2)
    web = open_store(Settings(), serve(tmp_path, Broken))
    with pytest.raises(ServiceError, match="answers 503"):
        web.get("a")
    assert Broken.asked == http.TRIES
    with pytest.raises(ServiceError, match="does not answer"):
        open_store(Settings(), "http://127.0.0.1:9").get("a")
