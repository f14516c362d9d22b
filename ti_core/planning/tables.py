"""Tables that people keep lists in, read into rows: CSV with any common separator, TSV, JSON, JSON lines, YAML, Excel,
Parquet. What a file is, its first bytes say before its suffix does.

A row is a mapping from column to text, number or truth value; columns are lower-case. It does not know what the columns
mean.
"""

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ti_core.errors import InputError

SUFFIXES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".xlsx", ".parquet"})
MAX_BYTES = 10 * 2**20
MAX_YAML_BYTES = 2**20
"""Reading YAML takes minutes where reading the same table as CSV takes a second."""
MAX_ROWS, MAX_COLUMNS = 100_000, 1000
MAX_UNPACKED_BYTES = 200 * 2**20
"""Of Excel and Parquet, which are packed."""
_LONGEST = 200
"""Letters that are shown of what another library says is wrong."""
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
    check_size(name, len(data))
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
        raise InputError(f"{name} does not read as a table: {_short(error)}.") from None


def check_size(name: str, size: int) -> None:
    """Raise InputError for a table of so many bytes that it is not read."""
    if size > MAX_BYTES:
        raise InputError(f"{name} is over {MAX_BYTES // 2**20} MiB: a table of concepts is smaller.")


class _TableError(Exception):
    """What is wrong with a table, as the rest of a sentence that begins with its name."""


def _short(said: object) -> str:
    text = " ".join(str(said).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _check_shape(rows: int, columns: int) -> None:
    if rows > MAX_ROWS or columns > MAX_COLUMNS:
        raise _TableError(f"is over {MAX_ROWS} rows or {MAX_COLUMNS} columns: a table of concepts is smaller")


def _check_unpacked(size: int) -> None:
    if size > MAX_UNPACKED_BYTES:
        raise _TableError(f"unpacks to over {MAX_UNPACKED_BYTES // 2**20} MiB: a table of concepts is smaller")


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
        raise _TableError(
            f"does not read as a table: {_short(error)} (a quotation mark without its other one?)"
        ) from None


def _yaml(text: str) -> Any:
    import yaml

    if len(text) > MAX_YAML_BYTES:
        raise _TableError(f"is YAML of over {MAX_YAML_BYTES // 2**20} MiB: save it as CSV or JSON")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise _TableError(
                "says *name in place of what it means, and such names may stand for any size: write it out"
            )
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _TableError(f"does not read as YAML: {_short(error)}") from None


def _excel(data: bytes) -> list[list[Any]]:
    try:
        from openpyxl import load_workbook
    except ModuleNotFoundError:
        raise _TableError("is an Excel table: pip install 'pseudoword[excel]' reads it, or save it as CSV") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_unpacked(sum(info.file_size for info in archive.infolist()))  # no more is unpacked than it says
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheet, lines = book.worksheets[0], list[list[Any]]()
        sheet.reset_dimensions()  # which its writer says and may be wrong
        for row in sheet.iter_rows(values_only=True):
            lines.append(_without_end(row))
            _check_shape(len(lines), len(lines[-1]))
        return lines
    except _TableError:
        raise
    except Exception as error:  # on damaged files openpyxl raises nearly anything
        raise _TableError(f"does not read as an Excel table ({_short(error)})") from None


def _without_end(row: Sequence[Any]) -> list[Any]:
    """A row up to its last cell that holds something."""
    return list(row[: max((place for place, cell in enumerate(row, 1) if cell is not None), default=0)])


def _parquet(data: bytes) -> list[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(io.BytesIO(data)) as file:
            about = file.metadata
            _check_shape(about.num_rows, about.num_columns)
            _check_unpacked(sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups)))
            rows, unpacked = list[dict[str, Any]](), 0
            for batch in file.iter_batches(batch_size=64):  # what is written once may stand for every row
                _check_unpacked(unpacked := unpacked + batch.nbytes)
                rows += batch.to_pylist()
        return rows
    except (pa.ArrowException, OSError) as error:
        raise _TableError(f"does not read as a table: {_short(error)}") from None


def _from_lists(lines: Sequence[Sequence[Any]]) -> list[Row]:
    """Rows of lines of cells, the first of which names the columns."""
    if not lines:
        raise _TableError("does not read as a table: it is empty")
    _check_shape(len(lines), len(lines[0]))
    columns = [_column(cell) for cell in lines[0]]
    named = [column for column in columns if column]
    if len(set(named)) < len(named):
        twice = next(column for column in named if named.count(column) > 1)
        raise _TableError(f"has two columns {_short(twice)}: leave one out")
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
    rows = list[Row]()
    for number, record in enumerate(records, 1):
        _check_shape(number, 0)
        if not isinstance(record, dict):
            raise _TableError(f"does not read as a table: {_short(record)!r} is no concept with fields")
        cells = {_column(key): _cell(value) for key, value in record.items()}
        odd = [key for key, value in cells.items() if not isinstance(value, str | int | float | bool)]
        wrong = f"{_short(min(odd))} is {_kind(cells[min(odd)])}, where a text or a number stands" if odd else ""
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
