"""Sub-folders and texts of a source."""

from ti_core.images.sources import concept_folders, read_text
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
