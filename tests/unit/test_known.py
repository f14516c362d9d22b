"""What a list has already: its pages are brought, hide and show pictures, and say where an earlier version did it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.builders import done, judged
from ti_core import known, outbox
from ti_core.errors import ConflictError
from ti_core.known import pages_as_asked
from ti_core.publishing.catalogue import manifest_of
from ti_core.records import Manifest
from ti_core.reporting.pages import page_path
from ti_core.settings import Settings
from ti_core.store import Store, get_blob, open_store
from ti_core.works import Work


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def store(settings: Settings) -> Store:
    return open_store(settings)


@pytest.fixture
def work(store: Store, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A known work whose request says nothing of its pictures; the tracking server is of no interest."""
    monkeypatch.setattr(outbox, "tell", lambda *_: None)
    manifest = judged(store)
    assert "show_pictures" not in manifest.plan.concept.model_fields_set
    return Work(0, "cat-toy", manifest.plan, outcome=done(store, manifest), known=True)


def asking(work: Work, **changes: object) -> Work:
    """The same work, of which today's request says this."""
    concept = work.planned.concept.model_copy(update=changes)
    return replace(work, plan=work.planned.model_copy(update={"concept": concept}))


def page(work: Work, settings: Settings) -> bytes:
    assert work.outcome
    return page_path(settings, "cat-toy", "miniature", work.outcome.judge_key).read_bytes()


def kept(work: Work, store: Store) -> Manifest:
    found = manifest_of(store, work.planned)
    assert found
    return found


def test_a_page_that_is_missing_here_is_brought(work: Work, settings: Settings, store: Store) -> None:
    assert pages_as_asked([work], settings, store) == [work]
    assert page(work, settings) == get_blob(store, kept(work, store).page)


def test_pictures_are_hidden_where_the_request_says_so(work: Work, settings: Settings, store: Store) -> None:
    pages_as_asked([work], settings, store)
    shown = page(work, settings)
    hiding = asking(work, show_pictures=False)
    assert pages_as_asked([hiding], settings, store) == [hiding]
    assert not kept(work, store).plan.concept.show_pictures
    assert page(work, settings) == get_blob(store, kept(work, store).page) != shown
    pages_as_asked([work], settings, store)  # says nothing: nothing is shown that somebody has hidden
    assert not kept(work, store).plan.concept.show_pictures
    pages_as_asked([asking(work, show_pictures=True)], settings, store)
    assert kept(work, store).plan.concept.show_pictures


def test_a_page_says_where_an_earlier_version_did_it(work: Work, settings: Settings, store: Store) -> None:
    today = replace(work, plan=work.planned.model_copy(update={"judge_key": "0" * 32}))
    pages_as_asked([asking(work, show_pictures=False)], settings, store)  # draws a real page
    assert b"An earlier version of Pseudoword" not in page(work, settings)
    pages_as_asked([today], settings, store)
    assert page(work, settings).count(b"An earlier version of Pseudoword did this on") == 1


def test_what_cannot_be_hidden_is_told(
    work: Work, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Manifest:
        raise ConflictError("Somebody else changes it.")

    monkeypatch.setattr(known, "show_pictures", fails)
    other = replace(work, place=1, known=False, outcome=None)
    (failed, same) = pages_as_asked([asking(work, show_pictures=False), other], settings, store)
    assert isinstance(failed.error, ConflictError) and failed.outcome is None
    assert same is other
