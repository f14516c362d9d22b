"""Bringing the pictures of one concept to where workers read them, with what is said of it in a `concept.toml` beside
them, so that whoever reads the place, the nightly batch too, reads the same.

Bytes that are there already are not sent again, and what others have put there is not mixed with it. It checks no
picture and starts nothing.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ti_core.config import WORD_FILES
from ti_core.errors import InputError
from ti_core.images.layout import arranged
from ti_core.images.names import is_litter, shown
from ti_core.images.opening import opened
from ti_core.images.sources import Entry, TooMuchError
from ti_core.planning.batch import BASE_MODEL, CONCEPT_FILE, BatchItem, concept_at
from ti_core.quoting import quoted
from ti_core.settings import Settings
from ti_core.store import Listed, Store, open_store
from ti_core.store.base import check_key


@dataclass(frozen=True)
class Brought:
    """Where the pictures lie now, and how many files had to be sent for it."""

    item: BatchItem
    """The concept as it is read there."""
    sent: int
    known: int


def described(source: str, name: str, said: Mapping[str, Any], settings: Settings) -> BatchItem:
    """The concept whose pictures lie at `source`: what is `said` of its fields, else what its `concept.toml` says.

    Raises InputError for what cannot be, or cannot be brought.
    """
    if "://" in source.removeprefix("s3://"):
        raise InputError(f"{shown(source)} can be read by the workers as it is: name it as the pictures of a run.")
    item = concept_at(name, source, "", settings, said)
    if item.spec is None:
        reason = item.reason
        if reason.startswith("class_word:") and not said.get("class_word"):
            with opened(source, settings):  # a source that is not there is told first
                reason = "Say what kind of thing it is: --class-word toy, or class_word in its concept.toml."
        raise InputError(reason)
    if item.spec.initializer.lower().endswith(WORD_FILES):
        raise InputError(
            f"The word that {name} starts from, {item.spec.initializer}, is a file of this machine, which the workers "
            "do not have: publish it with ti import, and start from <its-name>."
        )
    return item


def bring(item: BatchItem, settings: Settings, replace: bool = False) -> Brought:
    """Copy the pictures and masks of a described concept to its place, `<pictures>/<name>`; `replace` removes what else
    lies there. A file that cannot be read is left out, as training leaves it out.

    Raises InputError where other files lie there, or a file's name cannot be kept; ServiceError for a silent store.
    """
    assert item.spec is not None  # noqa: S101  # for the type checker
    if settings.pictures_uri.startswith(("http://", "https://")):
        raise InputError(
            f"{settings.pictures_uri} can only be read: name where pictures go in PSEUDOWORD_PICTURES, a folder or "
            "s3://bucket/prefix."
        )
    store, prefix = open_store(settings, settings.pictures_uri), f"{item.name}/"
    there = {one.key: one for one in store.entries(prefix) if not is_litter(one.key)}
    place = store.url(item.name)
    with opened(item.spec.pictures, settings) as entries:
        sent, same = set[str](), set[str]()
        for key, read in _files(item, entries, prefix).items():
            try:
                data = read()
            except TooMuchError:
                raise
            except InputError:  # whoever has looked at the pictures was told
                continue
            known = key in there and _is_same(data, there[key], store)
            (same if known else sent).add(check_key(key))
    others = there.keys() - same
    if others and not replace:
        names = [shown(key.removeprefix(prefix)) for key in sorted(others)]
        told = ", ".join(names[:3] + ["…"] * (len(names) > 3))
        raise InputError(f"{place} holds other files ({told}): take another --name, or replace them with --replace.")
    if sent:
        with opened(item.spec.pictures, settings) as entries:  # anew: what a source may give is counted once for each
            files = _files(item, entries, prefix)
            for key in sorted(sent & files.keys()):
                store.put(key, files[key]())
    for key in others - sent:
        store.delete(key)
    return Brought(concept_at(item.name, place, "", settings), len(sent), len(same))


def _files(item: BatchItem, entries: Sequence[Entry], prefix: str) -> dict[str, Callable[[], bytes]]:
    """What is brought, by its key: pictures, masks and what is said of them."""
    pairs = arranged(entries).pictures
    files = {prefix + one.path: one.read for pair in pairs for one in pair if one}
    return files | {prefix + CONCEPT_FILE: lambda: _toml(item)}


def _is_same(data: bytes, there: Listed, store: Store) -> bool:
    """Whether an object has these bytes. S3's tag is mostly their MD5, which spares reading it."""
    if len(data) != there.size:
        return False
    tag = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return there.etag.strip('"') == tag or store.get(there.key).data == data


def _toml(item: BatchItem) -> bytes:
    """What a concept says, but for its name and place, as a `concept.toml`: strings, numbers and truth values alone."""
    assert item.spec is not None  # noqa: S101  # for the type checker
    said = item.spec.model_dump(exclude={"name", "pictures"}, exclude_unset=True)
    said |= item.own.model_dump(exclude_unset=True) | ({BASE_MODEL: item.base_model} if item.base_model else {})
    return "".join(f"{name} = {quoted(value)}\n" for name, value in said.items()).encode()
