"""Fetching: champion.json, then the file, verified, written whole or not at all; one word, many, or what changed."""

import logging
import os
import re
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from heapq import nlargest
from pathlib import Path

from ti_core import formats
from ti_core.client.copies import (
    copied,
    copies,
    digest_as_published,
    is_copied,
    keep_copy,
    refuse_foreign,
    remove,
    told,
)
from ti_core.config import check_slug
from ti_core.errors import InputError, IntegrityError, NotFoundError, PseudowordError, ServiceError, WithdrawnError
from ti_core.publishing import index
from ti_core.publishing.catalogue import READERS, base_for, champion_of, pointer_of
from ti_core.publishing.reading import best, file_of, read_file
from ti_core.records import Champion, Format, Row
from ti_core.settings import Settings, expanded, load_settings
from ti_core.store import Store, get_blob, open_store

log = logging.getLogger(__name__)

WORD = re.compile(r"<([a-z0-9-]+)>", re.IGNORECASE)
"""A word in a prompt."""


@dataclass(frozen=True)
class Synced:
    """What `sync` did, as paths; and the words that it could not bring up to date, with the reason: copies of them and
    files in their place are as they were."""

    fetched: tuple[Path, ...]
    removed: tuple[Path, ...]
    failed: dict[str, str]
    there: int
    """Words that lie in the folder now."""


def get(
    concept: str,
    base: str | None = None,
    layout: Format = "diffusers",
    out: Path | str | None = None,
    settings: Settings | None = None,
    *,
    strict: bool = False,
    offline: bool = False,
) -> Path:
    """Fetch the champion's file of a concept. Returns its path.

    `base` is a base model (its slug, folder, file or hub name); None takes `PSEUDOWORD_BASE_MODEL`, or else the only
    one the concept is published for. `out` is a folder, made if needed; None is `words/<layout>/<base>` in the data
    folder. `settings` are read from the environment by default. An older copy is replaced in one step; a file of the
    same name that is no copy is kept, and InputError raised.

    Where the champion is damaged, the one before it is given with a warning, unless `strict`. Where the store does not
    answer, or with `offline`, the copy that lies in `out` is verified and given (with a warning in the first case).

    Raises NotFoundError when there is no such word, WithdrawnError when it was withdrawn or forgotten (its copy in
    `out` is removed then), IntegrityError when stored data is damaged or written by a newer version, InputError when
    `out` cannot be written; nothing is written in these cases. Raises ServiceError when the store cannot be reached and
    there is no copy.
    """
    settings = settings or load_settings()
    if out is not None:
        folder = expanded(out)
        return _got(concept, base, layout, lambda _: folder, [folder], settings, strict, offline)
    words_folder = settings.shown_in / "words" / layout
    folders = sorted(words_folder.glob("*"))
    return _got(concept, base, layout, lambda of: words_folder / of, folders, settings, strict, offline)


def get_many(
    wanted: Iterable[tuple[str, str | None]],
    layout: Format = "diffusers",
    out: Path | str = ".",
    settings: Settings | None = None,
    *,
    strict: bool = False,
    offline: bool = False,
) -> dict[tuple[str, str | None], Path | PseudowordError]:
    """`get` each (concept, base), several at the same time, into `<out>/<base>`. What fails is told in its place and
    stops nobody."""
    known, folder = settings or load_settings(), expanded(out)

    def tried(one: tuple[str, str | None]) -> Path | PseudowordError:
        try:
            folders = sorted(folder.glob("*"))
            return _got(*one, layout, lambda of: folder / of, folders, known, strict, offline)
        except PseudowordError as error:
            return error

    each = list(dict.fromkeys(wanted))
    with ThreadPoolExecutor(READERS, "fetch") as threads:
        return dict(zip(each, threads.map(tried, each), strict=True))


def sync(
    out: Path | str, base: str | None = None, layout: Format = "diffusers", settings: Settings | None = None
) -> Synced:
    """Bring a folder up to date with all published words (of one base model): new and changed ones are fetched, those
    that were withdrawn or forgotten are removed. The index tells what may have changed, and the pointer of each such
    word decides: what it does not say is gone stays, also where the store or its index is empty, damaged or another.
    Files that `sync` and `get` did not write are left alone.

    Raises ServiceError when the store cannot be reached, InputError when the folder cannot be written.
    """
    settings = settings or load_settings()
    store, folder = opened(settings), expanded(out)
    only = base_for(base, settings, []) if base else ""
    listed = {(row.base, row.concept): row for row in index.words(store, only)}
    here = copies(folder, settings.namespace)
    changed = [
        one for one, row in listed.items() if not is_copied(_path(folder, *one), row, settings.namespace, layout)
    ]
    unlisted = [one for one in here if one not in listed and only in ("", one[0])]

    def fetched(one: tuple[str, str]) -> Path | PseudowordError:
        try:
            return _fetched(store, one[1], one[0], layout, lambda of: folder / of, settings, strict=False)
        except PseudowordError as error:
            return error

    todo = [*changed, *unlisted]
    with ThreadPoolExecutor(READERS, "sync") as threads:
        made = dict(zip(todo, threads.map(fetched, todo), strict=True))
    after = copies(folder, settings.namespace)
    return Synced(
        fetched=tuple(one for one in made.values() if isinstance(one, Path)),
        removed=tuple(_path(folder, *one) for one in here if one not in after),
        failed={f"{concept} on {of}": str(error) for (of, concept), error in made.items()
                if isinstance(error, PseudowordError) and not isinstance(error, WithdrawnError)},
        there=len(after),
    )  # fmt: skip


def words(
    base: str | None = None, min_score: float = 0.0, settings: Settings | None = None, *, tag: str = ""
) -> list[Row]:
    """All published words (of one base model, of at least this score, with this tag), sorted by name: a few reads of
    the index."""
    settings = settings or load_settings()
    found = index.words(opened(settings), base_for(base, settings, []) if base else "")
    return [row for row in found if row.score >= min_score and (not tag or row.has_tag(tag))]


def concepts(store: Store) -> list[tuple[str, str]]:
    """All published words as (concept, base), sorted."""
    return [(row.concept, row.base) for row in index.words(store)]


def champion(concept: str, base: str | None = None, settings: Settings | None = None) -> Champion:
    """What readers of a concept get: step, score, version and files. Arguments and errors are those of `get`."""
    settings = settings or load_settings()
    store = opened(settings)
    return best(store, pointer_for(store, concept, base, settings), lambda one: one)[0]


def vectors(
    concept: str, base: str | None = None, settings: Settings | None = None, strict: bool = False
) -> tuple[Champion, formats.Vectors]:
    """The vectors of a word by text encoder, [V, D] fp32, and whose they are. Arguments and errors: `get`'s."""
    settings = settings or load_settings()
    store = opened(settings)

    def bring(one: Champion) -> formats.Vectors:
        return formats.read_checkpoint(get_blob(store, one.vectors), f"the word {one.placeholder}")

    return best(store, pointer_for(store, concept, base, settings), bring, strict)


def words_in(prompt: str) -> list[str]:
    """The names of the words that a prompt uses, `<name>` in capitals or not, once each, in order."""
    return list(dict.fromkeys(name.lower() for name in WORD.findall(prompt)))


def noticed(prompt: str, names: Collection[str]) -> list[str]:
    """What somebody who wrote this prompt should know, in sentences: a published name without its brackets or in
    another spelling, and weights, which are not read."""
    told = []
    bare = WORD.sub(" ", prompt)
    for name in sorted(names):
        if re.search(rf"(?<![\w<-]){re.escape(name)}(?![\w>-])", bare, re.IGNORECASE):
            told.append(f"{name} stands without brackets and is read as plain text: <{name}> is the published word.")
    for spelt in dict.fromkeys(re.findall(r"<([^<>]+)>", bare)):
        name = re.sub(r"[^a-z0-9]+", "-", spelt.lower()).strip("-")
        if name in names:
            told.append(f"<{spelt}> is read as plain text: the published word is written <{name}>.")
    if re.search(r"\([^():]*[^():\d\s]\s*:\s*\d+(\.\d+)?\s*\)", prompt):
        told.append("Weights as in (word:1.3) are not read here: they are plain text.")
    return told


@lru_cache(maxsize=8)
def _kept(settings: Settings, _process: int) -> Store:
    return open_store(settings)


def opened(settings: Settings) -> Store:
    """The settings' store, opened once in a process: setting up a client of S3 takes longer than reading a word."""
    return _kept(settings, os.getpid())


def _path(folder: Path, base: str, concept: str) -> Path:
    return folder / base / formats.filename(concept)


def _got(
    concept: str,
    base: str | None,
    layout: Format,
    place: Callable[[str], Path],
    folders: list[Path],
    settings: Settings,
    strict: bool,
    offline: bool,
) -> Path:
    """`get`, into the folder that `place` says for a base model; copies are looked for in `folders`."""
    check_slug(concept)
    paths = [folder / formats.filename(concept) for folder in folders]
    if offline:
        return copied(paths, concept, base, layout, settings)
    try:
        return _fetched(opened(settings), concept, base, layout, place, settings, strict)
    except ServiceError as error:
        try:
            path = copied(paths, concept, base, layout, settings)
        except NotFoundError:
            raise error from None
        log.warning("%s The copy %s is given.", error, path)
        return path


def _fetched(
    store: Store,
    concept: str,
    base: str | None,
    layout: Format,
    place: Callable[[str], Path],
    settings: Settings,
    strict: bool,
) -> Path:
    pointer = pointer_for(store, concept, base, settings)
    path = place(pointer.base) / formats.filename(concept)
    there = told(path)
    if there and there.word.base != pointer.base:
        raise InputError(f"{path} is the word for {there.word.base}, not for {pointer.base}: name another folder.")
    if there and there.namespace != settings.namespace:
        whose = f"of the namespace {there.namespace}" if there.namespace else "of no namespace"
        raise InputError(f"{path} is the word {whose}, not yours: name another folder.")

    def bring(one: Champion) -> bytes | None:
        """The file's bytes; None where they lie in the folder already."""
        file = file_of(one, formats.published_as(layout))
        if digest_as_published(path, one.placeholder, layout) == file.sha256:
            return None
        data = read_file(store, file)
        return formats.in_format(data, one.placeholder, layout) if layout in formats.MADE else data

    try:
        found, data = best(store, pointer, bring, strict)
    except WithdrawnError:
        remove(path)
        raise
    if data is not None:
        refuse_foreign(path)
    keep_copy(path, index.row_of(found), settings.namespace, data)
    return path


def pointer_for(store: Store, concept: str, base: str | None, settings: Settings) -> Champion:
    """champion.json of a word, also where it was withdrawn. Raises NotFoundError, with what there is instead."""
    check_slug(concept)
    named = base or ("base_model" in settings.model_fields_set and settings.base_model) or ""
    chosen = base_for(named, settings, [] if named else _bases(store, concept))
    found = pointer_of(store, concept, chosen)
    if found is None or not (found.judge_key or found.changes):
        raise NotFoundError(f"No word {concept} for {chosen} is published in {store.uri}.{_hint(store, concept)}")
    return found


def _bases(store: Store, concept: str) -> list[str]:
    """The base models that a word is published for; where it is for none, those for which it was withdrawn or
    forgotten, so that a reader is told."""
    there = [base for _, base in index.published(store, concept)]
    return [base for base in there if _stands(store, concept, base)] or there


def _stands(store: Store, concept: str, base: str) -> bool:
    try:
        return champion_of(store, concept, base) is not None
    except IntegrityError:  # damage unpublishes nothing
        return True


def _hint(store: Store, concept: str) -> str:
    """What there is instead: the concept's base models, else names like it, else some names."""
    if bases := [base for base in _bases(store, concept) if _stands(store, concept, base)]:
        return f" It is published for {', '.join(bases)}: choose one as the base model."
    names = sorted({row.concept for row in index.words(store)})
    if close := get_close_matches(concept, _likely(concept, names), n=3, cutoff=0.5):
        return f" Did you mean {' or '.join(close)}?"
    return f" There are: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}." if names else " It holds no words."


def _likely(concept: str, names: list[str]) -> list[str]:
    """The names that are most alike by their pairs of letters (Dice's coefficient): difflib takes seconds over tens of
    thousands."""

    def pairs(name: str) -> set[str]:
        return {name[at : at + 2] for at in range(len(name) - 1)}

    def alike(name: str) -> float:
        other = pairs(name)
        return len(own & other) / (len(own) + len(other) + 1)

    own = pairs(concept)
    return nlargest(200, names, key=alike)
