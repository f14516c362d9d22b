"""Tables that people keep lists in, read into rows: CSV with any common separator, TSV, JSON, JSON lines, YAML, Excel,
Parquet. What a file is, its first bytes say before its suffix does.

A row is a mapping from column to text, number or truth value; columns are lower-case. It does not know what the columns
mean.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ti_core.errors import InputError

SUFFIXES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".xlsx", ".parquet"})
MAX_BYTES = 50 * 2**20
_SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class Row:
    """One row. `wrong` says why it cannot be used, as the rest of a sentence; "" for a sound one."""

    cells: dict[str, Any]
    wrong: str = ""


def read_table(name: str, data: bytes) -> list[Row]:
    """The rows of a table; blank ones are passed over. `name` is where it came from, with its suffix.

    Raises InputError when it cannot be read, in a sentence that says what to do.
    """
    if len(data) > MAX_BYTES:
        raise InputError(f"{name} is over {MAX_BYTES // 2**20} MiB: a table of concepts is smaller.")
    suffix = name.lower().rpartition(".")[2]
    try:
        if data.startswith(b"PAR1") or suffix == "parquet":
            return _from_dicts(_parquet(data))
        if data.startswith(b"PK\3\4") or suffix == "xlsx":
            return _from_lists(_excel(data))
        text = _text(data)
        if suffix in {"jsonl", "ndjson"}:
            return _from_dicts(json.loads(line) for line in text.split("\n") if line.strip())
        if suffix == "json":
            return _from_dicts(json.loads(text))
        if suffix in {"yaml", "yml"}:
            return _from_dicts(_yaml(text))
        return _from_lists(_csv(text))
    except _TableError as error:
        raise InputError(f"{name} {error}.") from None
    except (ValueError, RecursionError) as error:  # JSON's own
        raise InputError(f"{name} does not read as a table: {error}.") from None


class _TableError(Exception):
    """What is wrong with a table, as the rest of a sentence that begins with its name."""


def _text(data: bytes) -> str:
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _TableError(f"does not read as a table: line {line} is no UTF-8 text; save it as UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise _TableError(f"does not read as a table: line {line} holds a NUL character")
    return text


def _csv(text: str) -> list[list[str]]:
    """The lines of a CSV, the header first. Lines before it that begin with # are remarks."""
    text = re.sub(r"\A(?:[^\S\r\n]*(?:#[^\r\n]*)?[\r\n]+)+", "", text)
    if not text.strip():
        raise _TableError("does not read as a table: it is empty")
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    separator = max(_SEPARATORS, key=lambda one: (first.count(one), one == ","))
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise _TableError(f"does not read as a table: {error} (a quotation mark without its other one?)") from None


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _TableError(f"does not read as YAML: {' '.join(str(error).split())}") from None


def _excel(data: bytes) -> list[list[Any]]:
    try:
        from openpyxl import load_workbook
    except ModuleNotFoundError:
        raise _TableError("is an Excel table: pip install 'pseudoword[excel]' reads it, or save it as CSV") from None
    try:
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheet = book.worksheets[0]
        return [list(row) for row in sheet.iter_rows(values_only=True)]
    except Exception as error:  # on damaged files openpyxl raises nearly anything
        raise _TableError(f"does not read as an Excel table ({error})") from None


def _parquet(data: bytes) -> list[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        rows: list[dict[str, Any]] = parquet.read_table(io.BytesIO(data)).to_pylist()
        return rows
    except (pa.ArrowException, OSError) as error:
        raise _TableError(f"does not read as a table: {error}") from None


def _from_lists(lines: Sequence[Sequence[Any]]) -> list[Row]:
    """Rows of lines of cells, the first of which names the columns."""
    if not lines:
        raise _TableError("does not read as a table: it is empty")
    columns = [_column(cell) for cell in lines[0]]
    named = [column for column in columns if column]
    if len(set(named)) < len(named):
        twice = next(column for column in named if named.count(column) > 1)
        raise _TableError(f"has two columns {twice}: leave one out")
    rows = []
    for line in lines[1:]:
        cells = [_cell(cell) for cell in line]
        if all(cell == "" for cell in cells):
            continue
        known = {column: cell for column, cell in zip(columns, cells, strict=False) if column}
        spare = [cell for cell in cells[len(columns) :] if cell != ""]
        wrong = f"its row has {len(cells)} cells under {len(columns)} columns" if spare else ""
        rows.append(Row(known, wrong))
    return rows


def _from_dicts(records: Any) -> list[Row]:
    """Rows of mappings."""
    if isinstance(records, dict) or not isinstance(records, Iterable) or isinstance(records, str):
        raise _TableError("does not read as a table: it must be a list of concepts, each with its fields")
    rows = []
    for record in records:
        if not isinstance(record, dict):
            raise _TableError(f"does not read as a table: {str(record)[:40]!r} is no concept with fields")
        cells = {_column(key): _cell(value) for key, value in record.items()}
        odd = [key for key, value in cells.items() if not isinstance(value, str | int | float | bool)]
        wrong = f"{min(odd)} is {_kind(cells[min(odd)])}, where a text or a number stands" if odd else ""
        if any(value != "" for value in cells.values()):
            rows.append(Row(cells, wrong))
    return rows


def _column(cell: Any) -> str:
    return re.sub(r"[\s-]+", "_", str("" if cell is None else cell).strip().lower())


def _cell(value: Any) -> Any:
    """Text without spaces around it; what is missing as ""; whole numbers as such."""
    if value is None or value != value:  # noqa: PLR0124  # NaN, of any library, is what differs from itself
        return ""
    if isinstance(value, str):
        return value.strip()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind(value: Any) -> str:
    names: dict[type, str] = {list: "a list", tuple: "a list", dict: "a mapping", bytes: "bytes"}
    return names.get(type(value), f"a {type(value).__name__}")
