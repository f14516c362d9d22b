"""Addresses judged on a real server on loopback."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.unit.images.test_archives import zipped
from ti_core.errors import InputError, ServiceError
from ti_core.images import remote
from ti_core.images.opening import opened
from ti_core.settings import Settings

ALLOWED = Settings(private_addresses=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server with a zip at /a.zip, ways to it, a way in a circle, and nothing else."""
    data = zipped(tmp_path / "a.zip", {"1.png": b"one"}).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            onward = {"/moved": "/a.zip", "/round": "/round", "/out": "ftp://example.org/a.zip"}.get(self.path)
            found = self.path.startswith("/a.zip")
            self.send_response(302 if onward else 200 if found else 404)
            if onward:
                self.send_header("Location", onward)
            self.end_headers()
            self.wfile.write(data if found else b"")

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("path", ["/a.zip", "/a.zip?key=1", "/moved"])
def test_an_archive_is_read_from_its_address(server: str, path: str) -> None:
    with opened(server + path, ALLOWED) as entries:
        assert {entry.path: entry.read() for entry in entries} == {"1.png": b"one"}


@pytest.mark.parametrize(
    ("path", "words"),
    [("/none.zip", "answers 404"), ("/round", "leads on and on"), ("/out", "is no http")],
)
def test_what_is_not_there_is_told(server: str, path: str, words: str) -> None:
    with pytest.raises(InputError, match=words), opened(server + path, ALLOWED):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "[::1]", "0.0.0.0"])  # noqa: S104  # asked, not bound
def test_addresses_of_one_s_own_network_are_refused_unless_allowed(host: str) -> None:
    with pytest.raises(InputError, match="lies in a network of one's own"), opened(f"http://{host}/a.zip", Settings()):
        pass


def test_a_server_that_does_not_answer_is_another_matter(server: str, closed: int) -> None:
    with pytest.raises(ServiceError, match="cannot be had"), opened(f"http://127.0.0.1:{closed}/a.zip", ALLOWED):
        pass


def test_what_is_too_large_is_given_up(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_SOURCE_BYTES", 50)
    with pytest.raises(InputError, match="name a smaller file"), opened(f"{server}/a.zip", ALLOWED):
        pass


@pytest.mark.parametrize("url", ["http:///a.zip", "http://host:port/a.zip"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(InputError, match="is no http"), opened(url, ALLOWED):
        pass


@pytest.fixture
def closed() -> int:
    """A port that nobody listens on."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as running:
        return running.server_port
