"""Documents as they are stored and read back."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.builders import judged
from ti_core import keys
from ti_core.errors import IntegrityError
from ti_core.records import (
    Cells,
    Champion,
    Change,
    Document,
    ImageSet,
    Manifest,
    Outcome,
    blob_key,
    champion_key,
    former_champion_key,
    manifest_key,
    now,
    outcome_key,
    run_prefix,
)
from ti_core.store.base import is_key
from ti_core.store.folder import FolderStore

ENDED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return judged(FolderStore(tmp_path / "store"))


@pytest.fixture
def documents(manifest: Manifest) -> list[Document]:
    plan = manifest.plan
    common = {"judge_key": plan.judge_key, "train_key": plan.train_key, "concept": "cat-toy", "base": "miniature"}
    where = manifest_key(plan)
    outcome = Outcome(
        **common, status="published", reason="It is good.", step=20, score=0.5, version=1, champion=True, run_id="r",
        manifest=where, ended=ENDED,
    )  # fmt: skip
    champion = Champion(
        **common, base_digest="b", placeholder="<cat-toy>", version=1, step=20, vectors="v", files=manifest.files,
        protocol="p", score=0.5, manifest=where, previous=None, promoted=ENDED,
    )  # fmt: skip
    return [manifest, outcome, champion]


def test_warnings_of_earlier_manifests_are_findings() -> None:
    images = ImageSet.model_validate({"pictures": (), "warnings": ["One picture is small."]})
    assert images.warnings == ("One picture is small.",) and images.findings[0].severity == "warning"


def test_documents_come_back_as_they_were_stored(documents: list[Document]) -> None:
    for document in documents:
        data = document.to_bytes()
        assert type(document).from_bytes(data, "here") == document
        assert data.endswith(b"}\n")
        # An outcome that is not `imported` is written as of schema 2, which older readers know.
        assert json.loads(data)["schema_version"] == (2 if isinstance(document, Outcome) else type(document).SCHEMA)


def test_a_newer_document_is_refused_in_a_sentence(documents: list[Document]) -> None:
    for document in documents:
        known = type(document).SCHEMA
        raw = json.loads(document.to_bytes()) | {"schema_version": known + 1, "new_field": 1}
        with pytest.raises(IntegrityError) as caught:
            type(document).from_bytes(json.dumps(raw).encode(), "s3://bucket/thing.json")
        assert str(caught.value).startswith(
            f"s3://bucket/thing.json has schema version {known + 1}, newer than {known}"
        )
        assert "upgrade Pseudoword" in str(caught.value)


def test_a_manifest_of_schema_1_reads_on() -> None:
    """The file is one that the first version wrote."""
    old = Manifest.from_bytes((Path(__file__).parent / "data/manifest-schema-1.json").read_bytes(), "here")
    assert (old.schema_version, old.table, old.plan.opinion) == (1, "", None)
    assert old.scores[0].clip_i_edit is None and old.scores[0].clip_i.mean > 0
    assert (old.plan.train_key, old.plan.judge_key) == keys.older(old.plan)[-1]
    assert old.verdict == "accepted" and (old.report.verdict, old.device) == ("", "")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"null", b"[]", b"3", b'"text"', b"\xff\xfe", b"{}", b'{"schema_version": 1}']
)
def test_damage_is_refused_in_a_sentence(data: bytes) -> None:
    for kind in (Manifest, Outcome, Champion):
        with pytest.raises(IntegrityError, match=f"^here is damaged: it does not read as a {kind.__name__}"):
            kind.from_bytes(data, "here")


def test_a_document_cut_anywhere_is_refused(documents: list[Document]) -> None:
    for document in documents:
        data = document.to_bytes().rstrip()
        for end in range(0, len(data), max(1, len(data) // 50)):
            with pytest.raises(IntegrityError):
                type(document).from_bytes(data[:end], "here")


def test_fields_that_a_later_version_added_are_read_over(documents: list[Document]) -> None:
    for document in documents:
        raw = json.loads(document.to_bytes()) | {"surprise": 1}
        if "files" in raw:
            raw["files"][0]["surprise"] = {"deep": True}
        assert type(document).from_bytes(json.dumps(raw).encode(), "here") == document


def test_wrong_types_are_damage(documents: list[Document]) -> None:
    raw = json.loads(documents[1].to_bytes())
    for wrong in ({"step": "twenty"}, {"status": "lost"}, {"schema_version": "1a"}):
        with pytest.raises(IntegrityError):
            Outcome.from_bytes(json.dumps(raw | wrong).encode(), "here")


def test_records_cannot_be_changed(manifest: Manifest) -> None:
    with pytest.raises(ValidationError):
        manifest.page = "other"


def test_the_mean_is_over_all_cells() -> None:
    cells = Cells(prompts=("a", "b"), seeds=(1, 2, 3), values=((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)))
    assert cells.mean == pytest.approx(3.5)


def test_what_a_person_said_is_kept_in_one_line_without_control_characters() -> None:
    said = Change(action="pin", judge_key="a" * 32, version=1, who="An\x1b[31mn", why="two\nlines, \udcff")
    assert (said.who, said.why) == ("An\\x1b[31mn", "two lines, \\xff")
    assert Change.model_validate_json(said.model_dump_json()) == said


def test_times_are_utc_and_whole_seconds() -> None:
    assert now().tzinfo is UTC and now().microsecond == 0


def test_keys_are_keys_and_lie_where_the_layout_says(manifest: Manifest) -> None:
    plan = manifest.plan
    run = f"concepts/cat-toy/miniature/runs/{plan.train_key}"
    assert run_prefix("cat-toy", "miniature", plan.train_key) == run
    assert manifest_key(plan) == f"{run}/manifest-{plan.judge_key}.json"
    assert outcome_key(plan) == f"{run}/outcome-{plan.judge_key}.json"
    assert champion_key("cat-toy", "miniature") == "concepts/cat-toy/miniature/champion.json"
    assert former_champion_key("cat-toy", "miniature", "k") == "concepts/cat-toy/miniature/champions/k.json"
    assert blob_key("abcd") == "blobs/sha256/ab/abcd"
    assert all(is_key(key) for key in (manifest_key(plan), outcome_key(plan), blob_key("ab" * 32)))
