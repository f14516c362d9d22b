"""Leases: one worker at a time, over threads, processes and machines, through the store alone.

A lease is the object `leases/<name>.json` with an owner and an expiry. It is taken by `create`, or by `replace` once
its expiry has passed, and given back by replacing it with an expired one: never by deleting, which could remove a
successor's lease. This module does not know what is protected.

Clocks: expiries are wall-clock times, so the machines' clocks must agree to within a small part of `seconds` (NTP
does). A clock that runs ahead by `seconds` takes living leases over. A lease is not renewed: work that takes longer
than `seconds` may find a second worker beside it. So what a lease protects must stay correct then (a repeated
version, not a lost champion), and pointers are moved by compare-and-swap all the same.
"""

import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from ti_core.errors import ConflictError, NotFoundError, ServiceError
from ti_core.records import Document
from ti_core.store.base import Store

_log = logging.getLogger(__name__)
_jitter = random.SystemRandom()


class Lease(Document):
    """Who may work, and until when. Expired or never held is the same."""

    owner: str
    expires: datetime


@contextmanager
def lease(store: Store, name: str, seconds: float = 60.0, wait: float = 30.0) -> Iterator[None]:
    """Hold the lease `name` for the body of the `with`, at most `seconds`.

    `name` is a key, or the parts of one. Waits up to `wait` seconds for the present owner. Raises ServiceError saying
    who holds it and until when if it stays taken.
    """
    key = f"leases/{name}.json"
    owner = f"{socket.gethostname()}, process {os.getpid()}, {uuid.uuid4().hex[:12]}"
    _take(store, key, owner, seconds, time.monotonic() + wait)
    try:
        yield
    finally:
        _give_back(store, key, owner)


def _take(store: Store, key: str, owner: str, seconds: float, deadline: float) -> None:
    while True:
        mine = Lease(owner=owner, expires=datetime.now(UTC) + timedelta(seconds=seconds)).to_bytes()
        try:
            stored = store.get(key)
        except NotFoundError:
            if store.create(key, mine):
                return
            continue
        current = Lease.from_bytes(stored.data, store.url(key))
        # A write of ours whose answer was lost is ours all the same.
        if current.owner == owner:
            return
        if current.expires <= datetime.now(UTC):
            try:
                store.replace(key, mine, stored.etag)
                return
            except ConflictError:
                continue
        if time.monotonic() >= deadline:
            raise ServiceError(
                f"{store.url(key)} is held by {current.owner} until {current.expires:%Y-%m-%d %H:%M:%S} UTC: "
                "try again then."
            )
        time.sleep(_jitter.uniform(0.05, 0.2))


def _give_back(store: Store, key: str, owner: str) -> None:
    """Expire the lease if it is still ours. Failing here must not hide how the work itself ended."""
    try:
        stored = store.get(key)
        if Lease.from_bytes(stored.data, store.url(key)).owner == owner:
            store.replace(key, Lease(owner=owner, expires=datetime.now(UTC)).to_bytes(), stored.etag)
            return
    except (ConflictError, NotFoundError):
        pass
    except ServiceError as error:
        _log.warning("%s could not be given back and stays taken until it expires: %s", store.url(key), error)
        return
    _log.warning("%s expired before its work was done and was taken over", store.url(key))
