"""Batches as they are read from folders and tables."""

from pathlib import Path

import pandas as pd
import pytest

from ti_core.config import TrainingConfig
from ti_core.errors import InputError
from ti_core.planning.batch import BatchItem, for_bases, is_batch, read_batch
from ti_core.settings import Settings


def read(source: Path | str, class_word: str = "thing") -> dict[str, BatchItem]:
    items = read_batch(str(source), class_word, Settings())
    assert [item.name for item in items] == sorted(item.name for item in items)
    return {item.name: item for item in items}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "batch" / name).mkdir(parents=True)
    return tmp_path / "batch"


# --- folders ----------------------------------------------------------------------------------------------------------


def test_every_sub_folder_is_a_concept(folder: Path) -> None:
    (folder / "dog/concept.toml").write_text(
        'class_word = "animal"\nvectors = 2\nkind = "style"\ninitializer = "a dog"'
    )
    (folder / "readme.txt").write_text("hello")
    (folder / ".hidden").mkdir()
    items = read(folder)
    assert set(items) == {"cat", "dog"}
    cat, dog = items["cat"].spec, items["dog"].spec
    assert cat and (cat.name, cat.pictures, cat.class_word) == ("cat", str(folder / "cat"), "thing")
    assert dog and (dog.class_word, dog.vectors, dog.kind, dog.initializer) == ("animal", 2, "style", "a dog")


def test_a_word_s_file_lies_beside_the_pictures(folder: Path) -> None:
    (folder / "dog/concept.toml").write_text('initializer = "old.pt"\nimported = true')
    (folder / "cat/concept.toml").write_text('initializer = "<other-cat>"')
    items = read(folder)
    cat, dog = items["cat"].spec, items["dog"].spec
    assert cat and cat.initializer == "<other-cat>" and not cat.imported
    assert dog and dog.initializer == str(folder / "dog/old.pt") and dog.imported


def test_a_concept_s_own_training_goes_before_the_batch_s(folder: Path) -> None:
    (folder / "dog/concept.toml").write_text("learning_rate = 1e-3\nsteps = 200\nmirror = false\nvectors = 2")
    of_batch = TrainingConfig(steps=50, batch_size=2)
    cat, dog = (read(folder)[name].training(of_batch) for name in ("cat", "dog"))
    assert cat == of_batch
    assert (dog.learning_rate, dog.steps, dog.mirror, dog.batch_size) == (1e-3, 200, False, 2)
    assert dog.resolved("sd1", 512).checkpoint_every == 200, "no more than its own steps"


def test_a_zero_of_a_concept_says_nothing(folder: Path) -> None:
    (folder / "dog/concept.toml").write_text("steps = 0")
    assert read(folder)["dog"].training(TrainingConfig(steps=50)).steps == 50


DAMAGED = [
    (b"steps = -1", "steps: "),
    (b'mirror = "perhaps"', "mirror: "),
    (b"learning_rate = 7", "learning_rate: "),
    (b"batch_size = 2", "batch_size: "),
    (b"class_word = ", "concept.toml is damaged"),
    (b"\xff\xfe\x00", "concept.toml is damaged"),
    (b'colour = "red"', "colour: nothing reads this field; those that are read are class_word, kind, "),
    (b"vectors = 99", "vectors: "),
    (b"class_word = 3", "class_word: "),
    (b'class_word = ""', "class_word: "),
]


@pytest.mark.parametrize(("text", "reason"), DAMAGED)
def test_a_damaged_description_stops_nobody_else(folder: Path, text: bytes, reason: str) -> None:
    (folder / "cat/concept.toml").write_bytes(text)
    items = read(folder)
    assert items["cat"].spec is None and reason in items["cat"].reason
    assert items["dog"].spec is not None


def test_what_names_nothing_is_not_the_working_folder(folder: Path) -> None:
    for source in ("", " "):
        with pytest.raises(InputError, match="No source of pictures is named"):
            read_batch(source, "", Settings())
        with pytest.raises(InputError, match="No source of pictures is named"):
            is_batch(source, Settings())


def test_a_folder_that_cannot_name_a_concept_stops_nobody_else(folder: Path) -> None:
    (folder / "Bad Name").mkdir()
    items = read(folder)
    assert items["Bad Name"].spec is None
    assert "'Bad Name' cannot name a concept" in items["Bad Name"].reason
    assert "Value error" not in items["Bad Name"].reason
    assert items["cat"].spec and items["dog"].spec


def test_a_description_outside_the_allowed_roots_stops_nobody_else(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(folder))
    (tmp_path / "secret.toml").write_text('class_word = "secret"')
    (folder / "cat/concept.toml").symlink_to(tmp_path / "secret.toml")
    items = read(folder)
    assert items["cat"].spec is None and "lies outside the folders" in items["cat"].reason
    assert items["dog"].spec is not None


def test_sources_without_concepts_are_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="holds no concept"):
        read(folder / "cat")
    with pytest.raises(InputError, match="There is no folder"):
        read(tmp_path / "nowhere")
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="lies outside the folders"):
        read(folder)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_csv_table_with_relative_and_absolute_folders(tmp_path: Path) -> None:
    table = tmp_path / "night.csv"
    table.write_text(
        "name,pictures,class_word,vectors,kind\n"
        "dog,/photos/dog,animal,2,style\n"
        "cat,cats/one,,,\n"
        "fox,s3://bucket/fox,,,\n"
    )
    items = read(table)
    cat, dog, fox = (items[name].spec for name in ("cat", "dog", "fox"))
    assert cat and (cat.pictures, cat.class_word, cat.vectors) == (f"{tmp_path}/cats/one", "thing", 1)
    assert dog and (dog.pictures, dog.class_word, dog.vectors, dog.kind) == ("/photos/dog", "animal", 2, "style")
    assert fox and fox.pictures == "s3://bucket/fox"


def test_a_parquet_table_says_the_same(tmp_path: Path) -> None:
    rows = [
        {"name": "dog", "pictures": "/photos/dog", "class_word": "animal", "vectors": 2, "steps": 200, "mirror": False},
        {"name": "cat", "pictures": "cats/one", "class_word": None, "vectors": None, "steps": None, "mirror": None},
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    items = read(tmp_path / "t.parquet")
    assert items == read(tmp_path / "t.csv")
    assert items["dog"].training(TrainingConfig()) == TrainingConfig(steps=200, mirror=False)
    assert items["cat"].training(TrainingConfig(steps=50)) == TrainingConfig(steps=50)


@pytest.mark.parametrize("name", ["007", "null", "nan", "1e3"])
def test_names_are_not_taken_for_numbers_or_gaps(tmp_path: Path, name: str) -> None:
    (tmp_path / "t.csv").write_text(f"name,pictures\n{name},bond\n")
    assert read(tmp_path / "t.csv")[name].spec is not None


def test_one_bad_row_stops_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name,pictures,vectors\nBad Name,a,1\ncat,b,1\ndog,c,many\nfox,,1\n,d,1\n")
    items = read(tmp_path / "t.csv")
    assert "cannot name a concept" in items["Bad Name"].reason
    assert items["dog"].reason.startswith("vectors: ")
    assert items["fox"].reason.startswith("pictures: ")
    assert items[""].spec is None
    assert items["cat"].spec is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"name,class_word\ncat,toy\n", "lacks the column pictures"),
        (b"pictures\ncat\n", "lacks the column name"),
        (b"", "does not read as a table"),
        (b'name,pictures\n"cat,a\n', "does not read as a table"),
        (b"name,pictures\n\xff\xfe,a\n", "does not read as a table"),
        (b"name,pictures\n", "holds no concept"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(InputError, match=words):
        read(tmp_path / "t.csv")


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"name,pictures\n")
    with pytest.raises(InputError, match=r"t.parquet does not read as a table"):
        read(tmp_path / "t.parquet")


def test_missing_and_forbidden_tables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="There is no table"):
        read(tmp_path / "none.csv")
    (tmp_path / "t.csv").write_text("name,pictures\ncat,a\n")
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="lies outside the folders"):
        read(tmp_path / "t.csv")


def test_a_name_in_two_rows_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name,pictures,class_word\ncat,one,animal\ncat,two,animal\n")
    first, second = read_batch(str(tmp_path / "t.csv"), "object", Settings())
    assert first.spec and first.spec.pictures.endswith("/one")
    assert second.spec is None and "more than once" in second.reason


def test_a_row_that_cannot_be_used_does_not_take_a_name_away(tmp_path: Path) -> None:
    table = tmp_path / "batch.csv"
    table.write_text("name,pictures,class_word,vectors\ncat,a,toy,900\ncat,b,toy,1\ncat,c,toy,1\n")
    refused, used, twice = read_batch(str(table), "toy", Settings(allowed_roots=(tmp_path,)))
    assert refused.spec is None and refused.reason.startswith("vectors: ")
    assert used.spec and used.spec.pictures.endswith("/b")
    assert twice.spec is None and "more than once" in twice.reason


# --- several base models ----------------------------------------------------------------------------------------------


def on(items: list[BatchItem]) -> list[tuple[str, str]]:
    return [(item.name, item.base_model) for item in items]


def test_a_concept_is_there_once_for_each_base_model(folder: Path) -> None:
    (folder / "dog/concept.toml").write_text('base_model = "own/sd15, own/sdxl"')
    items = read_batch(str(folder), "thing", Settings())
    assert on(for_bases(items, [""], Settings())) == [("cat", ""), ("dog", "own/sd15"), ("dog", "own/sdxl")]
    assert on(for_bases(items, ["a/one", "a/two"], Settings())) == [
        ("cat", "a/one"), ("cat", "a/two"), ("dog", "own/sd15"), ("dog", "own/sdxl")
    ]  # fmt: skip
    assert on(for_bases(items, ["", "a/two"], Settings()))[:2] == [("cat", ""), ("cat", "a/two")]
    assert items[1].spec and items[1].spec.name == "dog"


def test_base_models_of_one_name_are_refused(folder: Path) -> None:
    (folder / "dog/concept.toml").write_text('base_model = "a/one,b/one"')
    items = read_batch(str(folder), "thing", Settings())
    assert items[1].spec is None and items[1].reason.startswith("base_model: The base models a/one and b/one are both")
    for named in (["a/one", "b/one"], ["a/one", "a/one"], ["", "miniature"], ["/"]):
        with pytest.raises(InputError):
            for_bases(items, named, Settings())


def test_a_table_says_it_in_a_column(tmp_path: Path) -> None:
    table = tmp_path / "words.csv"
    table.write_text("name,pictures,base_model\ncat,cat,a/sdxl\ndog,dog,\n")
    assert on(for_bases(read_batch(str(table), "thing", Settings()), ["a/sd15"], Settings())) == [
        ("cat", "a/sdxl"), ("dog", "a/sd15")
    ]  # fmt: skip
