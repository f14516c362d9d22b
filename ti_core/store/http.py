"""A store as a web server shows it: objects by their address, to be read and nothing else.

For readers without keys: a public bucket, a content delivery network, any server over a store's folder. Such a server
gives no listing, so whoever asks has to say which base model he means. This module does not know what is stored.
"""

import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from typing import NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import quote

from ti_core.errors import InputError, NotFoundError, ServiceError
from ti_core.store.base import Listed, Stored, check_key

SECONDS, TRIES = 10, 3
"""How long an answer is waited for, and how often a request is sent that gets none."""
MISSING = {403, 404, 410}
"""What servers answer for an object that is not there; Amazon S3 says 403 to those who may not list."""


class HttpStore:
    """A `Store` at an http(s) address that can only be read. What writes or lists raises InputError."""

    def __init__(self, address: str) -> None:
        self.uri = address.rstrip("/")

    def get(self, key: str) -> Stored:
        """Read one object. Raises NotFoundError."""
        answer = self._asked("GET", key)
        if answer is None:
            raise NotFoundError(f"There is no {key} in the store {self.uri}.")
        return answer

    def exists(self, key: str) -> bool:
        """Whether an object is there."""
        return self._asked("HEAD", key) is not None

    def url(self, key: str) -> str:
        """The object's address."""
        return f"{self.uri}/{quote(check_key(key))}"

    def keys(self, prefix: str) -> Iterator[str]:
        """Raises InputError: there is no listing."""
        self._refuse(f"does not tell what lies under {prefix}: check the name, and name the base model (--base-model)")

    def entries(self, prefix: str) -> Iterator[Listed]:
        """Raises InputError: there is no listing."""
        self._refuse(f"does not tell what lies under {prefix}: check the name, and name the base model (--base-model)")

    def put(self, key: str, data: bytes) -> None:
        """Raises InputError."""
        self._refuse("can only be read")

    def create(self, key: str, data: bytes) -> bool:
        """Raises InputError."""
        self._refuse("can only be read")

    def replace(self, key: str, data: bytes, etag: str) -> None:
        """Raises InputError."""
        self._refuse("can only be read")

    def delete(self, key: str) -> None:
        """Raises InputError."""
        self._refuse("can only be read")

    def _asked(self, method: str, key: str) -> Stored | None:
        """The answer; None for what is not there. Raises ServiceError for every other one, and for none."""
        request = urllib.request.Request(self.url(key), method=method)  # noqa: S310  # http or https: open_store looks
        for left in reversed(range(TRIES)):
            try:
                with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
                    return Stored(answer.read(), answer.headers.get("ETag", ""))
            except HTTPError as error:
                if error.code in MISSING:
                    return None
                if error.code < 500 or not left:
                    raise ServiceError(
                        f"The store {self.uri} answers {error.code} ({error.reason}) for {key}."
                    ) from None
            except (URLError, OSError, HTTPException) as error:
                if not left:
                    reason = getattr(error, "reason", error)
                    raise ServiceError(
                        f"The store {self.uri} does not answer in {SECONDS} seconds, tried {TRIES} times ({reason})."
                    ) from None
            time.sleep(0.2)
        raise AssertionError  # the last try returns or raises

    def _refuse(self, why: str) -> NoReturn:
        raise InputError(f"The store {self.uri} is read over HTTP, and {why}; s3://bucket/prefix or a folder does all.")
