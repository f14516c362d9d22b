"""What the benchmark observes is what happened: windows, remembered posteriors, counted bytes, counted arithmetic."""

import json
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextModel

from benchmarks import floor, folders, sides
from ti_core.backbone.folder import MINIATURE


def test_a_window_holds_neither_start_up_nor_too_few_steps() -> None:
    window = sides.Window(time.time(), 0.05, "cpu")
    time.sleep(0.2)
    while not window.boundary():
        time.sleep(0.02)
    told = window.told(samples=2)
    assert window.steps == sides.WARM + sides.LEAST
    assert told["start_up"] >= 0.2
    assert 5 < told["samples_per_second"] <= 100, "two a step of 0.02 s; fewer on a busy machine"


def test_remembered_posteriors_are_the_encoder_s_own(monkeypatch) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip
    pictures = torch.rand(3, 3, 32, 32) * 2 - 1
    expected = vae.encode(pictures).latent_dist.parameters.detach()
    monkeypatch.setattr(AutoencoderKL, "encode", AutoencoderKL.encode)
    sides._remember_posteriors()
    torch.testing.assert_close(vae.encode(pictures).latent_dist.parameters, expected)
    vae.encoder = None  # so that any further encoding fails
    again = vae.encode(pictures[[2, 0, 0]]).latent_dist
    torch.testing.assert_close(again.parameters, expected[[2, 0, 0]])
    assert not torch.equal(again.sample()[1], again.sample()[2])


def test_the_miniature_s_pass_costs_its_floor(tmp_path: Path) -> None:
    """The floor counted from configurations is what autograd does on the real network."""
    folder = MINIATURE / "mini-sd"
    counted = floor.count(folder, 64)
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).requires_grad_(False)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).requires_grad_(False)
    text.get_input_embeddings().register_forward_hook(lambda _module, _inputs, out: out.detach().requires_grad_())
    side = 64 // 2 ** (len(json.loads((folder / "vae/config.json").read_text())["block_out_channels"]) - 1)
    # The meta device has the plain attention; fused ones compute the scores anew on the way back.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        ids = torch.zeros(2, text.config.max_position_embeddings, dtype=torch.long)
        latents = torch.zeros(2, unet.config.in_channels, side, side)
        unet(latents, torch.zeros(2), text(ids).last_hidden_state).sample.sum().backward()
    assert counter.get_total_flops() == 2 * counted["floor"]
    assert counted["vae_encode"] > 0


def test_an_fp32_copy_says_fp32_in_its_configurations_too(tmp_path: Path) -> None:
    folders.fp32_copy(MINIATURE / "mini-sd", tmp_path / "copy")
    text = CLIPTextModel.from_pretrained(tmp_path / "copy" / "text_encoder")
    assert text.dtype == torch.float32
