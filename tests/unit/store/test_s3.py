"""S3Store where no real server answers as needed: closed ports, no credentials, 409 and lost replies."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ti_core.errors import ConflictError, InputError, ServiceError
from ti_core.settings import Settings
from ti_core.store import open_store
from ti_core.store.s3 import CONFLICT_TRIES


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[Settings, list[str]]]:
    """A server that answers one request after the other with these statuses, the last one for ever.

    Yields the settings to reach it and the methods it was asked with.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = statuses[min(len(asked), len(statuses) - 1)]
            asked.append(self.command)
            body = b"" if status == 200 else f"<Error><Code>Code{status}</Code><Message>no</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{server.server_port}"
            yield Settings(s3_endpoint_url=endpoint, s3_addressing="path", store="s3://words/some/prefix"), asked
        finally:
            server.shutdown()
            thread.join()


def test_a_conflicting_operation_is_waited_out() -> None:
    with answering(409, 409, 200) as (settings, asked):
        assert open_store(settings).create("key", b"x") is True
    assert asked == ["PUT"] * 3


def test_a_conflict_that_does_not_end_is_told() -> None:
    with answering(409) as (settings, asked):
        with pytest.raises(ServiceError, match="s3://words/some/prefix is busy with other writes to key"):
            open_store(settings).create("key", b"x")
    assert asked == ["PUT"] * CONFLICT_TRIES


def test_after_a_conflict_the_condition_may_fail() -> None:
    with answering(409, 412) as (settings, _):
        assert open_store(settings).create("key", b"x") is False
    with answering(409, 412) as (settings, _):
        with pytest.raises(ConflictError):
            open_store(settings).replace("key", b"x", '"etag"')


def test_transient_failures_are_retried() -> None:
    with answering(503, 200) as (settings, asked):
        open_store(settings).put("key", b"x")
    assert asked == ["PUT"] * 2


def test_an_unknown_refusal_is_quoted() -> None:
    with answering(400) as (settings, _):
        with pytest.raises(ServiceError, match=r"s3://words/some/prefix failed to answer .*Code400"):
            open_store(settings).get("key")


def test_an_unreachable_endpoint_is_told_soon() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        settings = Settings(s3_endpoint_url=f"http://127.0.0.1:{closed.getsockname()[1]}", store="s3://words")
        store = open_store(settings)
        began = time.monotonic()
        with pytest.raises(ServiceError, match=r"s3://words does not answer .*PSEUDOWORD_S3_ENDPOINT_URL"):
            store.get("key")
        assert time.monotonic() - began < 10


def test_the_endpoint_may_come_from_boto3s_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200) as (settings, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", settings.s3_endpoint_url)
        open_store(Settings(s3_addressing="path", store="s3://words")).put("key", b"x")
    assert asked == ["PUT"]


def test_missing_credentials_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ServiceError, match=r"no credentials for the store s3://words .*AWS_ACCESS_KEY_ID"):
        open_store(Settings(), "s3://words").get("key")


def test_half_a_pair_of_credentials_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ServiceError, match="no credentials for the store s3://words"):
        open_store(Settings(), "s3://words")


def test_an_unknown_profile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ServiceError, match=r"s3://words cannot be used: .*nobody"):
        open_store(Settings(), "s3://words")


def test_a_wrong_endpoint_is_told() -> None:
    with pytest.raises(InputError, match="PSEUDOWORD_S3_ENDPOINT_URL"):
        open_store(Settings(s3_endpoint_url="localhost:9000"), "s3://words")


def test_a_wrong_bucket_name_is_told() -> None:
    with pytest.raises(InputError, match="'My Words' is no bucket's name"):
        open_store(Settings(), "s3://My Words/x").get("key")
