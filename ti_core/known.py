"""What a list of concepts has already: told as it is asked for today, without doing the work again.

The page of a known run may be missing on this machine, may show training pictures that are to be hidden, or may come
from an earlier version, which the page must say. It trains and judges nothing, and imports nothing heavy unless a page
is to be drawn anew.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from ti_core import outbox
from ti_core.errors import PseudowordError
from ti_core.publishing.catalogue import by_earlier_version, manifest_at
from ti_core.publishing.transaction import show_pictures
from ti_core.reporting.pages import page_path, with_notice, write_page
from ti_core.settings import Settings
from ti_core.store import Store, get_blob
from ti_core.works import Work

log = logging.getLogger(__name__)


def pages_as_asked(works: Sequence[Work], settings: Settings, store: Store) -> list[Work]:
    """See to the pages of the works that have an outcome; returns all works.

    Training pictures are shown or hidden where the request says so itself; one that says nothing changes nothing, so
    that the next batch does not show what somebody has hidden. Where that cannot be done, the work leaves with the
    reason.
    """
    after, redrawn = [], False
    for work in works:
        try:
            redrawn |= work.outcome is not None and _told(work, settings, store)
            after.append(work)
        except PseudowordError as error:
            after.append(replace(work, outcome=None, error=error))
    if redrawn:
        outbox.tell(settings, store)
    return after


def _told(work: Work, settings: Settings, store: Store) -> bool:
    """Bring the page of one known work up to date; returns whether it was drawn anew."""
    plan, outcome = work.planned, work.outcome
    assert outcome is not None  # noqa: S101  # for the type checker
    earlier = by_earlier_version(plan, outcome)
    asked = "show_pictures" in plan.concept.model_fields_set
    there = page_path(settings, outcome.concept, outcome.base, outcome.judge_key).is_file()
    if there and not earlier and not asked:
        return False
    manifest = manifest_at(store, outcome.manifest)
    wanted = show_pictures(store, manifest, plan.concept.show_pictures) if asked else manifest
    if wanted is not manifest or earlier or not there:
        html = with_notice(get_blob(store, wanted.page), earlier)
        write_page(settings, outcome.concept, outcome.base, outcome.judge_key, html)
    return wanted is not manifest
