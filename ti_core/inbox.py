"""The inbox: a prefix or folder where every sub-folder that is dropped is a concept to be learned.

It tells which folders there are, whether they are still being written to, and which were dealt with as they are now. A
folder whose files change is a new one. It reads no picture and starts nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ti_core.images.names import is_litter, shown
from ti_core.keys import digest
from ti_core.planning.batch import BatchItem, concept_at
from ti_core.records import SEEN, TAKEN, Taken, now, seen_key, taken_key
from ti_core.settings import Settings
from ti_core.store import Listed, Store, open_store

SETTLED = timedelta(minutes=2)
"""A folder in which nothing changes between two looks that are so far apart is all there. The times of its files say
less: many tools give a copy those of its original."""


@dataclass(frozen=True)
class Dropped:
    """A folder of the inbox as it is now. Files that lie beside the folders are one of no name."""

    name: str
    place: str
    digest: str
    """Of its listing: names, sizes, tags and times."""


def dropped(settings: Settings) -> list[Dropped]:
    """What lies in the inbox, in order of name; nothing where there is none. Raises ServiceError for a silent store."""
    inbox, folders = open_store(settings, settings.inbox_uri), dict[str, list[Listed]]()
    for one in inbox.entries(""):
        if not is_litter(one.key):
            folder, slash, _ = one.key.partition("/")
            folders.setdefault(folder if slash else "", []).append(one)
    return [
        Dropped(
            name, inbox.url(name) if name else inbox.uri,
            digest([(one.key, one.size, one.etag, one.written.isoformat()) for one in files]),
        )
        for name, files in sorted(folders.items())
    ]  # fmt: skip


def settled(there: Sequence[Dropped], store: Store, at: datetime) -> list[Dropped]:
    """Those that nobody has dealt with and that are as they were at a look some time before; `at` is now. Of the others
    it is noted that they were seen. What is noted of folders that are there no more, or not so, is forgotten."""
    seen = {one.key: one.written for one in store.entries(SEEN)}
    taken = set(store.keys(TAKEN))
    fresh = [one for one in there if taken_key(one.digest) not in taken]
    present = {seen_key(one.digest) for one in fresh} | {taken_key(one.digest) for one in there}
    for key in (seen.keys() | taken) - present:
        store.delete(key)
    for one in fresh:
        store.create(seen_key(one.digest), b"")
    return [one for one in fresh if (key := seen_key(one.digest)) in seen and at - seen[key] >= SETTLED]


def take(one: Dropped, run: str, store: Store) -> None:
    """Take down that a folder was dealt with as it is now: by a run, or by "", with a word to whoever looks."""
    store.put(taken_key(one.digest), Taken(run=run, when=now()).to_bytes())


def concept_of(one: Dropped, class_word: str, settings: Settings) -> BatchItem:
    """The concept of a folder, or why it is none."""
    if not one.name:
        reason = f"Files lie beside the folders of {one.place}: put each concept's pictures into a folder of its name."
        return BatchItem("files", None, reason)
    item = concept_at(one.name, one.place, class_word, settings)
    return item if item.spec else BatchItem(shown(one.name), None, item.reason)
