"""Addresses judged on a real server on loopback."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.images.test_archives import zipped
from ti_core.errors import InputError, ServiceError
from ti_core.images import remote
from ti_core.images.opening import opened
from ti_core.settings import Settings

ALLOWED = Settings(private_addresses=True)


@pytest.fixture
def hosts() -> list[str]:
    """Under which names the server was asked."""
    return []


@pytest.fixture
def server(running: ThreadingHTTPServer) -> str:
    """The address of the running server."""
    return f"http://127.0.0.1:{running.server_port}"


@pytest.fixture
def running(tmp_path: Path, hosts: list[str]) -> Iterator[ThreadingHTTPServer]:
    """A server with a zip at /a.zip, ways to it, a way in a circle, some that never end, and nothing else."""
    data = zipped(tmp_path / "a.zip", {"1.png": b"one"}).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hosts.append(self.headers["Host"])
            if "dripping" in self.path or self.path == "/short":
                return self.dawdle()
            onward = {
                "/moved": "/a.zip", "/round": "/round", "/out": "ftp://example.org/a.zip",
                "/inside": "http://inside.example/a.zip", "/odd": "http://[",
            }.get(self.path)  # fmt: skip
            found = self.path.startswith("/a.zip")
            self.send_response(302 if onward else 200 if found else 404)
            if onward:
                self.send_header("Location", onward)
            self.end_headers()
            self.wfile.write(data if found else b"")

        def dawdle(self) -> None:
            self.wfile.write(
                b"HTTP/1.0 200 OK\r\n" + (b"Content-Length: 99\r\n\r\nPK" if self.path == "/short" else b"")
            )
            if self.path == "/dripping-body":
                self.wfile.write(b"\r\n")
            with contextlib.suppress(OSError):
                for _ in range(600 if "dripping" in self.path else 0):
                    self.wfile.write(b"x")
                    time.sleep(0.1)

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
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


# --- odd addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://[", "http://[::1", "http://host:99999/a.zip", "http://host:-1/a.zip", "http://host:0/a.zip",
        "http://a..b/a.zip", f"http://{'a' * 64}/a.zip", "http://a b/a.zip", "http://a\\b/a.zip", "http://\u2100.com/a.zip",
        "http://a\0b/a.zip", "https://",
    ],
)  # fmt: skip
def test_odd_addresses_are_told(url: str) -> None:
    with pytest.raises(InputError, match="is no http"), opened(url, ALLOWED):
        pass


def test_a_password_is_neither_sent_nor_shown(server: str) -> None:
    with pytest.raises(InputError, match="which are not sent") as caught:
        with opened(server.replace("//", "//me:secret@") + "/a.zip", ALLOWED):
            pass
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["/a.zip?of=my cat", "/a.zip?käfer", "/a.zip#part", "/a.zip?a\\b"])
def test_what_people_type_into_a_path_is_escaped(server: str, path: str) -> None:
    with opened(server + path, ALLOWED) as entries:
        assert [entry.path for entry in entries] == ["1.png"]


# --- which address is asked -------------------------------------------------------------------------------------------


@pytest.fixture
def internet(server: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names stand for, by turns; every address is the server's. Where it was connected to is under "asked"."""
    names: dict[str, list[str]] = {"asked": []}
    port, connect, look_up = int(server.rpartition(":")[2]), socket.create_connection, socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *rest: int, **options: int) -> object:
        address = names[host].pop(0) if names.get(host) else host
        return look_up(address, port, *rest, **options)

    def create_connection(address: tuple[str, int], timeout: float) -> socket.socket:
        names["asked"].append(address[0])
        return connect(("127.0.0.1", port), timeout)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "create_connection", create_connection)
    return names


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b::10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:a00:1::1", "::ffff:192.168.0.1", "::10.0.0.1",
        "fec0::1", "fd00::1", "224.0.0.1", "ff0e::1", "100.64.0.1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)  # fmt: skip
def test_an_address_that_stands_for_one_of_one_s_own_network_is_refused(
    internet: dict[str, list[str]], address: str
) -> None:
    internet["pictures.example"] = [address]
    with pytest.raises(InputError, match="lies in a network of one's own"):
        with opened("http://pictures.example/a.zip", Settings()):
            pass
    assert internet["asked"] == []


@pytest.mark.parametrize("address", ["8.8.8.8", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8", "2600::1"])
def test_the_address_that_was_checked_is_asked_under_the_name_that_was_given(
    internet: dict[str, list[str]], hosts: list[str], address: str
) -> None:
    """Whoever answers for the name may say something else the next time."""
    internet["pictures.example"] = [address, "127.0.0.1"]
    with opened("http://pictures.example:8080/a.zip", Settings()) as entries:
        assert [entry.path for entry in entries] == ["1.png"]
    assert list(map(ipaddress.ip_address, internet["asked"])) == [ipaddress.ip_address(address)]
    assert hosts == ["pictures.example:8080"]


def test_a_redirect_is_checked_like_the_address_itself(internet: dict[str, list[str]]) -> None:
    internet["pictures.example"] = ["8.8.8.8"]
    with pytest.raises(InputError, match=r"http://inside.example/a.zip lies in a network of one's own \(10.0.0.1\)"):
        internet["inside.example"] = ["10.0.0.1"]
        with opened("http://pictures.example/inside", Settings()):
            pass
    assert internet["asked"] == ["8.8.8.8"]
    internet["pictures.example"] = ["8.8.8.8"]
    with pytest.raises(InputError, match="is no http"), opened("http://pictures.example/odd", Settings()):
        pass


def test_the_certificate_must_be_that_of_the_name(
    tmp_path: Path, internet: dict[str, list[str]], running: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = certified("pictures.example", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    running.socket = context.wrap_socket(running.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    internet |= {"pictures.example": ["8.8.8.8"], "other.example": ["8.8.8.8"]}
    with opened("https://pictures.example/a.zip", Settings()) as entries:
        assert [entry.path for entry in entries] == ["1.png"]
    with pytest.raises(ServiceError, match="certificate"), opened("https://other.example/a.zip", Settings()):
        pass


def certified(name: str, folder: Path) -> Path:
    """A key with a certificate of its own for a name."""
    key, who = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(pem)
    (folder / "both.pem").write_bytes(text)
    return folder / "both.pem"


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/dripping-head", "/dripping-body"])
def test_one_time_is_for_all_of_it_however_it_drips(server: str, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(remote, "SECONDS", 1)
    began = time.monotonic()
    with pytest.raises(ServiceError, match="did not come within 1 seconds"), opened(server + path, ALLOWED):
        pass
    assert time.monotonic() - began < 30  # it would go on for a minute


def test_what_ends_before_its_end_is_told(server: str) -> None:
    with pytest.raises(ServiceError, match="cannot be had"), opened(f"{server}/short", ALLOWED):
        pass
