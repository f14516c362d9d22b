"""Stable Diffusion 2.x and XL: what we compute is what a stock pipeline computes, from prompt to picture; and a word
trained on either loads into one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from tests.tiny import job, save_sd1, save_sd2, save_sdxl, stock_pipeline
from ti_core import formats
from ti_core.backbone.base import Backbone
from ti_core.backbone.conditioning import Conditioning
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import load
from ti_core.sampling.sampler import Sampling, sample
from ti_core.sampling.words import encode
from ti_core.training.events import CheckpointReady
from ti_core.training.trainer import train

WORDS = {"<cat-toy>": 3, "<dog>": 1}
PROMPTS = [
    "a photo of a <cat-toy>", "<dog>", "<cat-toy> in the style of <dog>", "a <dog>'s hat, a <cat-toy>!", "a photo", "",
]  # fmt: skip
SAVE = {"sd1": save_sd1, "sd2": save_sd2, "sdxl": save_sdxl}
Rows = dict[str, np.ndarray]


@pytest.fixture(scope="module", params=["sd2", "sdxl"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load(find_base(str(SAVE[request.param](tmp_path_factory.mktemp("kinds") / request.param))), CPU)


CPU = torch.device("cpu")


def random_rows(model: Backbone, count: int, seed: int) -> Rows:
    random = np.random.default_rng(seed)
    return {name: random.normal(0, 0.05, (count, encoder.table_ND.shape[1])).astype(np.float32)
            for name, encoder in model.encoders.items()}  # fmt: skip


def published(model: Backbone, words: Mapping[str, Rows], layout: Any, folder: Path) -> tuple[Any, str]:
    """A stock pipeline with the words' published files loaded by the documented lines, and those lines."""
    pipeline, done = stock_pipeline(model.info.folder), ""
    for word, rows in words.items():
        file = folder / f"{layout}-{formats.filename(word.strip('<>'))}"
        file.write_bytes(formats.write(rows, word, layout))
        done = formats.diffusers_lines(list(rows), str(file), word)
        exec(done, {"pipeline": pipeline})  # noqa: S102  # our own lines, as a person would run them
    return pipeline, done


def stock_states(pipeline: Any, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
    with torch.no_grad():
        if hasattr(pipeline, "text_encoder_2"):
            hidden, _, pooled, _ = pipeline.encode_prompt(prompts, device="cpu", do_classifier_free_guidance=False)
            return hidden, pooled
        return pipeline.encode_prompt(prompts, "cpu", 1, False)[0], None


def test_the_kind_is_found_with_its_encoders_and_resolution(model: Backbone) -> None:
    names = {"sd2": ["clip_h"], "sdxl": ["clip_l", "clip_g"]}[model.info.kind]
    assert list(model.encoders) == names and model.info.resolution == 16
    assert set(model.parts) == {*names, "vae", "unet"}
    assert {weight.dtype for part in model.parts.values() for weight in part.parameters()} == {torch.float32}
    assert not any(weight.requires_grad for part in model.parts.values() for weight in part.parameters())


@pytest.mark.parametrize("layout", formats.LAYOUTS)
def test_published_files_give_a_stock_pipeline_our_states(model: Backbone, layout: Any, tmp_path: Path) -> None:
    words = {word: random_rows(model, count, count) for word, count in WORDS.items()}
    pipeline, _ = published(model, words, layout, tmp_path)
    hidden, pooled = stock_states(pipeline, PROMPTS)
    told = encode(model, PROMPTS, words)
    torch.testing.assert_close(told.hidden_BLD, hidden, rtol=0, atol=2e-6)
    if pooled is not None:
        torch.testing.assert_close(told.pooled_BD, pooled, rtol=0, atol=2e-6)
    plain = encode(model, [prompt.replace("<", "").replace(">", "") for prompt in PROMPTS], {})
    assert not torch.allclose(plain.hidden_BLD[0], told.hidden_BLD[0], atol=1e-3), "the word makes a difference"


def test_without_the_last_line_a_stock_sdxl_pools_at_the_new_word(tmp_path: Path) -> None:
    """The trap: published configurations have eos_token_id 2, with which transformers pools at the largest id. That is
    the end of the text until a word is added behind the vocabulary."""
    model = load(find_base(str(save_sdxl(tmp_path / "sdxl"))), CPU)
    words = {"<dog>": random_rows(model, 1, 0)}
    pipeline, lines = published(model, words, "diffusers", tmp_path)
    assert "eos_token_id" in lines.splitlines()[-1]
    pipeline.text_encoder_2.text_model.eos_token_id = 2  # as it was before the last line
    prompts = ["a photo of a <dog> in a hat", "a photo of a hat"]
    hidden, pooled = stock_states(pipeline, prompts)
    told = encode(model, prompts, words)
    assert told.pooled_BD is not None and pooled is not None
    torch.testing.assert_close(told.hidden_BLD, hidden, rtol=0, atol=2e-6)
    assert not torch.allclose(told.pooled_BD[0], pooled[0], atol=1e-2)
    torch.testing.assert_close(told.pooled_BD[1], pooled[1], rtol=0, atol=2e-6)
    with torch.no_grad():
        ids = pipeline.tokenizer_2(prompts, padding="max_length", return_tensors="pt").input_ids
        out = pipeline.text_encoder_2(ids, output_hidden_states=True)
        at_word = pipeline.text_encoder_2.text_projection(out.last_hidden_state[0, 5])
    assert ids[0, 5] == ids[0].max() and ids[0, 5] > pipeline.tokenizer_2.eos_token_id
    torch.testing.assert_close(pooled[0], at_word, rtol=0, atol=2e-6)


@pytest.mark.parametrize("case", ["sd2", "sdxl", "sdxl whose empty prompt is encoded"])
def test_pictures_are_the_stock_ones(case: str, tmp_path: Path) -> None:
    folder = save_sd2(tmp_path / "sd2") if case == "sd2" else save_sdxl(tmp_path / "sdxl", zeros=case == "sdxl")
    model = load(find_base(str(folder)), CPU)
    pipeline = stock_pipeline(model.info.folder)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    prompts, seeds = ["a photo of a cat", "a red toy"], [3, 4]
    made = sample(model, encode(model, prompts, {}), seeds, Sampling("ddim", 5, 4.0, 16)).astype(int)
    for picture, prompt, seed in zip(made, prompts, seeds, strict=True):
        stock = pipeline(
            prompt, num_inference_steps=5, guidance_scale=4.0, generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]  # fmt: skip
        assert np.abs(picture - np.asarray(stock).astype(int)).max() <= 2


def test_the_target_is_v_where_the_scheduler_says_so(tmp_path: Path) -> None:
    model = load(find_base(str(save_sd2(tmp_path / "sd2"))), CPU)
    random = torch.Generator().manual_seed(0)
    latents, noise = torch.randn((2, 4, 8, 8), generator=random), torch.randn((2, 4, 8, 8), generator=random)
    times = torch.tensor([10, 900])
    alpha = model.noise.alphas_cumprod[times].view(2, 1, 1, 1)
    torch.testing.assert_close(model.target(latents, noise, times), alpha.sqrt() * noise - (1 - alpha).sqrt() * latents)


def test_sdxl_is_told_the_size_a_picture_had(tmp_path: Path) -> None:
    model = load(find_base(str(save_sdxl(tmp_path / "sdxl"))), CPU)
    told = encode(model, ["a photo of a cat", "a red toy"], {})
    ids = model.added(told, 16, 24)["time_ids"]
    assert ids.tolist() == [[16, 24, 0, 0, 16, 24]] * 2
    small = Conditioning(told.hidden_BLD, told.pooled_BD, torch.tensor([[5, 6], [7, 8]]))
    assert model.added(small.take(torch.tensor([1])), 16, 16)["time_ids"].tolist() == [[7, 8, 0, 0, 16, 16]]
    noisy, times = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0)), torch.tensor([10, 900])
    with torch.no_grad():
        assert not torch.allclose(model.denoise(noisy, times, told), model.denoise(noisy, times, small), atol=1e-4)
        stock = stock_pipeline(model.info.folder).unet(
            noisy, times, encoder_hidden_states=small.hidden_BLD,
            added_cond_kwargs={"text_embeds": small.pooled_BD, "time_ids": torch.tensor(
                [[5, 6, 0, 0, 16, 16], [7, 8, 0, 0, 16, 16]], dtype=torch.float32)},
        ).sample  # fmt: skip
    torch.testing.assert_close(model.denoise(noisy, times, small), stock)


def test_a_word_is_trained_in_every_encoder_exported_and_reloaded(model: Backbone, tmp_path: Path) -> None:
    events = list(train([job(model, steps=4, vectors=2, checkpoint_every=2)], model))
    first, last = (event for event in events if isinstance(event, CheckpointReady))
    start = model.initial_vectors("toy", 2)
    assert set(last.state.vectors) == set(model.encoders)
    for name, rows in last.state.vectors.items():
        assert ((rows - start[name]).norm(dim=-1) > 0).all(), "every row of every encoder has moved"
    word = {name: rows.numpy() for name, rows in last.state.vectors.items()}
    back = formats.read_checkpoint(formats.write_checkpoint(word), "here")
    pipeline, _ = published(model, {"<cat-toy>": back}, "a1111", tmp_path)
    hidden, _ = stock_states(pipeline, ["a photo of a <cat-toy>"])
    told = encode(model, ["a photo of a <cat-toy>"], {"<cat-toy>": word})
    torch.testing.assert_close(told.hidden_BLD, hidden, rtol=0, atol=2e-6)
    resumed = train([job(model, steps=4, vectors=2, checkpoint_every=2, resume=first.state)], model)
    (again,) = [event for event in resumed if isinstance(event, CheckpointReady)]
    assert again.step == 4 and all(torch.equal(again.state.vectors[name], last.state.vectors[name]) for name in word)


def test_everything_can_be_computed_in_fp64(model: Backbone) -> None:
    exact = load(model.info, CPU, torch.float64)
    assert {weight.dtype for part in exact.parts.values() for weight in part.parameters()} == {torch.float64}
    noisy = torch.randn((1, 4, 8, 8), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([500])
    out = [one.denoise(noisy, times, encode(one, ["a red toy"], {})) for one in (exact, model)]
    assert out[0].dtype == torch.float64
    torch.testing.assert_close(*out, rtol=0, atol=1e-4)


def test_whole_prompts_are_cut_repeated_and_joined(model: Backbone) -> None:
    told = encode(model, ["a photo of a cat", "a red toy"], {})
    again = Conditioning.cat([told.take(slice(1, 2)), told.take(torch.tensor([0]))]).take(torch.tensor([1, 0]))
    assert torch.equal(again.hidden_BLD, told.hidden_BLD)
    doubled = told.repeat_interleave(2)
    assert len(doubled) == 4 and torch.equal(doubled.hidden_BLD[1], told.hidden_BLD[0])
    if model.info.kind == "sdxl":
        assert torch.equal(again.pooled_BD, told.pooled_BD) and torch.equal(doubled.pooled_BD[2], told.pooled_BD[1])
        assert not model.unconditional().hidden_BLD.any()
