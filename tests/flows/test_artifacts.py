"""What Prefect is told of pictures before anything is trained. The API itself is Prefect's affair."""

from typing import Any

import pytest

from tasks import artifacts
from ti_core import progress
from ti_core.records import Finding, ImageSet

BLURRED = Finding(severity="warning", kind="blur", file="0.png", text="0.png is blurred all over.")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[dict[str, Any]]]]:
    """The tables that are shown, by their keys."""
    shown: list[tuple[str, list[dict[str, Any]]]] = []
    monkeypatch.setattr(artifacts, "create_table_artifact", lambda table, key, description: shown.append((key, table)))
    return shown


@pytest.mark.parametrize(("concepts", "key"), [(["cat"], "pictures-cat"), (["cat", "dog"], "pictures")])
def test_findings_are_a_table_at_ingestion(
    tables: list[tuple[str, list[dict[str, Any]]]], concepts: list[str], key: str
) -> None:
    sets = tuple((name, ImageSet(pictures=(), findings=(BLURRED,))) for name in concepts)
    artifacts.Artifacts()(progress.Looked(sets))
    ((shown, table),) = tables
    assert shown == key and [row["concept"] for row in table] == concepts
    assert table[0]["file"] == "0.png" and table[0]["severity"] == "warning" and table[0]["finding"] == BLURRED.text


def test_where_nothing_was_found_no_table_is_shown(tables: list[tuple[str, list[dict[str, Any]]]]) -> None:
    artifacts.Artifacts()(progress.Looked((("cat", ImageSet(pictures=())),)))
    artifacts.Artifacts()(progress.Looked(()))
    assert tables == []
