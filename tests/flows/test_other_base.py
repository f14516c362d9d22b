"""Folders of every kind of Stable Diffusion run by the same flow: tiny random ones and the small CLIP."""

from pathlib import Path

import pytest

from flows.options import asked_of
from flows.train_batch import train_batch
from flows.train_concept import train_concept
from tests.flows.moss import MOSS, packs_of
from tests.tiny import save_sd1, save_sd2, save_sdxl, stock_pipeline
from ti_core import formats
from ti_core.backbone.folder import MINIATURE
from ti_core.config import ConceptSpec, EvaluationConfig, TrainingConfig
from ti_core.publishing import catalogue
from ti_core.records import Manifest
from ti_core.settings import load_settings
from ti_core.store import get_blob, open_store

SAVE = {"sd1": save_sd1, "sd2": save_sd2, "sdxl": save_sdxl}


@pytest.mark.parametrize("kind", SAVE)
def test_the_whole_line_on_a_stable_diffusion_folder(
    prefect_api: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = SAVE[kind](tmp_path / "Tiny SD")
    monkeypatch.setenv("PSEUDOWORD_CLIP", str(MINIATURE / "mini-clip"))
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", f"{MOSS.parent}:{tmp_path}")
    concept = ConceptSpec(name="moss", pictures=str(MOSS), class_word="toy", vectors=2)
    training = TrainingConfig(steps=4, checkpoint_every=2, batch_size=2)
    evaluation = EvaluationConfig(seeds=2, sampler_steps=2)
    outcome = train_concept(**asked_of(concept), training=training, evaluation=evaluation, base_model=str(folder))

    store = open_store(load_settings())
    assert outcome.base == "tiny-sd"
    assert outcome.status in (
        "published",
        "rejected",
        "undecided",
    )  # random weights
    manifest = Manifest.from_bytes(store.get(outcome.manifest).data, outcome.manifest)
    assert [one.step for one in manifest.checkpoints] == [2, 4]
    assert catalogue.outcomes_of(store, "moss", "tiny-sd") == [outcome]
    # Also a rejected run's files load into a stock pipeline of its base model.
    (file,) = [file for file in manifest.files if file.layout == "diffusers"]
    (tmp_path / file.filename).write_bytes(get_blob(store, file.sha256))
    pipeline = stock_pipeline(folder)
    encoders = {"sd1": ["clip_l"], "sd2": ["clip_h"], "sdxl": ["clip_l", "clip_g"]}[kind]
    exec(formats.diffusers_lines(encoders, str(tmp_path / file.filename), "<moss>"), {"pipeline": pipeline})  # noqa: S102  # our own lines, as a person would run them
    assert "<moss>_1" in pipeline.tokenizer.get_vocab()


def test_a_batch_learns_a_concept_for_each_of_its_base_models(
    prefect_api: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (str(save_sd1(tmp_path / name)) for name in ("One", "Other"))
    monkeypatch.setenv("PSEUDOWORD_CLIP", str(MINIATURE / "mini-clip"))
    monkeypatch.setenv("PSEUDOWORD_ALLOWED_ROOTS", f"{MOSS.parent}:{tmp_path}")
    (tmp_path / "night").mkdir()
    (tmp_path / "night/words.csv").write_text(f"name,pictures\nmoss,{MOSS}\nnothing,{tmp_path}\n")
    how = {
        "training": TrainingConfig(steps=4, checkpoint_every=2, batch_size=2),
        "evaluation": EvaluationConfig(seeds=2, sampler_steps=2),
        "base_model": one, "further_base_models": [other], "return_state": True,
    }  # fmt: skip
    state = train_batch(str(tmp_path / "night/words.csv"), "toy", **how)
    rows = state.result(raise_on_failure=False)
    assert [(row.concept, row.base) for row in rows] == [
        ("moss", "one"), ("moss", "other"), ("nothing", "one"), ("nothing", "other")
    ]  # fmt: skip
    assert all(row.outcome for row in rows[:2]) and all(row.status == "failed" for row in rows[2:])
    assert "failed: nothing (one), nothing (other)" in str(state.message)
    assert len(packs_of(state.state_details.flow_run_id)) == 2
    store = open_store(load_settings())
    assert [len(catalogue.outcomes_of(store, "moss", base)) for base in ("one", "other")] == [1, 1]
    again = train_batch(str(tmp_path / "night/words.csv"), "toy", **how)
    assert [row.status for row in again.result(raise_on_failure=False)] == ["skipped", "skipped", "failed", "failed"]
    page = (load_settings().home / "pages/batch.html").read_text()
    assert "moss (one)" in page and "moss (other)" in page
