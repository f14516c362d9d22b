"""Tables as people save them: read, or refused in a sentence."""

import io
import json
import logging
import time
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from openpyxl import Workbook

from ti_core.errors import InputError
from ti_core.planning import batch as batches
from ti_core.planning import tables
from ti_core.planning.batch import BatchItem, read_batch
from ti_core.planning.tables import read_table
from ti_core.settings import Settings
from ti_core.store.folder import FolderStore


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """What stands in for every bucket."""
    root = tmp_path / "bucket"
    monkeypatch.setattr(
        batches, "open_store", lambda _, uri: FolderStore(root / uri.removeprefix("s3://bucket").strip("/"))
    )
    return FolderStore(root)


def rows(name: str, data: bytes) -> list[dict[str, Any]]:
    made = read_table(name, data)
    assert not any(row.wrong for row in made)
    return [row.cells for row in made]


def excel(*lines: list[object]) -> bytes:
    book, buffer = Workbook(), io.BytesIO()
    for line in lines:
        book.active.append(line)
    book.save(buffer)
    return buffer.getvalue()


def parquet(**columns: list[object]) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


WANTED = [{"name": "a", "pictures": "p"}, {"name": "b", "pictures": "q"}]
CSV = "name,pictures\na,p\nb,q\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", CSV.encode()),
        ("t.csv", CSV.replace(",", ";").encode()),
        ("t.csv", CSV.replace(",", "\t").encode()),
        ("t.tsv", CSV.replace(",", "\t").encode()),
        ("t.csv", CSV.replace("\n", "\r\n").encode()),
        ("t.csv", CSV.encode("utf-8-sig")),
        ("t.csv", CSV.encode("utf-16")),
        ("t.csv", CSV.replace("name,pictures", " Name , PICTURES ").encode()),
        ("t.csv", CSV.replace(",", ", ").encode()),
        ("t.csv", b"# my list\n\n" + CSV.encode()),
        ("t.csv", b"name,pictures\n\n,\na,p\n\nb,q"),
        ("t.csv", b"name,pictures\na,p,\nb,q,,\n"),
        ("t.csv", b",name,pictures\n0,a,p\n1,b,q\n"),
        ("t.jsonl", b"\n".join(json.dumps(row).encode() for row in WANTED)),
        ("t.json", json.dumps(WANTED).encode()),
        ("t.yaml", b"- name: a\n  pictures: p\n- {name: b, pictures: q}\n"),
        ("t.xlsx", excel(["Name", "Pictures"], ["a", "p"], [None, None], ["b", "q"])),
        ("t.parquet", parquet(name=["a", "b"], pictures=["p", "q"])),
        ("t.csv", parquet(name=["a", "b"], pictures=["p", "q"])),
    ],
    ids=(
        "csv semicolon tab tsv crlf bom utf-16 case spaces remarks blanks trailing index jsonl json yaml excel parquet "
        "parquet-by-content"
    ).split(),
)  # fmt: skip
def test_every_form_says_the_same(name: str, data: bytes) -> None:
    assert rows(name, data) == WANTED


def test_numbers_and_truth_values_keep_their_kind() -> None:
    data = excel(["name", "pictures", "vectors", "show_pictures"], [7, "p", 2.0, False])
    assert rows("t.xlsx", data) == [{"name": 7, "pictures": "p", "vectors": 2, "show_pictures": False}]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("t.csv", b"name,pictures\na,caf\xe9\n", "line 2 is no UTF-8 text; save it as UTF-8"),
        ("t.csv", b"name,pictures\na\0,p\n", "line 2 holds a NUL character"),
        ("t.csv", b'name,pictures\n"a,p\n', "quotation mark"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b"name,name\na,b\n", "has two columns name"),
        ("t.json", b"{", "does not read as a table"),
        ("t.json", b'{"name": "a"}', "must be a list of concepts"),
        ("t.json", b"[3]", "is no concept with fields"),
        ("t.yaml", b"- [", "does not read as YAML"),
        ("t.xlsx", b"PK\3\4junk", "does not read as an Excel table"),
        ("t.parquet", b"", "does not read as a table"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(name: str, data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_table(name, data)


@pytest.mark.parametrize(
    ("value", "kind"), [(["p"], "a list"), ({"x": "p"}, "a mapping"), (b"p", "bytes")], ids=["list", "struct", "bytes"]
)
def test_cells_that_hold_no_text_are_told_with_their_row(value: object, kind: str) -> None:
    (row,) = read_table("t.parquet", parquet(name=["a"], pictures=[value]))
    assert row.wrong == f"pictures is {kind}, where a text or a number stands"


# --- what batches make of them ----------------------------------------------------------------------------------------


def batch(tmp_path: Path, text: str) -> dict[str, BatchItem]:
    (tmp_path / "t.csv").write_text(text)
    return {item.name: item for item in read_batch(str(tmp_path / "t.csv"), "thing", Settings())}


def test_a_row_with_too_many_cells_is_refused_and_stops_nobody_else(tmp_path: Path) -> None:
    items = batch(tmp_path, "name,pictures\na,p,q,r\nb,p\n")
    assert items["a"].spec is None and items["a"].reason == "Its row has 4 cells under 2 columns."
    assert items["b"].spec is not None


def test_every_field_of_a_concept_may_be_given_and_unknown_ones_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        spec = batch(
            tmp_path,
            "name,pictures,class word,kind,initializer,vectors,show-pictures,notes\na,p,toy,style,a toy,3,no,hello\n",
        )["a"].spec
    assert spec and (spec.class_word, spec.kind, spec.initializer, spec.vectors) == ("toy", "style", "a toy", 3)
    assert not spec.show_pictures
    assert "nothing reads the columns notes;" in caplog.text


@pytest.mark.parametrize(
    ("pictures", "place"),
    [("~/x", "~/x"), ("p\\sub", "{}/p/sub"), ("/p", "/p"), ("s3://b/x", "s3://b/x"), ("https://a.b/c.zip", "https://a.b/c.zip")],
)  # fmt: skip
def test_places_of_pictures(tmp_path: Path, pictures: str, place: str) -> None:
    spec = batch(tmp_path, f"name,pictures\na,{pictures}\n")["a"].spec
    assert spec and spec.pictures == place.format(tmp_path)


def test_a_windows_path_is_told(tmp_path: Path) -> None:
    item = batch(tmp_path, "name,pictures\na,C:\\pics\n")["a"]
    assert item.spec is None and "is a Windows path" in item.reason


def test_a_description_with_a_byte_order_mark_and_another_case_is_read(tmp_path: Path) -> None:
    (tmp_path / "b/cat").mkdir(parents=True)
    (tmp_path / "b/cat/Concept.TOML").write_bytes(b'\xef\xbb\xbfClass_Word = "toy"\nshow_pictures = false\n')
    (tmp_path / "b/@eaDir").mkdir()
    (item,) = read_batch(str(tmp_path / "b"), "thing", Settings())
    assert item.spec and (item.spec.class_word, item.spec.show_pictures) == ("toy", False)


def test_folders_whose_names_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / b"b".decode()).mkdir()
    (tmp_path / "b" / "caf\udce9").mkdir()
    (item,) = read_batch(str(tmp_path / "b"), "thing", Settings())
    assert item.name == "caf\\xe9" and item.spec is None and item.reason.encode()


def test_a_file_that_is_no_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a\n")
    with pytest.raises(InputError, match=r"list\.txt is no table in a form that can be read"):
        read_batch(str(tmp_path / "list.txt"), "thing", Settings())


# --- what is too large ------------------------------------------------------------------------------------------------

LAUGHS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
MERGES = "".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    "text",
    ["a0: &a0 [x]\n" + LAUGHS, "a0: &a0 {x: y}\n" + MERGES, "- &a [1, [2]]\n- *a\n", "&a [*a]"],
    ids=["laughs", "merges", "once", "itself"],
)
def test_names_that_stand_for_other_parts_of_a_yaml_are_refused(text: str) -> None:
    began = time.process_time()
    with pytest.raises(InputError, match="in place of what it means") as caught:
        read_table("t.yaml", text.encode())
    assert len(str(caught.value)) < 300 and time.process_time() - began < 5


LONG = "x" * 200_000


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.yaml", f"- !{LONG} 1".encode()),
        ("t.yaml", f"- &a 1\n- *{LONG}\n".encode()),
        ("t.yaml", f"- {LONG}: [".encode()),
        ("t.json", f'[["{LONG}"]]'.encode()),
        ("t.json", f'["{LONG}"]'.encode()),
        ("t.csv", f"{LONG[:100_000]},{LONG[:100_000]}\n".encode()),
        ("t.csv", f"name\n{LONG}\n".encode()),
        ("t.yaml", (LONG + LONG).encode()),
    ],
)
def test_what_is_said_of_a_table_is_short_however_long_its_words_are(name: str, data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read_table(name, data)
    assert len(str(caught.value)) < 400


def test_columns_and_rows_of_long_names_are_told_shortly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps([{LONG: 1, **{f"c{number}": 1 for number in range(1000)}}]))
    with pytest.raises(InputError, match="lacks the column") as caught:
        read_batch(str(path), "thing", Settings())
    assert len(str(caught.value)) < 1000
    path.write_text(json.dumps([{"name": "a", "pictures": "p", LONG: [1]}]))
    with caplog.at_level(logging.WARNING):
        (item,) = read_batch(str(path), "thing", Settings())
    assert len(item.reason) < 400 and len(caplog.text) < 1000


def test_a_table_is_not_read_before_its_size_is_known(
    tmp_path: Path, bucket: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_bytes(bytes(5000))
    bucket.put("lists/t.csv", bytes(5000))
    monkeypatch.setattr(tables, "MAX_BYTES", 4000)
    monkeypatch.setattr(FolderStore, "get", lambda *_: pytest.fail("it was read"))
    monkeypatch.setattr(Path, "read_bytes", lambda *_: pytest.fail("it was read"))
    for source in (str(tmp_path / "t.csv"), "s3://bucket/lists/t.csv"):
        with pytest.raises(InputError, match="a table of concepts is smaller"):
            read_batch(source, "thing", Settings())


def far(cell: str) -> bytes:
    """An Excel table with one cell far away."""
    book, buffer = Workbook(), io.BytesIO()
    book.active["A1"], book.active["B1"], book.active[cell] = "name", "pictures", "x"
    book.save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.xlsx", far("A1000000")),
        ("t.xlsx", far("XFD2")),
        ("t.parquet", parquet(name=pd.Categorical.from_codes([0] * 200_000, ["a"]))),
        ("t.parquet", parquet(**{f"c{number}": [1] for number in range(1001)})),
        ("t.csv", b"name,pictures\n" + b"a,b\n" * 100_001),
        ("t.csv", ",".join(f"c{number}" for number in range(200_000)).encode() + b",c1\na\n"),
        ("t.jsonl", b'{"name":"a"}\n' * 100_001),
    ],
    ids=["rows", "columns", "parquet rows", "parquet columns", "csv rows", "csv columns", "jsonl rows"],
)
def test_tables_are_bounded_in_rows_and_columns(name: str, data: bytes) -> None:
    with pytest.raises(InputError, match="is over 100000 rows or 1000 columns"):
        read_table(name, data)


@pytest.mark.parametrize("name", ["t.xlsx", "t.parquet"])
def test_what_unpacks_to_too_much_is_not_unpacked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_UNPACKED_BYTES", 1000)
    text = "a" * 30_000
    data = excel(["name", "pictures"], [text, "p"]) if name == "t.xlsx" else parquet(name=[text] * 100)
    with pytest.raises(InputError, match="unpacks to over"):
        read_table(name, data)


def test_what_an_excel_table_says_of_its_size_is_not_believed() -> None:
    data = excel(["name", "pictures"], ["a", "p"], ["b", "q"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info).replace(b'ref="A1:B3"', b'ref="A1:A2"'))
    assert rows("t.xlsx", buffer.getvalue()) == WANTED
