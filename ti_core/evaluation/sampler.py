"""Batched sampling: many (conditioning, seed) jobs through one resident U-Net in full batches.

DDIM (arXiv 2010.02502) with classifier-free guidance (arXiv 2207.12598). A picture equals the one a stock pipeline
makes from the same prompt and `torch.Generator("cpu").manual_seed(seed)`, up to the rounding of another batch shape.
This module knows no scores and no checkpoints.

Shapes: J jobs, L tokens, D text width, C×h×w latents, H×W pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ti_core.backbone.base import Backbone
from ti_core.backbone.conditioning import Conditioning

BATCH = 32
"""Jobs per U-Net call; guidance doubles it. Larger was not faster for the miniature on two cores."""


def initial_noise(model: Backbone, seed: int, resolution: int) -> Tensor:
    """The start of one picture, [1, C, h, w] on the CPU: drawn alone, so that it does not depend on its batch."""
    return torch.randn((1, *model.latent_shape(resolution)), generator=torch.Generator("cpu").manual_seed(seed))


@torch.no_grad()
def sample(
    model: Backbone,
    prompts: Conditioning,
    seeds: Sequence[int],
    resolution: int,
    steps: int,
    guidance: float,
) -> NDArray[np.uint8]:
    """Return one picture per job, uint8 [J, H, W, 3]. `prompts` holds J conditionings, `seeds` J integers."""
    empty = model.unconditional()
    pictures = []
    for first in range(0, len(seeds), BATCH):
        chunk, told = seeds[first : first + BATCH], prompts.take(slice(first, first + BATCH))
        pictures.append(sample_batch(model, told, empty, chunk, resolution, steps, guidance))
    return np.concatenate(pictures)


@torch.no_grad()
def sample_batch(
    model: Backbone,
    prompts: Conditioning,
    empty: Conditioning,
    seeds: Sequence[int],
    resolution: int,
    steps: int,
    guidance: float,
) -> NDArray[np.uint8]:
    """`sample` for at most a batch of jobs, all in the same U-Net calls. `empty` is the unconditional prompt."""
    told = Conditioning.cat([empty.repeat_interleave(len(seeds)), prompts])
    scheduler = model.ddim()
    scheduler.set_timesteps(steps, device=model.device)
    latents = torch.cat([initial_noise(model, seed, resolution) for seed in seeds]).to(model.device)
    latents = latents * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        twice = torch.cat([latents, latents])
        both = model.denoise(twice, timestep.expand(len(twice)), told)
        without, with_prompt = both.chunk(2)
        latents = scheduler.step(without + guidance * (with_prompt - without), timestep, latents).prev_sample
    pictures: NDArray[np.uint8] = model.decode(latents).numpy()
    return pictures
