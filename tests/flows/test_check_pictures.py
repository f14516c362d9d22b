"""The flow that looks at pictures before a card is asked for: its state, what it shows, and what it does not load."""

import json
import shutil
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact
from prefect.states import State

from flows.check_pictures import check_pictures
from tests.flows.moss import MOSS, Run
from tests.unit.test_imports import loaded_after


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two concepts: the moss with a file that is no picture, and one that is not to be shown."""
    shutil.copytree(MOSS, tmp_path / "batch/moss")
    (tmp_path / "batch/moss/broken.jpg").write_text("words")
    shutil.copytree(MOSS, tmp_path / "batch/person")
    (tmp_path / "batch/person/concept.toml").write_text("show_pictures = false\n")
    return tmp_path / "batch"


def shown(state: State) -> dict[str | None, Artifact]:
    own = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        return {one.key: one for one in client.read_artifacts(artifact_filter=own)}


def test_one_concept_is_usable_with_its_findings_its_sheet_and_the_time_that_a_run_took(
    at_home: Run, folder: Path
) -> None:
    state = check_pictures(str(folder / "moss"), return_state=True)
    assert (state.name, state.is_completed()) == ("Usable", True)
    pictures = len(list(MOSS.glob("*.png")))
    assert str(state.message).startswith(f"{pictures} usable pictures. On cpu in float32 a word takes about")
    there = shown(state)
    assert set(there) == {"check", "given-moss", "pictures-moss"}
    assert "broken.jpg" in str(json.loads(str(there["pictures-moss"].data)))
    assert "1 problem" in str(there["check"].data) and "(careful)" in str(there["check"].data)
    assert str(there["given-moss"].data).startswith("data:image/png;base64,")


def test_a_batch_is_not_usable_where_one_of_its_concepts_is_not(at_home: Run, folder: Path) -> None:
    (folder / "empty").mkdir()
    state = check_pictures(str(folder), return_state=True)
    assert (state.name, state.is_failed()) == ("Not usable: 1 of 3", True)
    assert "empty: No usable picture" in str(state.message)
    assert set(shown(state)) == {"check", "given-moss", "pictures"}, "a person's pictures are not shown"


def test_what_cannot_be_used_at_all_says_why(at_home: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text/1.png").write_text("words")
    state = check_pictures(str(tmp_path / "text"), return_state=True)
    assert (state.name, state.is_failed()) == ("Not usable", True) and "1.png is left out" in str(state.message)
    state = check_pictures(str(folder / "moss"), show_pictures=False, return_state=True)
    assert "given-moss" not in shown(state)


def test_its_worker_needs_no_torch(tmp_path: Path) -> None:
    assert loaded_after("import flows.check_pictures, flows.watch_inbox", tmp_path) & {"torch", "diffusers"} == set()
