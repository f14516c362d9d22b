"""One Prefect API and one small real run for all tests of the flows."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

from flows.options import asked_of
from flows.train_concept import train_concept
from tests.flows.moss import EVALUATION, MOSS, TRAINING, Run
from ti_core.config import ConceptSpec


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """A Prefect API of its own with an empty database."""
    with prefect_test_harness(server_startup_timeout=240):
        yield


@pytest.fixture(scope="session")
def moss(prefect_api: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The moss, trained for 20 steps and judged at two of them with two pictures per prompt."""
    home = tmp_path_factory.mktemp("moss")
    concept = ConceptSpec(name="moss", pictures=str(MOSS), class_word="monster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PSEUDOWORD_HOME", str(home))
        patch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(MOSS.parent))
        state = train_concept(**asked_of(concept), training=TRAINING, evaluation=EVALUATION, return_state=True)
    with get_client(sync_client=True) as client:
        return Run(home, concept, client.read_flow_run(state.state_details.flow_run_id), state.result())


@pytest.fixture
def at_home(moss: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The moss' run, with the settings of this test pointing at its data folder."""
    monkeypatch.setenv("PSEUDOWORD_HOME", str(moss.home))
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", f"{MOSS.parent}:{tmp_path}")
    return moss
