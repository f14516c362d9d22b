"""A bucket without a server."""

from pathlib import Path

import pytest

from ti_core.images import sources
from ti_core.settings import Settings
from ti_core.store.folder import FolderStore


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """What stands in for every bucket: a folder store that knows the prefix it was opened at."""
    root = tmp_path / "bucket"

    def open_store(settings: Settings, uri: str) -> FolderStore:
        return FolderStore(root / uri.removeprefix("s3://bucket").strip("/"))

    monkeypatch.setattr(sources, "open_store", open_store)
    return FolderStore(root)
