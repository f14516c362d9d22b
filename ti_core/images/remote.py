"""Pictures from an http(s) address: one archive, downloaded to a temporary file within limits of size and time.

Whoever may name an address makes this machine ask for it, so addresses of one's own network are refused unless a
setting allows them: the connection goes to the very address that was checked, also after a redirect.
"""

import http.client
import ipaddress
import re
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from threading import Timer
from typing import IO
from urllib.parse import quote, urljoin, urlsplit

from ti_core.errors import InputError, ServiceError
from ti_core.images.names import shown
from ti_core.images.sources import MAX_SOURCE_BYTES
from ti_core.settings import Settings

SECONDS_EACH = 30
"""For one answer of the server."""
SECONDS = 600
"""For the whole download, redirects included."""
REDIRECTS = 5
_CHUNK = 2**16
_ONWARD = frozenset({301, 302, 303, 307, 308})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_OWN = tuple(map(ipaddress.ip_network, ("::/96", "64:ff9b:1::/48", "fec0::/10")))
"""Not public, though Python takes them for it: RFC 4291, 8215, 3879."""
_HOST = re.compile(r"[a-z0-9_.:%-]+", re.IGNORECASE)
_AS_THEY_ARE = "%/:=&?~+!$,;'@()*[]"
"""Characters of a path and a query that are not escaped, or are already."""


@dataclass(frozen=True)
class _Parts:
    """An address that can be asked. `host` is ASCII, `path` is escaped and holds the query."""

    url: str
    """As it may be shown."""
    https: bool
    host: str
    port: int
    path: str


@contextmanager
def downloaded(url: str, settings: Settings) -> Iterator[IO[bytes]]:
    """The file at an http(s) address, open for reading.

    Raises InputError for an address that may not be asked, is no file, or is too large; ServiceError when the server
    does not answer, or not in time.
    """
    with tempfile.TemporaryFile() as file:
        _fetch(url, file, settings)
        file.seek(0)
        yield file


def _fetch(url: str, file: IO[bytes], settings: Settings) -> None:
    end = time.monotonic() + SECONDS
    for _ in range(REDIRECTS + 1):
        parts = _parts(url)
        try:
            with closing(http.client.HTTPConnection(parts.host, parts.port)) as connection:
                connection.default_port = 443 if parts.https else 80  # the Host header leaves it out
                connection.sock = _connected(parts, settings, end)
                with _cut_off(connection.sock, end):
                    connection.request("GET", parts.path, headers={"User-Agent": "pseudoword"})
                    answer = connection.getresponse()
                    onward = answer.headers.get("Location", "") if answer.status in _ONWARD else ""
                    if not onward:
                        return _copy(parts, answer, file, end)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= end:
                reason = f"did not come within {SECONDS} seconds: try again, or fetch it yourself"
            else:
                reason = f"cannot be had ({shown(str(error))}): try again, or check the address"
            raise ServiceError(f"{parts.url} {reason}.") from None
        url = _joined(url, onward)
    raise InputError(f"{parts.url} leads on and on: name the address where the file lies.")


def _copy(parts: _Parts, answer: http.client.HTTPResponse, file: IO[bytes], end: float) -> None:
    if answer.status != 200:
        raise InputError(f"{parts.url} answers {answer.status} {shown(answer.reason)}: check the address.")
    size = 0
    while chunk := answer.read1(_CHUNK):
        size += len(chunk)
        if size > MAX_SOURCE_BYTES:
            raise InputError(f"{parts.url} is over {MAX_SOURCE_BYTES // 2**20} MiB: name a smaller file.")
        file.write(chunk)
    if answer.length or time.monotonic() >= end:  # a connection that is cut off ends like any other
        raise http.client.IncompleteRead(b"", answer.length)


def _parts(url: str) -> _Parts:
    """Take an address apart. Raises InputError for one that cannot be asked."""
    said = shown(re.sub(r"//[^/?#]*@", "//", url))  # a password is shown nowhere
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port
        host = name if ":" in name else name.encode("idna").decode()
    except ValueError:  # brackets that do not close, a port or a name that cannot be
        raise InputError(f"{said} is no http(s) address: check how it is written.") from None
    if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(host) or port == 0:
        raise InputError(f"{said} is no http(s) address: check how it is written.")
    if parts.username is not None:
        raise InputError(f"{said} was given with a name or password, which are not sent: name an address without.")
    path = quote(parts.path or "/", safe=_AS_THEY_ARE)
    if parts.query:
        path += "?" + quote(parts.query, safe=_AS_THEY_ARE)
    https = parts.scheme == "https"
    return _Parts(said, https, host, port or (443 if https else 80), path)


def _joined(url: str, onward: str) -> str:
    try:
        return urljoin(url, onward)
    except ValueError:
        return onward  # which is told to be no address


def _connected(parts: _Parts, settings: Settings, end: float) -> socket.socket:
    """A connection to an address that the host has now, after all that it has were checked. How long names are looked
    up is the system's own matter."""
    found = socket.getaddrinfo(parts.host, parts.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    own = [one for one in addresses if not _is_public(ipaddress.ip_address(one.partition("%")[0]))]
    if own and not settings.private_addresses:
        raise InputError(
            f"{parts.url} lies in a network of one's own ({own[0]}): set PSEUDOWORD_PRIVATE_ADDRESSES=true to allow it."
        )
    plain = _first(addresses, parts.port, end)
    if not parts.https:
        return plain
    plain.settimeout(_seconds(end))
    return ssl.create_default_context().wrap_socket(plain, server_hostname=parts.host)


def _first(addresses: list[str], port: int, end: float) -> socket.socket:
    """A connection to the first of the addresses that takes one."""
    for address in addresses[:-1]:
        with suppress(OSError):
            return socket.create_connection((address, port), _seconds(end))
    return socket.create_connection((addresses[-1], port), _seconds(end))


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address lies in the internet, and so does the IPv4 address that it stands for if it stands for one."""
    if isinstance(address, ipaddress.IPv6Address):
        nat64 = ipaddress.IPv4Address(int(address) % 2**32) if address in _NAT64 else None
        address = nat64 or address.ipv4_mapped or address.sixtofour or address
    return address.is_global and not address.is_multicast and not any(address in one for one in _OWN)


def _seconds(end: float) -> float:
    return max(min(SECONDS_EACH, end - time.monotonic()), 0.001)


@contextmanager
def _cut_off(connection: socket.socket, end: float) -> Iterator[None]:
    """End a connection when the time is over, whatever it is doing: each byte that drips in would give it more."""

    def cut() -> None:
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # of TLS as well, without asking the other side

    timer = Timer(max(end - time.monotonic(), 0), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
