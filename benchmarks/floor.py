"""What a training step costs at the least: counted FLOPs of a frozen network, and the machine's own ceiling.

Only matrix products, convolutions and attention are counted (`torch.utils.flop_counter`), on the meta device, from a
model folder's configurations: no weights are read. A frozen network needs gradients of activations, not of weights.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

TEXT_ENCODERS = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}


def count(folder: Path, resolution: int) -> dict[str, int]:
    """FLOPs of one sample at `resolution` pixels a side: `floor` (what cannot be avoided: text encoder and U-Net forward,
    and back to the token embeddings) and `vae_encode` (one picture to latents)."""
    vae = _config(folder / "vae")
    side = resolution // 2 ** (len(vae["block_out_channels"]) - 1)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(_config(folder / "unet"))
        encoder = AutoencoderKL.from_config(vae)
        texts = [
            kind(CLIPTextConfig(**_config(folder / name)))
            for name, kind in TEXT_ENCODERS.items()
            if (folder / name).is_dir()
        ]
        for part in (unet, encoder, *texts):
            part.requires_grad_(False).eval()
        with FlopCounterMode(display=False) as counter:
            hidden, pooled = _read(texts)
            added = None
            if unet.config.addition_embed_type == "text_time":
                added = {"text_embeds": pooled, "time_ids": torch.zeros(1, 6)}
            latents = torch.zeros(1, unet.config.in_channels, side, side)
            unet(latents, torch.zeros(1), hidden, added_cond_kwargs=added).sample.sum().backward()
        floor = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder.encode(torch.zeros(1, 3, resolution, resolution))
    return {"floor": floor, "vae_encode": counter.get_total_flops()}


def ceiling(device: str) -> float:
    """FLOP/s of a large square matrix product, median of at least five: 8192³ in bf16 on CUDA, 2048³ in fp32 on a CPU."""
    cuda = device == "cuda"
    side, dtype = (8192, torch.bfloat16) if cuda else (2048, torch.float32)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = list[float]()
    while len(seconds) < 7 or sum(seconds) < 2:
        began = time.perf_counter()
        left @ right
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(seconds[2:])


def _read(texts: list[nn.Module]) -> tuple[Tensor, Tensor | None]:
    """Encode one prompt; gradients reach the token embeddings' output, where a new word's vectors stand."""
    hidden, pooled = list[Tensor](), None
    for text in texts:

        def leaf(_module: nn.Module, _inputs: object, embedded: Tensor) -> Tensor:
            return embedded.detach().requires_grad_()

        text.get_input_embeddings().register_forward_hook(leaf)
        out: Any = text(
            torch.zeros(1, text.config.max_position_embeddings, dtype=torch.long), output_hidden_states=True
        )
        # SDXL reads the last layer but one of both encoders, and the second's pooled state.
        hidden.append(out.hidden_states[-2] if len(texts) > 1 else out.last_hidden_state)
        pooled = out[0]
    return torch.cat(hidden, dim=-1), pooled


def _config(part: Path) -> dict[str, Any]:
    return json.loads((part / "config.json").read_text())
