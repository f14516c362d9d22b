from pathlib import Path

import pytest

from ti_core.errors import ConflictError, IntegrityError, ServiceError
from ti_core.store import Stored, lease
from ti_core.store.folder import FolderStore


class LostReplies(FolderStore):
    """A store whose conditional writes happen but look refused, as when boto3 repeats one whose answer was lost."""

    def create(self, key: str, data: bytes) -> bool:
        super().create(key, data)
        return False

    def replace(self, key: str, data: bytes, etag: str) -> None:
        super().replace(key, data, etag)
        raise ConflictError("refused")


class Failing(FolderStore):
    """A store that goes away while the lease is held."""

    away = False

    def get(self, key: str) -> Stored:
        if self.away:
            raise ServiceError("The store does not answer.")
        return super().get(key)


def test_a_write_whose_answer_was_lost_is_ours(tmp_path: Path) -> None:
    store = LostReplies(tmp_path)
    for _ in range(2):  # first by create, then by replace
        with lease(store, "work", seconds=600, wait=0):
            with pytest.raises(ServiceError, match="is held by"):
                with lease(FolderStore(tmp_path), "work", wait=0):
                    pytest.fail("two at once")


def test_a_store_that_goes_away_does_not_hide_the_works_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Failing(tmp_path)
    with lease(store, "work"):
        store.away = True
    assert "could not be given back" in caplog.text


def test_a_damaged_lease_is_told_and_left(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("leases/work.json", b"not json")
    with pytest.raises(IntegrityError, match=r"leases/work\.json is damaged"):
        with lease(store, "work"):
            pytest.fail("entered")
    assert store.get("leases/work.json").data == b"not json"
