"""Many concepts: read what a batch holds from a folder, an s3:// prefix or a CSV/Parquet table.

A concept that cannot even be described (a bad name, a damaged concept.toml) is told apart from the others and stops
none of them. This module trains nothing.
"""

import io
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ti_core.config import ConceptSpec, TrainingConfig, given
from ti_core.errors import InputError
from ti_core.images.sources import concept_folders, read_text
from ti_core.planning.dreambench import read_dreambench
from ti_core.settings import Settings
from ti_core.store import open_store

CONCEPT_FILE = "concept.toml"
"""Optional file beside the pictures: class_word, kind, initializer, vectors, learning_rate, steps, mirror."""
OF_TRAINING = ("learning_rate", "steps", "mirror")
"""What a concept may say of its own training, in place of what is said for the whole batch."""
COLUMNS = ("name", "pictures", "class_word", "kind", "initializer", "vectors", *OF_TRAINING)
"""Columns of a table; the first two must be there. Relative picture folders start at the table's folder."""


@dataclass(frozen=True)
class BatchItem:
    """One concept of a batch: its spec, or the reason why it has none; and what it says of its own training."""

    name: str
    spec: ConceptSpec | None
    reason: str = ""
    own: TrainingConfig = field(default_factory=TrainingConfig)

    def training(self, of_batch: TrainingConfig) -> TrainingConfig:
        """How it is trained where the whole batch is trained as `of_batch` says."""
        return of_batch.model_copy(update=given(self.own))


def read_batch(source: str, class_word: str, settings: Settings) -> list[BatchItem]:
    """Read the concepts at `source`, in order of name; `class_word` serves those that name none of their own.

    In the folder of the DreamBooth data set the classes are those of its `prompts_and_classes.txt`.

    Raises InputError when the source is missing, forbidden, or holds no concept.
    """
    if Path(source).suffix.lower() in {".csv", ".parquet"}:
        items = _from_table(source, class_word, settings)
    else:
        folders = concept_folders(source, settings)
        bench = read_dreambench(source, settings)
        if bench:  # its subjects are named with underscores
            items = [
                _item(name.replace("_", "-"), place, bench.classes.get(name, class_word), settings)
                for name, place in folders.items()
            ]
        else:
            items = [_item(name, place, class_word, settings) for name, place in folders.items()]
    if not items:
        raise InputError(f"{source} holds no concept: give each one a sub-folder of pictures, or name a CSV table.")
    return items


def _item(name: str, place: str, class_word: str, settings: Settings) -> BatchItem:
    try:
        toml = read_text(place, CONCEPT_FILE, settings)
        described = tomllib.loads(toml) if toml is not None else {}
    except InputError as error:
        return BatchItem(name, None, str(error))
    except ValueError as error:  # no TOML, or no UTF-8
        return BatchItem(name, None, f"{place}/{CONCEPT_FILE} is damaged: {error}.")
    return _spec({"class_word": class_word} | described | {"name": name, "pictures": place})


def _from_table(source: str, class_word: str, settings: Settings) -> list[BatchItem]:
    import pandas as pd

    if source.startswith("s3://"):
        folder, _, name = source.rpartition("/")
        data = open_store(settings, folder).get(name).data
    else:
        path = settings.allowed(Path(source))
        if not path.is_file():
            raise InputError(f"There is no table {source}.")
        folder, data = str(path.parent), path.read_bytes()
    try:
        parquet = source.lower().endswith(".parquet")
        if parquet:
            table = pd.read_parquet(io.BytesIO(data))
        else:  # empty cells stay empty strings, for a concept may be called null
            table = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise InputError(f"{source} does not read as a table: {error}.") from None
    missing, unknown = {"name", "pictures"} - set(table.columns), set(table.columns) - set(COLUMNS)
    if missing or unknown:
        wrong = f"lacks the column {min(missing)}" if missing else f"has the unknown column {min(unknown)}"
        raise InputError(f"{source} {wrong}; its columns are {', '.join(COLUMNS)}.")
    items = list[BatchItem]()
    for row in table.sort_values("name", kind="stable").to_dict("records"):
        said = {str(key): value for key, value in row.items() if pd.notna(value) and value != ""}
        pictures = str(said.get("pictures", ""))
        if pictures and "://" not in pictures and not Path(pictures).is_absolute():
            said["pictures"] = f"{folder}/{pictures}"
        item = _spec({"class_word": class_word} | said)
        if items and items[-1].name == item.name:
            item = BatchItem(item.name, None, f"{source} names {item.name} more than once; its first row is used.")
        items.append(item)
    return items


def _spec(said: dict[str, Any]) -> BatchItem:
    name = str(said.get("name", ""))
    own = {key: value for key, value in said.items() if key in OF_TRAINING}
    concept = {key: value for key, value in said.items() if key not in OF_TRAINING}
    try:
        return BatchItem(name, ConceptSpec.model_validate(concept), own=TrainingConfig.model_validate(own))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return BatchItem(name, None, f"{where}: {first['msg'].removeprefix('Value error, ')}")
