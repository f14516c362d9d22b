"""The flow of many concepts: what fails is named with its reason and stops nobody, what is done is skipped."""

import shutil
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.train_batch import train_batch
from tests.flows.moss import EVALUATION, MOSS, TRAINING, Run, packs_of, task_runs
from ti_core.config import EvaluationConfig, Packing, TrainingConfig
from ti_core.errors import InputError
from ti_core.judging import scoring
from ti_core.records import BatchRow

DREAMBENCH = Path(__file__).parents[3] / "shared/data/dreambench"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of five concepts that fail in five ways, and between them the moss, which is known."""
    folder = tmp_path / "night"
    for name in ("Bad Name", "a-damaged", "b-empty", "moss", "x-word", "y-text"):
        (folder / name).mkdir(parents=True)
    (folder / "a-damaged/concept.toml").write_text("class_word = ")
    (folder / "x-word/concept.toml").write_text('class_word = "xyzzy"')
    (folder / "y-text/1.png").write_text("no picture")
    shutil.copytree(MOSS, folder / "moss", dirs_exist_ok=True)
    return folder


def test_failures_are_isolated_and_named(at_home: Run, source: Path) -> None:
    state = train_batch(str(source), "monster", training=TRAINING, evaluation=EVALUATION, return_state=True)
    assert state.is_failed() and state.name == "Partly failed: 5 of 6"
    assert str(state.message) == "failed 5, skipped 1. failed: Bad Name, a-damaged, b-empty, x-word, y-text"
    rows: dict[str, BatchRow] = {row.concept: row for row in state.result(raise_on_failure=False)}
    assert {name: row.status for name, row in rows.items()} == {
        "Bad Name": "failed", "a-damaged": "failed", "b-empty": "failed", "moss": "skipped", "x-word": "failed",
        "y-text": "failed",
    }  # fmt: skip
    assert "'Bad Name' cannot name a concept" in rows["Bad Name"].reason
    assert "concept.toml is damaged" in rows["a-damaged"].reason
    assert "No usable picture" in rows["b-empty"].reason
    assert "Unknown class word" in rows["x-word"].reason
    assert "1.png is left out: it is no picture" in rows["y-text"].reason
    known = rows["moss"]
    assert (known.step, known.score) == (at_home.outcome.step, at_home.outcome.score)
    assert known.page == f"moss.miniature.{at_home.outcome.judge_key[:12]}.html"
    page = (at_home.home / "pages/batch.html").read_text()
    assert all(name in page for name in rows)


def test_a_batch_in_which_all_fail_has_failed(at_home: Run, source: Path) -> None:
    shutil.rmtree(source / "moss")
    state = train_batch(str(source), "monster", training=TRAINING, evaluation=EVALUATION, return_state=True)
    assert state.is_failed()
    assert state.name == "Failed" and "failed 5" in str(state.message)
    own = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        (summary,) = [one for one in client.read_artifacts(artifact_filter=own) if one.key == "batch"]
    assert "xyzzy" in str(summary.data)


def test_a_source_that_does_not_exist_fails_the_flow_with_its_sentence(at_home: Run, tmp_path: Path) -> None:
    state = train_batch(str(tmp_path / "nowhere"), return_state=True)
    assert state.is_failed()
    with pytest.raises(InputError, match="There is no folder"):
        state.result()


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, and a folder of two concepts to learn and one that cannot be."""
    folder = tmp_path / "night"
    for name in ("disco", "ninja"):
        shutil.copytree(MOSS.parent / name, folder / name)
    (folder / "empty").mkdir()
    monkeypatch.setenv("PSEUDOWORD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(tmp_path))
    return folder


SHORT = TrainingConfig(steps=4, checkpoint_every=4, batch_size=2)


def test_a_batch_trains_its_concepts_together(prefect_api: None, three: Path) -> None:
    state = train_batch(str(three), "cat", training=SHORT, evaluation=EVALUATION, return_state=True)
    rows = {row.concept: row for row in state.result(raise_on_failure=False)}
    assert rows["empty"].status == "failed" and "No usable picture" in rows["empty"].reason
    assert {rows[name].status for name in ("disco", "ninja")} <= {"published", "rejected", "undecided"}
    assert all(rows[name].step == 4 for name in ("disco", "ninja"))
    batch = state.state_details.flow_run_id
    assert sorted(task_runs(batch, 4)) == ["look", "read batch", "summarise", "train-pack-0"]
    (pack,) = packs_of(batch)
    assert sorted(task_runs(pack, 9)) == [
        "evaluate class word", "evaluate for the report", "evaluate step 4", "evaluate the champions", "ingest",
        "preprocess", "register", "select", "train",
    ]  # fmt: skip
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(batch)
    assert run.name.startswith("night 20")
    pages = sorted((three.parent / "home/store/batches").glob("*/page.html"))
    assert [page.parent.name[-8:] for page in pages] == [str(batch)[:8]] and b"disco" in pages[0].read_bytes()


@pytest.mark.skipif(not DREAMBENCH.is_dir(), reason=f"the DreamBooth data set is not at {DREAMBENCH}")
def test_the_dreambooth_data_set_runs_by_its_own_protocol(
    prefect_api: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSEUDOWORD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", str(DREAMBENCH))
    training = TrainingConfig(steps=2, checkpoint_every=2, batch_size=1)
    evaluation = EvaluationConfig(protocol="dreambench", data=str(DREAMBENCH), seeds=2, sampler_steps=2)
    state = train_batch(str(DREAMBENCH), "", training=training, evaluation=evaluation, return_state=True)
    rows = {row.concept: row for row in state.result(raise_on_failure=False)}
    failed = {name for name, row in rows.items() if row.status == "failed"}
    unknown = {"backpack", "berry-bowl", "clock", "dog", "red-cartoon", "teapot", "vase"}
    assert failed == unknown, "the miniature does not know their class words"
    assert all("Unknown class word" in rows[name].reason for name in failed)
    assert "duck-toy" in rows and all(set(row.figures) == {"CLIP-I", "CLIP-T"} for row in rows.values() if row.figures)
    page = (tmp_path / "home/pages/batch.html").read_text()
    assert "Means over 3 of 10 concepts" in page and "0.780" in page and "no DINO" in page
    (cat_page,) = (tmp_path / "home/pages").glob("cat.miniature.*.html")
    cat = cat_page.read_text().replace("<wbr>", "")
    assert "wearing a red hat" in cat, "a live subject's prompts"


def test_with_halving_a_pack_is_judged_in_rounds_whose_pictures_are_not_made_again(
    prefect_api: None, three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    stock = scoring.sample_batch
    monkeypatch.setattr(scoring, "sample_batch", lambda *given: made.append(len(given[3])) or stock(*given))
    evaluation = EvaluationConfig(protocol="quick", halving=True, sampler_steps=2)
    training = TrainingConfig(steps=6, checkpoint_every=1, batch_size=2)
    state = train_batch(str(three), "cat", training=training, evaluation=evaluation, return_state=True)
    rows = {row.concept: row for row in state.result(raise_on_failure=False)}
    assert {rows[name].status for name in ("disco", "ninja")} <= {"published", "rejected", "undecided"}
    # Of twelve prompts, each concept: six steps on one seed, three on the other, and the chosen one on four for the
    # report. Both have one class word: it is drawn once, on two seeds and on four, as are the neutral word's six plain
    # prompts on four.
    assert sum(made) == 2 * 12 * (6 + 3 + 4) + 12 * (2 + 4) + 6 * 4
    labels = task_runs(*packs_of(state.state_details.flow_run_id), 18)
    assert "halve after rung 1" in labels
    names = [name for name in labels if name.startswith("evaluate step")]
    assert {name for name in names if name.endswith("rung 1")} == {f"evaluate step {n}, rung 1" for n in range(1, 7)}
    assert len([name for name in names if name.endswith("rung 2")]) in range(3, 7)


def test_what_a_pack_cannot_train_is_named_and_not_tried_again(prefect_api: None, three: Path) -> None:
    hopeless = SHORT.model_copy(update={"learning_rate": 1e-20})
    state = train_batch(str(three), "cat", training=hopeless, evaluation=EVALUATION, return_state=True)
    assert state.is_failed()
    rows = {row.concept: row for row in state.result(raise_on_failure=False)}
    assert "the vectors of disco did not move" in rows["disco"].reason and rows["ninja"].status == "failed"


def test_a_batch_whose_time_is_over_pauses_and_goes_on_the_next_night(prefect_api: None, three: Path) -> None:
    state = train_batch(
        str(three), "cat", training=SHORT, evaluation=EVALUATION, packing=Packing(minutes=1e-9), return_state=True
    )
    rows = {row.concept: row for row in state.result(raise_on_failure=False)}
    assert {name: row.status for name, row in rows.items()} == {"empty": "failed", "disco": "paused", "ninja": "paused"}
    assert "was over before it began: the next batch takes it" in rows["disco"].reason
    state = train_batch(str(three), "cat", training=SHORT, evaluation=EVALUATION, return_state=True)
    again = {row.concept: row for row in state.result(raise_on_failure=False)}
    assert again["disco"].step == again["ninja"].step == 4
