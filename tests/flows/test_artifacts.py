"""What Prefect is told of pictures before anything is trained. The API itself is Prefect's affair."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks import artifacts
from ti_core import progress
from ti_core.config import ConceptSpec, EvaluationConfig, SelectionRule, TrainingConfig
from ti_core.planning.plan import make_plan
from ti_core.records import Finding, ImageSet
from ti_core.settings import load_settings
from ti_core.store import open_store

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


@pytest.mark.parametrize(
    ("size", "show", "pictures"), [((120, 64), True, 1), ((120, 64), False, 0), ((64, 64), True, 0)]
)
def test_a_cut_picture_is_shown_before_and_after_at_ingestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], show: bool, pictures: int
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(artifacts, "create_image_artifact", lambda uri, key, description: shown.append(key))
    monkeypatch.setenv("PSEUDOWORD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(tmp_path))
    (tmp_path / "cat").mkdir()
    for number in range(3):
        rng = np.random.default_rng(number)
        noise = rng.integers(0, 256, (size[1], size[0], 3)) * rng.uniform(0.1, 1, 3)  # a colour of its own
        Image.fromarray(noise.astype(np.uint8)).save(tmp_path / f"cat/{number}.png")
    settings = load_settings()
    concept = ConceptSpec(name="cat", pictures=str(tmp_path / "cat"), class_word="cat", show_pictures=show)
    given = TrainingConfig(), EvaluationConfig(), SelectionRule(), "miniature"
    plan = make_plan(concept, *given, settings, open_store(settings))
    artifacts.Artifacts()(progress.Kept(plan))
    assert shown == ["given-cat"] * pictures
    assert all(bool(one.whole) == bool(pictures) for one in plan.images.pictures)


def test_where_nothing_was_found_no_table_is_shown(tables: list[tuple[str, list[dict[str, Any]]]]) -> None:
    artifacts.Artifacts()(progress.Looked((("cat", ImageSet(pictures=())),)))
    artifacts.Artifacts()(progress.Looked(()))
    assert tables == []


def bars(monkeypatch: pytest.MonkeyPatch, events: list[progress.Trained]) -> list[tuple[str, float]]:
    """What is sent of a training, as (key, per cent), when time does not matter."""
    sent: list[tuple[str, float]] = []

    def create(share: float, key: str, description: str) -> str:
        sent.append((key, share))
        return key

    monkeypatch.setattr(artifacts, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(artifacts, "create_progress_artifact", create)
    monkeypatch.setattr(
        artifacts, "update_progress_artifact", lambda key, share, description: sent.append((key, share))
    )
    show = artifacts.Artifacts()
    for event in events:
        show(event)
        show._thread.submit(int).result()  # what is being sent holds the next one up
    return sent


def test_a_training_has_a_bar_that_moves_by_hundredths(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [progress.Trained("key", "cat", step, 1000, 0.1, 0.4, 9.0, step, 1000) for step in range(1, 1001)]
    sent = bars(monkeypatch, alone)
    assert {key for key, _ in sent} == {"training-cat"} and sent[-1] == ("training-cat", 100.0)
    assert len(sent) <= 101


def test_those_that_are_trained_together_have_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    together = [
        progress.Trained(name, name, step, 10, 0.1, 0.4, 9.0, 2 * (step - 1) + place, 20)
        for step in range(1, 11)
        for place, name in enumerate(("cat", "dog"), 1)
    ]
    sent = bars(monkeypatch, together)
    assert {key for key, _ in sent} == {"training"} and sent[-1] == ("training", 100.0)
