"""Copies of pages in the data folder."""

import os
from pathlib import Path

import pytest

from ti_core.reporting.pages import page_path, write_batch_page, write_page
from ti_core.settings import Settings

KEY = "ab" * 16


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "data")


def test_a_page_lies_where_it_is_looked_for_and_links_work_between_pages(settings: Settings) -> None:
    cat = write_page(settings, "cat", "miniature", KEY, b"<p>cat")
    batch = write_batch_page(settings, b"<p>batch")
    assert cat == page_path(settings, "cat", "miniature", KEY) and cat.read_bytes() == b"<p>cat"
    assert batch.read_bytes() == b"<p>batch"
    assert batch.parent == cat.parent and cat.is_absolute()
    assert page_path(settings, "cat", "sd15", KEY) != cat
    assert page_path(settings, "cat", "miniature", "cd" * 16) != cat  # each judged run has its own
    assert cat.name == "cat.miniature.abababababab.html"
    assert sorted(path.name for path in cat.parent.iterdir()) == ["batch.html", cat.name]


def test_a_page_is_replaced_whole(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_page(settings, "cat", "miniature", KEY, b"old")
    write_page(settings, "cat", "miniature", KEY, b"new")
    assert page.read_bytes() == b"new"

    def refuse(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        write_page(settings, "cat", "miniature", KEY, b"newer")
    assert page.read_bytes() == b"new"
    assert list(page.parent.iterdir()) == [page]


def test_each_process_writes_a_partial_of_its_own(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    whole = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: (written.append(path.name), whole(path, data))[1])
    write_page(settings, "cat", "miniature", KEY, b"page")
    assert str(os.getpid()) in written[0] and written[0].endswith(".partial")
