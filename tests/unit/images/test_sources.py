"""Sub-folders and texts of a source."""

import os
from pathlib import Path

import pytest

from ti_core.errors import InputError
from ti_core.images import sources
from ti_core.images.sources import concept_folders, holds_concepts, read_text
from ti_core.settings import Settings
from ti_core.store.folder import FolderStore


def test_concept_folders_and_their_texts_come_from_a_bucket(bucket: FolderStore) -> None:
    bucket.put("batch/cat/0.png", b"1")
    bucket.put("batch/cat/concept.toml", b"class_word = 'cat'")
    bucket.put("batch/dog/0.png", b"2")
    bucket.put("batch/readme.txt", b"hello")
    found = concept_folders("s3://bucket/batch/", Settings())
    assert found == {"cat": "s3://bucket/batch/cat", "dog": "s3://bucket/batch/dog"}
    assert read_text(found["cat"], "concept.toml", Settings()) == b"class_word = 'cat'"
    assert read_text(found["dog"], "concept.toml", Settings()) is None


@pytest.mark.parametrize("name", ["concept.toml", "Concept.TOML", "CONCEPT.toml"])
def test_a_text_has_any_case_in_a_bucket_and_on_disk(bucket: FolderStore, tmp_path: Path, name: str) -> None:
    bucket.put(f"cat/{name}", b"class_word = 'cat'")
    bucket.put("cat/deeper/concept.toml", b"of another")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / name).write_bytes(b"class_word = 'cat'")
    for place in ("s3://bucket/cat", str(tmp_path / "cat")):
        assert read_text(place, "concept.toml", Settings()) == b"class_word = 'cat'"


def test_the_name_as_it_is_documented_comes_first(bucket: FolderStore) -> None:
    bucket.put("cat/CONCEPT.TOML", b"loud")
    bucket.put("cat/concept.toml", b"quiet")
    assert read_text("s3://bucket/cat", "concept.toml", Settings()) == b"quiet"


def test_a_text_that_is_too_large_is_not_read(
    bucket: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("cat/concept.toml", bytes(2**20 + 1))
    (tmp_path / "concept.toml").write_bytes(bytes(2**20 + 1))
    monkeypatch.setattr(FolderStore, "get", lambda *_: pytest.fail("it was read"))
    monkeypatch.setattr(Path, "read_bytes", lambda *_: pytest.fail("it was read"))
    for place in ("s3://bucket/cat", str(tmp_path)):
        with pytest.raises(InputError, match=r"concept\.toml is over 1 MiB, and is not read"):
            read_text(place, "concept.toml", Settings())


# --- whether there are concepts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "holds"),
    [
        (["cat/0.jpg", "dog/deep/0.jpg"], True),
        (["cat/0.jpg", "dog/0.jpg", ".hidden.jpg", "notes.txt"], True),
        (["cat/0.jpg"], False),
        (["cat/0.jpg", "dog/notes.txt"], False),
        (["cat/0.jpg", "dog/0.jpg", "0.jpg"], False),
        (["cat/0.jpg", "masks/0.jpg"], False),
        (["cat/0.jpg", ".trash/0.jpg"], False),
    ],
)
def test_concepts_are_folders_of_pictures_with_none_beside(
    bucket: FolderStore, tmp_path: Path, paths: list[str], holds: bool
) -> None:
    for path in paths:
        bucket.put(f"some/{path}", b"1")
        file = tmp_path / "some" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"1")
    assert holds_concepts("s3://bucket/some", Settings()) == holds
    assert holds_concepts(str(tmp_path / "some"), Settings()) == holds


def test_no_more_is_looked_at_than_it_takes_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_FILES", 20)
    for number in range(30):  # more concepts than files may be looked at
        (tmp_path / f"many/{number}").mkdir(parents=True)
        (tmp_path / f"many/{number}/0.jpg").write_bytes(b"1")
    assert holds_concepts(str(tmp_path / "many"), Settings())
    for number in range(100):
        (tmp_path / f"none/{number}").mkdir(parents=True)
        (tmp_path / f"none/{number}/text").write_bytes(b"1")
    looked = list[str]()
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(path) or real(path))
    assert not holds_concepts(str(tmp_path / "none"), Settings())
    assert len(looked) < 30
