"""The frozen network: what is loaded, that nothing of it is ever changed, pictures and latents, one denoising step."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.tiny import miniature, save_sd1, stock_pipeline
from ti_core.backbone.base import Backbone
from ti_core.backbone.conditioning import Conditioning
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import load
from ti_core.backbone.sd1 import ENCODER
from ti_core.errors import InputError

EXAMPLE = Path("examples/concepts/moss/01.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd1(tmp_path_factory.mktemp("sd1"))


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Backbone:
    return load(find_base(str(folder)), torch.device("cpu"))


def drop_tensor(file: Path, name: str) -> None:
    tensors = load_file(file)
    del tensors[next(key for key in tensors if key.endswith(name))]
    save_file(tensors, file, metadata={"format": "pt"})


def test_published_weights_are_loaded_as_they_are(tiny: Backbone, folder: Path) -> None:
    # The prefix of SD 1.x text encoders is not the one of today's transformers: names must be matched, not dropped.
    stored = load_file(folder / "text_encoder/model.safetensors")
    loaded = tiny.encoders[ENCODER].module.state_dict()
    assert len(loaded) == len(stored) - 1, "all but position_ids"
    for name, tensor in loaded.items():
        torch.testing.assert_close(tensor, stored[f"text_model.{name.removeprefix('text_model.')}"], rtol=0, atol=0)


def test_published_vae_names_are_matched(tiny: Backbone, folder: Path) -> None:
    stored = load_file(folder / "vae/diffusion_pytorch_model.safetensors")
    query = tiny.vae.state_dict()["encoder.mid_block.attentions.0.to_q.weight"]
    torch.testing.assert_close(query, stored["encoder.mid_block.attentions.0.query.weight"], rtol=0, atol=0)
    assert len(tiny.vae.state_dict()) == len(stored)


def test_fp16_weights_are_computed_in_fp32() -> None:
    # The miniature is stored in fp16; what carries gradients must not be.
    model = miniature()
    assert {tensor.dtype for part in model.parts.values() for tensor in part.parameters()} == {torch.float32}


def test_everything_is_frozen(tiny: Backbone) -> None:
    for part in tiny.parts.values():
        assert not part.training
        assert not any(weight.requires_grad for weight in part.parameters())


def test_gradients_reach_the_vectors_and_nothing_else() -> None:
    model = miniature()
    vectors = model.initial_vectors("toy", 2)[ENCODER].unsqueeze(0).requires_grad_(True)
    side, channels = model.unet.config.sample_size, model.unet.config.in_channels
    told = model.encode_prompts(model.tokens(["a photo of a <x>"], {"<x>": 2}), {ENCODER: vectors})
    noisy = torch.randn((1, channels, side, side), generator=torch.Generator().manual_seed(0))
    model.denoise(noisy, torch.tensor([500]), told).square().mean().backward()
    assert vectors.grad is not None
    assert (vectors.grad.norm(dim=-1) > 0).all(), "both rows"
    assert all(weight.grad is None for part in model.parts.values() for weight in part.parameters())
    assert not model.encoders[ENCODER].module.get_input_embeddings()._forward_hooks, "no hook stays behind"


def test_a_call_that_fails_leaves_no_hook_behind(tiny: Backbone) -> None:
    tokens = tiny.tokens(["a <x>"], {"<x>": 1})
    with pytest.raises(RuntimeError):
        tiny.encode_prompts(tokens, {ENCODER: torch.zeros((1, 1, 7))})
    assert not tiny.encoders[ENCODER].module.get_input_embeddings()._forward_hooks


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_a_missing_tensor_is_refused_not_made_up(tmp_path: Path, part: str) -> None:
    """Libraries fill a hole with random numbers and a warning; training on them would look like training."""
    folder = save_sd1(tmp_path / "sd1")
    file, name = {
        "text_encoder": ("model", "layers.1.mlp.fc1.weight"),
        "unet": ("diffusion_pytorch_model", "conv_in.weight"),
        "vae": ("diffusion_pytorch_model", "quant_conv.weight"),
    }[part]
    drop_tensor(folder / part / f"{file}.safetensors", name)
    with pytest.raises(InputError, match=part):
        load(find_base(str(folder)), torch.device("cpu"))


def test_latents_are_the_scaled_posterior_and_come_back_as_the_picture() -> None:
    model = miniature()
    picture = np.asarray(Image.open(EXAMPLE).convert("RGB").resize((64, 64)))
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1).float().unsqueeze(0) / 127.5 - 1
    mean, std = model.encode_pictures(pixels)
    with torch.no_grad():
        posterior = model.vae.encode(pixels).latent_dist
    torch.testing.assert_close(mean, posterior.mean * model.vae.config.scaling_factor)
    torch.testing.assert_close(std, posterior.std * model.vae.config.scaling_factor)
    back = model.decode(mean)
    assert back.shape == (1, 64, 64, 3) and back.dtype == torch.uint8
    assert np.abs(back[0].numpy().astype(int) - picture).mean() < 8, "a lossy autoencoder, but the same picture"


def test_the_scale_of_latents_is_the_vae_s_own(tiny: Backbone) -> None:
    pixels = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, std = tiny.encode_pictures(pixels)
    with torch.no_grad():
        posterior = tiny.vae.encode(pixels).latent_dist
        expected = ((tiny.vae.decode(posterior.mean).sample / 2 + 0.5).clamp(0, 1) * 255).round()
    torch.testing.assert_close(mean, posterior.mean * 0.18215)
    torch.testing.assert_close(std, posterior.std * 0.18215)
    assert (tiny.decode(mean).permute(0, 3, 1, 2).float() - expected).abs().max() <= 1


def test_denoise_is_the_stock_unet(tiny: Backbone, folder: Path) -> None:
    random = torch.Generator().manual_seed(0)
    noisy, hidden = torch.randn((2, 4, 8, 8), generator=random), torch.randn((2, 77, 32), generator=random)
    times = torch.tensor([10, 900])
    with torch.no_grad():
        stock = stock_pipeline(folder).unet(noisy, times, encoder_hidden_states=hidden).sample
        torch.testing.assert_close(tiny.denoise(noisy, times, Conditioning(hidden)), stock)


def test_target_follows_the_prediction_type(folder: Path) -> None:
    model = load(find_base(str(folder)), torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    latents, noise = torch.randn((2, 4, 8, 8), generator=random), torch.randn((2, 4, 8, 8), generator=random)
    times = torch.tensor([10, 900])
    assert torch.equal(model.target(latents, noise, times), noise)
    model.noise.register_to_config(prediction_type="v_prediction")
    alpha = model.noise.alphas_cumprod[times].view(2, 1, 1, 1)
    # v = α·ε − σ·x₀, arXiv 2202.00512 appendix D
    torch.testing.assert_close(model.target(latents, noise, times), alpha.sqrt() * noise - (1 - alpha).sqrt() * latents)


@pytest.mark.parametrize("base", ["miniature", "sd1"])
def test_ddim_is_what_a_stock_pipeline_would_make_of_its_scheduler(base: str, folder: Path) -> None:
    # The sd1 folder brings a PNDM scheduler, as SD 1.5 does; the trainer reads it as DDPM, the sampler as DDIM.
    info = find_base("miniature" if base == "miniature" else str(folder))
    ours = load(info, torch.device("cpu")).sampler("ddim")
    stock = DDIMScheduler.from_config(stock_pipeline(info.folder).scheduler.config)
    for scheduler in (ours, stock):
        scheduler.set_timesteps(10)
    assert torch.equal(ours.timesteps, stock.timesteps)
    assert torch.equal(ours.alphas_cumprod, stock.alphas_cumprod)
    assert torch.equal(ours.final_alpha_cumprod, stock.final_alpha_cumprod)
    assert ours.config.clip_sample == stock.config.clip_sample
    assert ours.config.prediction_type == stock.config.prediction_type
