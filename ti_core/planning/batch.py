"""Many concepts: read what a batch holds from a folder, an s3:// prefix or a table.

A concept that cannot even be described (a bad name, a damaged concept.toml) is told apart from the others and stops
none of them. This module trains nothing.
"""

import logging
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ti_core.config import WORD_FILES, ConceptSpec, TrainingConfig, base_slug, given
from ti_core.errors import InputError
from ti_core.images.names import shown
from ti_core.images.sources import concept_folders, holds_concepts, read_text
from ti_core.planning.dreambench import read_dreambench
from ti_core.planning.tables import SUFFIXES, Row, check_size, read_table
from ti_core.settings import Settings
from ti_core.store import open_store

log = logging.getLogger(__name__)

CONCEPT_FILE = "concept.toml"
"""Optional file beside the pictures: any field of a concept but its name and its pictures, and learning_rate, steps,
mirror, base_model."""
OF_TRAINING = ("learning_rate", "steps", "mirror")
"""What a concept may say of its own training, in place of what is said for the whole batch."""
BASE_MODEL = "base_model"
"""What a concept may say of its base model in place of the batch's: several, separated by commas, are one each."""
COLUMNS = (*ConceptSpec.model_fields, *OF_TRAINING, BASE_MODEL)
"""Columns of a table: the fields of a concept, of which the first two must be there, those of its training, and its
base models. Relative picture folders start at the table's folder."""


@dataclass(frozen=True)
class BatchItem:
    """One concept of a batch on one base model: its spec, or the reason why it has none; and what it says of its own
    training."""

    name: str
    spec: ConceptSpec | None
    reason: str = ""
    own: TrainingConfig = field(default_factory=TrainingConfig)
    base_model: str = ""
    """As it was named; "" is that of the batch, or the settings' own."""

    def training(self, of_batch: TrainingConfig) -> TrainingConfig:
        """How it is trained where the whole batch is trained as `of_batch` says."""
        return of_batch.model_copy(update=given(self.own))


def read_batch(source: str, class_word: str, settings: Settings) -> list[BatchItem]:
    """Read the concepts at `source`, in order of name; `class_word` serves those that name none of their own.

    In the folder of the DreamBooth data set the classes are those of its `prompts_and_classes.txt`.

    Raises InputError when the source is missing, forbidden, or holds no concept.
    """
    _check_said(source)
    if Path(source).suffix.lower() in SUFFIXES:
        items = _from_table(source, class_word, settings)
    else:
        if "://" not in source and settings.allowed(Path(source)).is_file():
            forms = ", ".join(sorted(suffix.removeprefix(".") for suffix in SUFFIXES))
            raise InputError(f"{shown(source)} is no table in a form that can be read: {forms}.")
        folders = concept_folders(source, settings)
        bench = read_dreambench(source, settings)
        if bench:  # its subjects are named with underscores
            items = [
                concept_at(name.replace("_", "-"), place, bench.classes.get(name, class_word), settings)
                for name, place in folders.items()
            ]
        else:
            items = [concept_at(name, place, class_word, settings) for name, place in folders.items()]
    if not items:
        raise InputError(f"{shown(source)} holds no concept: give each one a sub-folder of pictures, or name a table.")
    return items


def for_bases(items: Sequence[BatchItem], base_models: Sequence[str], settings: Settings) -> list[BatchItem]:
    """Each concept once for each of its base models: its own, or those of the batch; "" or none is the settings' own.

    Raises InputError for base models of the batch that a word cannot have a place each for.
    """
    of_batch = list(base_models) or [""]
    _told_apart([name or settings.base_model for name in of_batch])
    return [
        replace(item, base_model=base_model) for item in items for base_model in (_split(item.base_model) or of_batch)
    ]


def _split(base_models: str) -> list[str]:
    return [part for one in base_models.split(",") if (part := one.strip())]


def _told_apart(base_models: Sequence[str]) -> None:
    """Raise InputError where two are called the same in the store, or one cannot be called anything."""
    slugs = dict[str, str]()
    for name in base_models:
        if (other := slugs.setdefault(base_slug(name), name)) != name or base_models.count(name) > 1:
            raise InputError(
                f"The base models {other} and {name} are both called {base_slug(name)}, and a word has one place for "
                "each name: leave one out."
            )


def is_batch(source: str, settings: Settings) -> bool:
    """Whether a source holds concepts and not the pictures of one: a table, or folders of pictures with none beside.

    Raises InputError when it is missing or forbidden.
    """
    _check_said(source)
    if Path(source).suffix.lower() in SUFFIXES:
        return True
    if not source.startswith("s3://") and ("://" in source or not settings.allowed(Path(source)).is_dir()):
        return False
    return holds_concepts(source, settings)


def _check_said(source: str) -> None:
    if not source.strip():
        raise InputError("No source of pictures is named: name a folder, an s3:// prefix or a table; . is this folder.")


def concept_at(
    name: str, place: str, class_word: str, settings: Settings, said: Mapping[str, Any] | None = None
) -> BatchItem:
    """The concept of this name whose pictures lie at a folder or s3:// prefix, as the `CONCEPT_FILE` beside them has
    it; `class_word` serves where that names none, and what is `said` of its fields goes before it. What is wrong is
    told by the item."""
    try:
        data = read_text(place, CONCEPT_FILE, settings)
        described = {} if data is None else tomllib.loads(data.decode("utf-8-sig"))
    except InputError as error:
        return BatchItem(shown(name), None, str(error))
    except ValueError as error:  # no TOML, or no UTF-8
        return BatchItem(shown(name), None, f"{shown(place)}/{CONCEPT_FILE} is damaged: {error}.")
    described = {key.lower(): value for key, value in described.items()}
    if "initializer" in described:
        described["initializer"] = _file_beside(str(described["initializer"]), place)
    return _spec({"class_word": class_word} | described | dict(said or {}) | {"name": name, "pictures": place})


def _from_table(source: str, class_word: str, settings: Settings) -> list[BatchItem]:
    folder, data = _read(source, settings)
    rows = read_table(source, data)
    columns = {column: None for row in rows for column in row.cells}
    missing = [column for column in COLUMNS[:2] if rows and column not in columns]
    if missing:
        there = f" (it has {_listed(columns)})" if columns else ""
        raise InputError(f"{source} lacks the column {min(missing)}{there}; its columns are {', '.join(COLUMNS)}.")
    unknown = sorted(columns.keys() - set(COLUMNS))
    if unknown:
        log.warning(
            "%s: nothing reads the columns %s; those that are read are %s.",
            source,
            _listed(unknown),
            ", ".join(COLUMNS),
        )
    items, used = list[BatchItem](), set[str]()
    for row in sorted(rows, key=lambda row: str(row.cells.get("name", ""))):
        item = _of_row(row, folder, class_word)
        if item.spec and item.name in used:
            why = f"{source} names {item.name} more than once; the first row that can be used is."
            item = BatchItem(item.name, None, why)
        elif item.spec:
            used.add(item.name)
        items.append(item)
    return items


def _listed(columns: Iterable[str]) -> str:
    names = list(columns)
    return ", ".join(map(shown, names[:20])) + (", …" if len(names) > 20 else "")


def _read(source: str, settings: Settings) -> tuple[str, bytes]:
    """The folder of a table, and its bytes."""
    if source.startswith("s3://"):
        folder, _, name = source.rpartition("/")
        bucket = open_store(settings, folder)
        for listed in bucket.entries(name):
            if listed.key == name:
                check_size(source, listed.size)
        return folder, bucket.get(name).data
    path = settings.allowed(Path(source))
    if not path.is_file():
        raise InputError(f"There is no table {shown(source)}.")
    try:
        check_size(shown(source), path.stat().st_size)
        return str(path.parent), path.read_bytes()
    except OSError as error:
        raise InputError(f"The table {shown(source)} cannot be read: {error.strerror}.") from None


def _of_row(row: Row, folder: str, class_word: str) -> BatchItem:
    said = {column: value for column, value in row.cells.items() if column in COLUMNS and value != ""}
    name = shown(str(said.get("name", "")))
    if row.wrong:
        return BatchItem(name, None, f"{row.wrong[0].upper()}{row.wrong[1:]}.")
    for column in ("name", "pictures", "class_word", "initializer"):
        if column in said:
            said[column] = str(said[column])
    pictures = said.get("pictures", "")
    if re.match(r"[A-Za-z]:[\\/]|\\\\", pictures):
        return BatchItem(name, None, f"pictures: {pictures} is a Windows path, which this machine cannot follow.")
    if pictures:
        said["pictures"] = _beside(pictures, folder)
    if "initializer" in said:
        said["initializer"] = _file_beside(said["initializer"], folder)
    return _spec({"class_word": class_word} | said)


def _beside(path: str, folder: str) -> str:
    """A path that may be relative to a folder."""
    if "://" in path or Path(path).is_absolute() or path.startswith("~"):
        return path
    return f"{folder}/{path.replace(chr(92), '/')}"


def _file_beside(start: str, folder: str) -> str:
    """What a concept starts from: a phrase and a published word stand for themselves, a file may lie beside."""
    return _beside(start, folder) if start.lower().endswith(WORD_FILES) else start


def _spec(said: dict[str, Any]) -> BatchItem:
    name = str(said.get("name", ""))
    own = {key: value for key, value in said.items() if key in OF_TRAINING}
    concept = {key: value for key, value in said.items() if key not in (*OF_TRAINING, BASE_MODEL)}
    base_model = str(said.get(BASE_MODEL, ""))
    try:
        _told_apart(_split(base_model))
        training = TrainingConfig.model_validate(own)
        return BatchItem(name, ConceptSpec.model_validate(concept), own=training, base_model=base_model)
    except InputError as error:
        return BatchItem(shown(name), None, f"{BASE_MODEL}: {error}")
    except ValidationError as error:
        first = error.errors()[0]
        where = shown(".".join(str(part) for part in first["loc"]))
        if first["type"] == "extra_forbidden":
            why = f"{where}: nothing reads this field; those that are read are {', '.join(COLUMNS[2:])}"
            return BatchItem(shown(name), None, why)
        return BatchItem(shown(name), None, f"{where}: {first['msg'].removeprefix('Value error, ')}")
