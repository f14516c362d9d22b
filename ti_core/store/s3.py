"""A store in an S3 bucket, or in any store that speaks S3 with conditional writes.

Credentials and region are boto3's own business (environment, profile, instance role); endpoint, addressing and
checksums come from the settings. This module does not know what is stored.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # boto's own; it hides a builtin that is not used here
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from ti_core.errors import ConflictError, InputError, NotFoundError, ServiceError
from ti_core.settings import Settings
from ti_core.store.base import Listed, Stored, check_key, check_prefix, is_key

CONNECT_SECONDS = 5
READ_SECONDS = 10
TRIES = 3
"""How often a request is sent that gets no answer. A silent store is told after some 35 seconds at the most, one that
refuses connections after two."""
CONFLICT_TRIES = 6
"""How often a write is sent that the server answers with 409, 'a conflicting operation is under way'. The pauses
between them double and add up to 0.8–1.6 s."""

_jitter = random.SystemRandom()


class S3Store:
    """A `Store` in `bucket` under `prefix` (may be empty). One instance may be used from many threads.

    boto3 repeats a request whose answer was lost. A repeated conditional write can meet its own first copy: then
    `create` returns False and `replace` raises ConflictError although the object is this call's. Who must know reads
    it back. Opening makes no connection; it raises InputError when the endpoint is no URL and ServiceError when the
    AWS profile or the credentials are incomplete.
    """

    def __init__(self, bucket: str, prefix: str, settings: Settings) -> None:
        self._bucket = bucket
        self._prefix = check_key(prefix) + "/" if prefix else ""
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": TRIES},
            s3={"addressing_style": settings.s3_addressing},
            request_checksum_calculation=settings.s3_checksums,
            response_checksum_validation=settings.s3_checksums,
        )
        with self._told():
            try:
                # A session of its own: boto3's default session is not safe to share between threads.
                session = boto3.session.Session()
                self._client = session.client("s3", endpoint_url=settings.s3_endpoint_url or None, config=config)
            except ValueError as error:
                raise InputError(
                    f"The endpoint of the store {self.uri} cannot be used ({error}): set PSEUDOWORD_S3_ENDPOINT_URL to "
                    "a URL such as https://s3.example.com."
                ) from None

    def get(self, key: str) -> Stored:
        """Read one object. Raises NotFoundError."""
        with self._told():
            try:
                answer = self._client.get_object(**self._at(key))
                return Stored(answer["Body"].read(), answer["ETag"])
            except ClientError as error:
                if _code(error) != "NoSuchKey":
                    raise
                raise NotFoundError(f"There is no {key} in the store {self.uri}.") from None

    def put(self, key: str, data: bytes) -> None:
        """Write or overwrite one object."""
        self._write(key, data)

    def create(self, key: str, data: bytes) -> bool:
        """Write one object only if none is there. Returns whether this call wrote it."""
        return self._write(key, data, IfNoneMatch="*")

    def replace(self, key: str, data: bytes, etag: str) -> None:
        """Overwrite one object only if its tag is still `etag`. Raises ConflictError if it changed or is gone."""
        if not self._write(key, data, IfMatch=etag):
            raise ConflictError(f"{key} in the store {self.uri} was changed meanwhile: read it again.")

    def exists(self, key: str) -> bool:
        """Whether an object is there."""
        with self._told():
            try:
                self._client.head_object(**self._at(key))
            except ClientError as error:
                if _status(error) != 404:
                    raise
                # The answer to a HEAD has no body to say whether the object is missing or the whole bucket.
                self._client.head_bucket(Bucket=self._bucket)
                return False
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that start with `prefix`, in lexical order. The listing is taken at the first step."""
        return (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[Listed]:
        """What `keys` gives, with sizes, tags and times. The listing is taken at the first step."""
        return self._entries(check_prefix(prefix))

    def delete(self, key: str) -> None:
        """Remove one object; an absent one is no error."""
        with self._told():
            self._client.delete_object(**self._at(key))

    def url(self, key: str) -> str:
        """The object's s3:// URL."""
        return f"{self.uri}/{check_key(key)}"

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}

    def _entries(self, prefix: str) -> Iterator[Listed]:
        with self._told():
            paginator = self._client.get_paginator("list_objects_v2")
            pages = paginator.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
            there = [entry for page in pages for entry in page.get("Contents", ())]
        found = (
            Listed(one["Key"].removeprefix(self._prefix), one["Size"], one["ETag"], one["LastModified"])
            for one in there
        )
        # AWS sorts whole keys; servers that keep folders list folder by folder, 'a/x' before 'a-b/x'.
        yield from sorted((one for one in found if is_key(one.key)), key=lambda one: one.key)

    def _write(self, key: str, data: bytes, **condition: str) -> bool:
        """Put one object. Returns False when the condition does not hold: 412, or no object to match."""
        for attempt in range(CONFLICT_TRIES):
            if attempt:
                time.sleep(_jitter.uniform(0.5, 1.0) * 0.025 * 2**attempt)
            with self._told():
                try:
                    self._client.put_object(**self._at(key), Body=data, **condition)
                    return True
                except ClientError as error:
                    if _status(error) == 412 or _code(error) == "NoSuchKey":
                        return False
                    if _status(error) != 409:
                        raise
        raise ServiceError(f"The store {self.uri} is busy with other writes to {key}: try again.")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Put boto's errors into a sentence."""
        try:
            yield
        except ParamValidationError as error:
            raise InputError(f"{self.uri} cannot name a store: {self._bucket!r} is no bucket's name.") from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise ServiceError(
                f"There are no credentials for the store {self.uri} ({error}): set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or an AWS profile."
            ) from error
        except (ConnectionError, HTTPClientError) as error:
            raise ServiceError(
                f"The store {self.uri} does not answer within {READ_SECONDS} seconds, tried {TRIES} times ({error}): "
                "check that it runs and that PSEUDOWORD_S3_ENDPOINT_URL is right."
            ) from error
        except BotoCoreError as error:
            raise ServiceError(f"The store {self.uri} cannot be used: {error}") from error
        except ClientError as error:
            raise ServiceError(self._refusal(error)) from error

    def _refusal(self, error: ClientError) -> str:
        code, status = _code(error), _status(error)
        if code == "NoSuchBucket" or (error.operation_name == "HeadBucket" and status == 404):
            return f"There is no bucket for the store {self.uri}: create it, or correct the bucket's name."
        if status == 403:
            return f"The store {self.uri} refuses access ({code}): check the credentials and what they may do there."
        return f"The store {self.uri} failed to answer ({error})."


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> Any:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
