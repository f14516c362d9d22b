"""Pictures from an http(s) address: one archive, downloaded to a temporary file within limits of size and time.

Whoever may name an address makes this machine ask for it, so addresses of one's own network are refused unless a
setting allows them: the connection goes to the very address that was checked, also after a redirect.
"""

import http.client
import ipaddress
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import IO
from urllib.parse import urljoin, urlsplit

from ti_core.errors import InputError, ServiceError
from ti_core.images.names import shown
from ti_core.images.sources import MAX_SOURCE_BYTES
from ti_core.settings import Settings

SECONDS_EACH = 30
"""For one answer of the server."""
SECONDS = 600
"""For the whole download."""
REDIRECTS = 5
_CHUNK = 2**16


@contextmanager
def downloaded(url: str, settings: Settings) -> Iterator[IO[bytes]]:
    """The file at an http(s) address, open for reading.

    Raises InputError for an address that may not be asked, is no file, or is too large; ServiceError when the server
    does not answer, or not in time.
    """
    with tempfile.TemporaryFile() as file:
        try:
            _fetch(url, file, settings)
        except (OSError, http.client.HTTPException) as error:
            raise ServiceError(
                f"{shown(url)} cannot be had ({shown(str(error))}): try again, or check the address."
            ) from None
        file.seek(0)
        yield file


def _fetch(url: str, file: IO[bytes], settings: Settings) -> None:
    end = time.monotonic() + SECONDS
    for _ in range(REDIRECTS + 1):
        parts = urlsplit(url)
        with closing(_connected(url, settings)) as connection:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"User-Agent": "pseudoword"})
            answer = connection.getresponse()
            onward = answer.headers.get("Location")
            if answer.status in {301, 302, 303, 307, 308} and onward:
                url = urljoin(url, onward)
                continue
            if answer.status != 200:
                raise InputError(f"{shown(url)} answers {answer.status} {shown(answer.reason)}: check the address.")
            return _copy(url, answer, file, end)
    raise InputError(f"{shown(url)} leads on and on: name the address where the file lies.")


def _copy(url: str, answer: http.client.HTTPResponse, file: IO[bytes], end: float) -> None:
    size = 0
    while chunk := answer.read(_CHUNK):
        size += len(chunk)
        if size > MAX_SOURCE_BYTES:
            raise InputError(f"{shown(url)} is over {MAX_SOURCE_BYTES // 2**20} MiB: name a smaller file.")
        if time.monotonic() > end:
            raise ServiceError(f"{shown(url)} did not come within {SECONDS} seconds: try again, or fetch it yourself.")
        file.write(chunk)


def _connected(url: str, settings: Settings) -> http.client.HTTPConnection:
    """A connection to the address that a URL's host has now, which has been checked."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host = None
    if parts.scheme not in {"http", "https"} or not host:
        raise InputError(f"{shown(url)} is no http(s) address.")
    address = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
    if not settings.private_addresses and not ipaddress.ip_address(address.partition("%")[0]).is_global:
        raise InputError(
            f"{shown(url)} lies in a network of one's own ({address}): set PSEUDOWORD_PRIVATE_ADDRESSES=true to "
            "allow it."
        )
    plain = socket.create_connection((address, port), timeout=SECONDS_EACH)
    if parts.scheme == "https":
        plain = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS_EACH)
    connection.sock = plain
    return connection
