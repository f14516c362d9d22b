"""Pages on this machine: a copy of each run's page, and of the last batch's, under `<home>/pages`
(of a namespace, under its own folder there), to be opened.

The pages that count are blobs of the store; these are conveniences and may be deleted.
"""

import os
from html import escape
from pathlib import Path

from ti_core.settings import Settings


def page_path(settings: Settings, concept: str, base: str, judge_key: str) -> Path:
    """Where the copy of a run's page lies: each judged run has its own, so that none takes another's place."""
    return settings.shown_in.absolute() / "pages" / f"{concept}.{base}.{judge_key[:12]}.html"


def write_page(settings: Settings, concept: str, base: str, judge_key: str, html: bytes) -> Path:
    """Write the copy of a run's page; returns its path."""
    return _write(page_path(settings, concept, base, judge_key), html)


def with_notice(html: bytes, text: str) -> bytes:
    """A page with a sentence at its top; all pages so far have one `<main>`."""
    return html.replace(b"<main>", f'<main>\n<p class="notice warn">{escape(text)}</p>'.encode(), 1) if text else html


def write_batch_page(settings: Settings, html: bytes) -> Path:
    """Write the page of the last batch; returns its path. It links to concept pages in the same folder."""
    return _write(settings.shown_in.absolute() / "pages" / "batch.html", html)


def _write(path: Path, html: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # another process may be writing the same page
    try:
        partial.write_bytes(html)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
