"""On a card: pictures are a stock pipeline's, a killed training goes on, a whole run ends with a word that loads."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.gpu.conftest import CUDA, DEVICE
from tests.tiny import stock_pipeline
from ti_core import formats
from ti_core.backbone.base import SAMPLERS, Backbone
from ti_core.backbone.folder import MINIATURE
from ti_core.config import ConceptSpec, EvaluationConfig, OwnPrompts, Packing, SelectionRule, TrainingConfig
from ti_core.judging import scoring
from ti_core.line import Line
from ti_core.planning.batch import BatchItem
from ti_core.planning.effort import Effort
from ti_core.planning.plan import make_plan
from ti_core.records import Trained
from ti_core.sampling.sampler import Sampling, sample
from ti_core.sampling.words import encode
from ti_core.settings import Settings
from ti_core.store import get_blob, open_store
from ti_core.training import slot
from ti_core.training.running import prepare, run_training
from ti_core.works import Asked

STEPS = 3
PROMPTS = OwnPrompts.model_validate(
    {
        "select": {"plain": ["a photo of a {}", "the {}"], "edit": ["a blue {}", "a red {}"]},
        "report": {"plain": ["a picture of a {}", "one {}", "my {}", "a nice {}"], "edit": ["a big {}", "a wet {}"]},
    }
)


def settings_of(home: Path, model: Path) -> Settings:
    clip = str(MINIATURE / "mini-clip") if MINIATURE else ""
    return Settings(home=home, device=DEVICE, clip=clip, allowed_roots=(Path.cwd(), model.parent))


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_pictures_are_a_stock_pipelines(
    name: str, folder_of: Callable[[str], Path], model_of: Callable[..., Backbone]
) -> None:
    model, prompts, seeds = model_of(name, "fp32"), ["a photo of a cat", "a red toy"], [7, 8]
    how = Sampling("ddim", STEPS, 4.0, model.info.resolution)
    made = sample(model, encode(model, prompts, {}), seeds, how).astype(int)
    del model
    pipeline = stock_pipeline(folder_of(name)).to(DEVICE)
    pipeline.scheduler = SAMPLERS["ddim"].from_config(pipeline.scheduler.config)
    for picture, prompt, seed in zip(made, prompts, seeds, strict=True):
        stock = pipeline(
            prompt, num_inference_steps=STEPS, guidance_scale=4.0,
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]  # fmt: skip
        difference = np.abs(picture - np.asarray(stock).astype(int))
        # Random weights may enlarge rounding; another prompt or seed is another picture.
        assert difference.mean() < 1 and 10 * difference.mean() < np.abs(made[0] - made[1]).mean()


def trained(home: Path, model: Path) -> tuple[Trained, list[int]]:
    """Train one concept over a folder store; also the steps that were told, one after the other."""
    settings = settings_of(home, model)
    store = open_store(settings)
    concept = ConceptSpec(name="moss", pictures="examples/concepts/moss", class_word="toy")
    training = TrainingConfig(steps=12, batch_size=1, checkpoint_every=4)
    plan = make_plan(
        concept, training, EvaluationConfig(seeds=2, prompts=PROMPTS), SelectionRule(), str(model), settings, store
    )
    work = [(plan, prepare(plan, settings, store))]
    steps = list[int]()
    (made,) = run_training(work, Packing(), settings, store, lambda event: steps.append(event.step), lambda text: None)
    return made, steps


def test_a_killed_training_goes_on_and_ends_the_same(
    folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "REPORT_EVERY", 1)
    model, home = folder_of("sd15"), tmp_path / "killed"
    whole, steps = trained(tmp_path / "whole", model)
    assert steps[0] == 1
    script = (
        "import sys; from pathlib import Path; from ti_core.training import keeping, slot; "
        "keeping.STATE_SECONDS = 0.0; slot.REPORT_EVERY = 1; from tests.gpu.test_line import trained; "
        "trained(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(home), str(model)], env=os.environ | {"PYTHONPATH": "."}
    )
    states = home / "store" / "concepts"
    until = time.monotonic() + 400
    try:
        while not list(states.rglob("training-*.safetensors")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    made, steps = trained(home, model)
    assert steps[0] > 1, "it began anew"
    assert [one.step for one in made.checkpoints] == [4, 8, 12]
    store = open_store(settings_of(home, model))
    ours = formats.read_checkpoint(get_blob(store, made.checkpoints[-1].vectors), "killed")["clip_l"]
    kept = open_store(settings_of(tmp_path / "whole", model))
    theirs = formats.read_checkpoint(get_blob(kept, whole.checkpoints[-1].vectors), "whole")["clip_l"]
    assert np.abs(ours - theirs).max() < 1e-3 if CUDA else (ours == theirs).all()


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_a_whole_run(
    name: str, folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From pictures to an outcome, by as many pictures as were planned. The weights are random, so the word may be
    rejected; what it learned loads in a stock pipeline all the same."""
    model = folder_of(name)
    settings = settings_of(tmp_path, model)
    asked = Asked(
        TrainingConfig(steps=6, checkpoint_every=2, batch_size=2),
        EvaluationConfig(seeds=2, sampler_steps=2, halving=True, prompts=PROMPTS),
        SelectionRule(resamples=100),
        str(model),
    )
    concept = ConceptSpec(name="moss", pictures="examples/concepts/moss", class_word="toy", vectors=2)
    made, stock = list[int](), scoring.sample_batch
    monkeypatch.setattr(scoring, "sample_batch", lambda *of: made.append(len(of[3])) or stock(*of))
    (work,) = Line(settings, open_store(settings)).run([BatchItem("moss", concept)], asked)
    assert work.error is None and work.outcome and work.outcome.step in {2, 4, 6}
    protocol = work.planned.protocol
    effort = Effort.of(work.planned.training, work.planned.evaluation, protocol.select, protocol.report)
    assert sum(made) == effort.pictures and effort.checkpoints == len(work.checkpoints) == 3
    assert {(one.device.partition(" ")[0], one.dtype != "") for one in work.checkpoints} == {(DEVICE, True)}
    vectors = formats.read_checkpoint(get_blob(open_store(settings), work.chosen.vectors), "moss")
    pipeline = stock_pipeline(model)
    for encoder, rows in vectors.items():
        second = encoder == "clip_g"
        pipeline.load_textual_inversion(
            torch.from_numpy(rows), token="<moss>",
            text_encoder=pipeline.text_encoder_2 if second else pipeline.text_encoder,
            tokenizer=pipeline.tokenizer_2 if second else pipeline.tokenizer,
        )  # fmt: skip
    assert "<moss>" in pipeline.tokenizer.get_vocab()
