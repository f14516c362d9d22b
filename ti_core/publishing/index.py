"""The index: one row for each published word, in a few objects, so that nobody walks all concepts to list them.

It follows champion.json, which stays the authority: whoever moves a pointer calls `note`, which reads the pointer anew
*after* it has read the part of the index that it changes, so the last write always tells the last state. A store that
is older than the index gets one at its first `note`; until then `words` walks.
"""

import logging
import random
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from ti_core.errors import ConflictError, IntegrityError, NotFoundError
from ti_core.publishing.catalogue import READERS, champion_of
from ti_core.records import INDEX, INDEX_WHOLE, Champion, Document, Row, Shard, shard_key
from ti_core.store import Store

log = logging.getLogger(__name__)

_ATTEMPTS = 40  # at changing a part that others change too
_jitter = random.SystemRandom()


def note(store: Store, concept: str, base: str) -> None:
    """Let the index tell what champion.json of a word says now. Safe to call at any time, and again."""
    if store.exists(INDEX_WHOLE):
        try:
            _tell(store, shard_key(concept, base), {concept}, base)
            return
        except IntegrityError as error:
            log.warning("%s It is made anew.", error)
    rebuild(store)


def rebuild(store: Store) -> int:
    """Make the whole index anew from the champions. Returns how many words it has."""
    parts = {key: set[str]() for key in _shards(store, INDEX)}
    for concept, base in published(store):
        parts.setdefault(shard_key(concept, base), set()).add(concept)
    for key, names in parts.items():
        _tell(store, key, names, key.split("/")[1], anew=True)
    store.put(INDEX_WHOLE, Document().to_bytes())
    return len(words(store))


def words(store: Store, base: str = "") -> list[Row]:
    """All published words (of one base model), sorted by name and base model: a listing and a read for each part."""
    prefix = f"{INDEX}{base}/" if base else INDEX
    if not store.exists(INDEX_WHOLE):
        return _walked(store, base)
    try:
        with ThreadPoolExecutor(READERS, "index") as threads:
            shards = list(threads.map(lambda key: _read(store, key), _shards(store, prefix)))
    except IntegrityError as error:
        log.warning("%s All concepts are looked through instead; `ti audit --repair` makes it anew.", error)
        return _walked(store, base)
    return sorted((row for shard in shards for row in shard.words.values()), key=lambda row: (row.concept, row.base))


def published(store: Store, concept: str = "") -> list[tuple[str, str]]:
    """The words that have a champion.json as (concept, base), sorted: of one concept, or by walking all keys of all."""
    parts = (key.split("/") for key in store.keys(f"concepts/{concept}/" if concept else "concepts/"))
    return sorted((part[1], part[2]) for part in parts if len(part) == 4 and part[3] == "champion.json")


def row_of(champion: Champion) -> Row:
    """What the index says of a champion."""
    return Row.model_validate({name: getattr(champion, name) for name in Row.model_fields})


def _tell(store: Store, key: str, names: set[str], base: str, anew: bool = False) -> None:
    """Bring the rows of these words in one part up to date. `anew`: of all that it holds, and of a damaged part too."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_jitter.uniform(0, 0.02 * min(attempt, 10)))
        stored, old = None, dict[str, Row]()
        try:
            stored = store.get(key)
            old = Shard.from_bytes(stored.data, store.url(key)).words
        except NotFoundError:
            pass
        except IntegrityError:
            if not anew:
                raise
        new = _updated(store, old, names | set(old) if anew else names, base)
        if stored and new == old:
            return
        data = Shard(words={name: new[name] for name in sorted(new)}).to_bytes()
        try:
            if stored:
                store.replace(key, data, stored.etag)
            elif not store.create(key, data):
                continue
            return
        except ConflictError:
            continue
    raise ConflictError(f"{store.url(key)} was changed by others {_ATTEMPTS} times in a row: try again.")


def _updated(store: Store, rows: Mapping[str, Row], names: set[str], base: str) -> dict[str, Row]:
    """The rows with what champion.json says now of these words."""
    new = dict(rows)
    for concept in names:
        try:
            champion = champion_of(store, concept, base)
        except IntegrityError as error:  # what was published is not unpublished by damage: its row stays
            log.warning("%s", error)
            continue
        if champion:
            new[concept] = row_of(champion)
        else:
            new.pop(concept, None)
    return new


def _shards(store: Store, prefix: str) -> list[str]:
    return [key for key in store.keys(prefix) if key != INDEX_WHOLE]


def _read(store: Store, key: str) -> Shard:
    return Shard.from_bytes(store.get(key).data, store.url(key))


def _walked(store: Store, base: str) -> list[Row]:
    with ThreadPoolExecutor(READERS, "index") as threads:
        wanted = [one for one in published(store) if base in ("", one[1])]
        found = threads.map(lambda one: _whole(store, *one), wanted)
        return [row_of(one) for one in found if one]


def _whole(store: Store, concept: str, base: str) -> Champion | None:
    """A champion; one whose pointer cannot be read is told and hides no other."""
    try:
        return champion_of(store, concept, base)
    except IntegrityError as error:
        log.warning("%s It is left out.", error)
        return None
