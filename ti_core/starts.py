"""What a word starts from where that is no phrase: a published word, or a word's file. An import takes it as it is.

It reads and checks; nothing is trained or published here. Torch is imported when a file is read.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ti_core import formats
from ti_core.backbone.folder import find_base, text_widths
from ti_core.client import vectors as published_vectors
from ti_core.client.fetching import WORD
from ti_core.config import WORD_FILES, ConceptSpec
from ti_core.errors import InputError
from ti_core.foreign import MOST_BYTES, read_word
from ti_core.images.names import shown
from ti_core.records import BaseModelInfo, Given, Plan
from ti_core.settings import Settings
from ti_core.store import Store, put_blob


class Start(NamedTuple):
    """What is known of given vectors, and the vectors, [V, D] fp32 by text encoder."""

    given: Given
    vectors: formats.Vectors


def find_given(concept: ConceptSpec, base_model: str, settings: Settings) -> Given | None:
    """What the vectors of a concept start from, None where that is a word or phrase of the base model.

    Raises InputError for a file that cannot be used, or where there is nothing to import; NotFoundError for a word that
    is not published.
    """
    start = concept.initializer
    is_file, is_word = start.lower().endswith(WORD_FILES), WORD.fullmatch(start)
    if not (is_file or is_word):
        if concept.imported:
            raise InputError(f"There is nothing to import: name a word's file ({', '.join(WORD_FILES)}) to start from.")
        return None
    settings.check_place(base_model, settings.base_model)
    base = find_base(base_model or settings.base_model)
    return of_file(start, base, settings).given if is_file else _of_word(start.strip("<>").lower(), base, settings)


def of_file(name: str, base: BaseModelInfo, settings: Settings) -> Start:
    """Read a word's file for a base model. Raises InputError when it cannot be used."""
    path = settings.allowed(Path(name))
    source = shown(Path(name).name)
    if not path.is_file():
        raise InputError(f"There is no file {shown(name)}.")
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{shown(name)} cannot be read: {error.strerror}.") from None
    word = read_word(data, source, text_widths(base), base.name)
    blob = hashlib.sha256(formats.write_checkpoint(word.vectors)).hexdigest()
    found = _given(source, word.layout, hashlib.sha256(data).hexdigest(), blob, word.vectors, word.step)
    return Start(found, word.vectors)


def keep_given(plan: Plan, settings: Settings, store: Store) -> None:
    """Put the vectors that a plan starts from into the store, those of a published word being there.

    Raises InputError when the file is another one meanwhile.
    """
    given = plan.given
    if given and given.layout:
        start = of_file(plan.concept.initializer, plan.base, settings)
        if start.given.vectors != given.vectors:
            raise InputError(f"{given.source} was changed while it was being read: try again.")
        put_blob(store, formats.write_checkpoint(start.vectors))


def _of_word(name: str, base: BaseModelInfo, settings: Settings) -> Given:
    champion, rows = published_vectors(name, base.slug, settings)
    if champion.base_digest != base.digest:
        raise InputError(
            f"The word {champion.placeholder} was made for other weights than those of {base.name} here (digest "
            f"{champion.base_digest[:12]}, not {base.digest[:12]}): start from a word of these."
        )
    source = f"{champion.placeholder} version {champion.version}"
    return _given(source, "", champion.vectors, champion.vectors, rows, champion.step)


def _given(source: str, layout: str, sha256: str, blob: str, vectors: formats.Vectors, step: int) -> Given:
    norms = [float(np.linalg.norm(rows_VD, axis=1).mean()) for rows_VD in vectors.values()]
    return Given(
        source=source, layout=layout, sha256=sha256, vectors=blob, count=len(next(iter(vectors.values()))),
        norm=sum(norms) / len(norms), step=step,
    )  # fmt: skip
