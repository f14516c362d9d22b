"""Pages on this machine: a copy of each concept's page, and of the last batch's, under `<home>/pages`, to be opened.

The pages that count are blobs of the store; these are conveniences and may be deleted.
"""

from pathlib import Path

from ti_core.settings import Settings


def page_path(settings: Settings, concept: str, base: str) -> Path:
    """Where the copy of a concept's latest page lies."""
    return settings.home.absolute() / "pages" / f"{concept}.{base}.html"


def write_page(settings: Settings, concept: str, base: str, html: bytes) -> Path:
    """Write the copy of a concept's page; returns its path."""
    return _write(page_path(settings, concept, base), html)


def write_batch_page(settings: Settings, html: bytes) -> Path:
    """Write the page of the last batch; returns its path. It links to concept pages in the same folder."""
    return _write(settings.home.absolute() / "pages" / "batch.html", html)


def _write(path: Path, html: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(html)
    partial.replace(path)
    return path
