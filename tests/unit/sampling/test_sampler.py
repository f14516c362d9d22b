"""Batched sampling gives the pictures a stock pipeline makes one at a time, in whatever company and order."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from tests.tiny import miniature, save_sd1, stock_pipeline
from ti_core.backbone.base import Backbone
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import load
from ti_core.config import Sampler
from ti_core.sampling import sampler
from ti_core.sampling.sampler import Sampling, initial_noise, sample
from ti_core.sampling.words import encode

PROMPTS = ("a photo of a cat", "a red toy", "")
SEEDS = (7, 2**31 - 1, 8)
STEPS, GUIDANCE = 5, 4.0


def pictures(
    model: Backbone, prompts: tuple[str, ...], seeds: tuple[int, ...], sampler: Sampler = "ddim", steps: int = STEPS
) -> np.ndarray:
    told = encode(model, prompts, {})
    return sample(model, told, seeds, Sampling(sampler, steps, GUIDANCE, model.info.resolution)).astype(int)


STOCK = {"ddim": DDIMScheduler, "dpmsolver++": DPMSolverMultistepScheduler}


@pytest.mark.parametrize("sampler", ["ddim", "dpmsolver++"])
@pytest.mark.parametrize("base", ["miniature", "sd1"])
def test_a_batch_is_what_a_stock_pipeline_makes_one_by_one(base: str, sampler: Sampler, tmp_path: Path) -> None:
    folder = save_sd1(tmp_path / "sd1") if base == "sd1" else None
    model = load(find_base(str(folder)), torch.device("cpu")) if folder else miniature()
    pipeline = stock_pipeline(model.info.folder)
    pipeline.scheduler = STOCK[sampler].from_config(pipeline.scheduler.config)
    made = pictures(model, PROMPTS, SEEDS, sampler)
    assert made.shape == (3, model.info.resolution, model.info.resolution, 3)
    for picture, prompt, seed in zip(made, PROMPTS, SEEDS, strict=True):
        stock = pipeline(
            prompt, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]  # fmt: skip
        assert np.abs(picture - np.asarray(stock).astype(int)).max() <= 2
    if base == "miniature":
        assert np.abs(made[0] - made[1]).mean() > 20, "different pictures, or the comparison says nothing"


def test_order_and_company_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    model = miniature()
    together = pictures(model, PROMPTS, SEEDS)
    monkeypatch.setattr(sampler, "MOST", 2)  # three jobs in two calls
    turned = pictures(model, PROMPTS[::-1], SEEDS[::-1])[::-1]
    assert np.abs(together - turned).max() <= 2


def test_the_seed_decides_the_picture() -> None:
    model = miniature()
    first, again, other = pictures(model, ("a red toy",) * 3, (7, 7, 8))
    assert np.abs(first - again).max() <= 2
    assert np.abs(first - other).mean() > 5


def test_guidance_pulls_towards_the_prompt() -> None:
    model = miniature()
    told = encode(model, ["a toy on a red background"], {})

    def redness(guidance: float) -> float:
        jobs = told.repeat_interleave(4)
        made = sample(model, jobs, range(4), Sampling("ddim", 8, guidance, 64)).astype(int)
        return float((made[..., 0] - made[..., 1:].mean(-1)).mean())

    assert redness(4.0) > redness(0.001) + 20


def test_the_noise_of_a_seed_is_drawn_alone() -> None:
    model = miniature()
    noise = initial_noise(model, 7, 64)
    assert noise.shape == (1, 6, 16, 16) and noise.device.type == "cpu"
    assert torch.equal(noise, torch.randn((1, 6, 16, 16), generator=torch.Generator("cpu").manual_seed(7)))
    assert initial_noise(model, 7, 128).shape == (1, 6, 32, 32)


def test_jobs_at_once_are_bounded_by_their_pixels() -> None:
    sides = {64: 48, 512: 16, 768: 7, 1024: 4, 4096: 1}
    assert {side: Sampling("ddim", 8, 4.0, side).at_once for side in sides} == sides


def test_the_same_seed_twice_is_the_same_start() -> None:
    model = miniature()
    first, again, other = pictures(model, ("a red toy", "a red toy", "a photo of a cat"), (7, 7, 7), steps=2)
    assert np.abs(first - again).max() <= 2
    assert np.abs(first - other).mean() > 1


def test_prompts_are_kept_only_while_a_batch_is_sampled() -> None:
    model = miniature()
    before = pictures(model, PROMPTS[:1], SEEDS[:1])
    pictures(model, PROMPTS[1:2], SEEDS[:1])
    assert np.array_equal(pictures(model, PROMPTS[:1], SEEDS[:1]), before)


def test_where_memory_is_short_half_of_the_jobs_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, calls = miniature(), []
    whole, plain = pictures(model, PROMPTS, SEEDS), Backbone.denoise

    def short(self: Backbone, noisy: torch.Tensor, *rest: object) -> torch.Tensor:
        calls.append(len(noisy))
        if len(noisy) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, noisy, *rest)

    monkeypatch.setattr(Backbone, "denoise", short)
    assert np.abs(pictures(model, PROMPTS, SEEDS) - whole).max() <= 2
    assert "too many for the device's memory" in caplog.text and 6 in calls
    monkeypatch.setattr(Backbone, "denoise", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("none at all")))
    with pytest.raises(torch.OutOfMemoryError):
        pictures(model, PROMPTS[:1], SEEDS[:1])


def test_what_is_the_same_for_several_jobs_or_steps_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls, rows = miniature(), [], []
    (layer, *_) = [part for name, part in model.unet.named_modules() if name.endswith("attn2.to_k")]
    stock = type(layer).forward

    def counted(self: torch.nn.Module, told: torch.Tensor) -> torch.Tensor:
        if self is layer:
            calls.append(1)
        return stock(self, told)

    monkeypatch.setattr(type(layer), "forward", counted)
    plain = Backbone.denoise
    monkeypatch.setattr(
        Backbone, "denoise", lambda self, noisy, *rest: (rows.append(len(noisy)), plain(self, noisy, *rest))[1]
    )
    pictures(model, PROMPTS * 2, (7, 7, 7, 8, 8, 8), steps=5)
    assert rows == [2 + 6, 12, 12, 12, 12], "two seeds without a prompt and six jobs first, then every job twice"
    assert len(calls) == 2, "keys of the prompts: at the first step, and once for all later ones"
