"""Batched sampling: many (conditioning, seed) jobs through one resident U-Net in full batches.

DDIM (arXiv 2010.02502) or DPM-Solver++ (arXiv 2211.01095, second order, multistep), both diffusers' own, with
classifier-free guidance (arXiv 2207.12598). A picture equals the one a stock pipeline makes with the same scheduler
from the same prompt and `torch.Generator("cpu").manual_seed(seed)`, up to the rounding of another batch shape. This
module knows no scores and no checkpoints.

Shapes: J jobs, L tokens, D text width, C×h×w latents, H×W pixels.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ti_core.backbone.base import Backbone
from ti_core.backbone.conditioning import Conditioning
from ti_core.backbone.room import naming_spent_memory
from ti_core.config import Sampler
from ti_core.records import Protocol

MOST = 48
"""Jobs per U-Net call at most; guidance doubles them. More was slower for the miniature on two cores."""
PIXELS = 2**22
"""Pixels of all jobs of a U-Net call: 16 of 512², 4 of 1024²."""

log = logging.getLogger(__name__)


class Sampling(NamedTuple):
    """How pictures are made: the scheduler, its steps, the scale of guidance, and a side in pixels."""

    sampler: Sampler
    steps: int
    guidance: float
    resolution: int

    @classmethod
    def of(cls, protocol: Protocol) -> "Sampling":
        """As a protocol says."""
        return cls(protocol.sampler, protocol.sampler_steps, protocol.guidance, protocol.resolution)

    @property
    def at_once(self) -> int:
        """Jobs that one U-Net call takes."""
        return max(1, min(MOST, PIXELS // self.resolution**2))


def initial_noise(model: Backbone, seed: int, resolution: int) -> Tensor:
    """The start of one picture, [1, C, h, w] on the CPU: drawn alone, so that it does not depend on its batch."""
    return torch.randn((1, *model.latent_shape(resolution)), generator=torch.Generator("cpu").manual_seed(seed))


def sample(model: Backbone, prompts: Conditioning, seeds: Sequence[int], how: Sampling) -> NDArray[np.uint8]:
    """Return one picture per job, uint8 [J, H, W, 3]. `prompts` holds J conditionings, `seeds` J integers.

    Raises torch.OutOfMemoryError when the device cannot even make one picture.
    """
    empty = model.unconditional()
    pictures = []
    for first in range(0, len(seeds), how.at_once):
        chunk, conditioning = seeds[first : first + how.at_once], prompts.take(slice(first, first + how.at_once))
        pictures.append(sample_batch(model, conditioning, empty, chunk, how))
    return np.concatenate(pictures)


def sample_batch(
    model: Backbone, prompts: Conditioning, empty: Conditioning, seeds: Sequence[int], how: Sampling
) -> NDArray[np.uint8]:
    """`sample` for at most `how.at_once` jobs, in the same U-Net calls, or in halves where the device's memory is too
    small for that. `empty` is the unconditional prompt."""
    try:
        with naming_spent_memory():
            return _sample_together(model, prompts, empty, seeds, how)
    except torch.OutOfMemoryError:
        if len(seeds) == 1:
            raise
        half = len(seeds) // 2
    log.warning("%d pictures at a time are too many for the device's memory: going on with %d.", len(seeds), half)
    torch.cuda.empty_cache()
    parts = [(prompts.take(slice(0, half)), seeds[:half]), (prompts.take(slice(half, None)), seeds[half:])]
    return np.concatenate([sample_batch(model, conditioning, empty, of, how) for conditioning, of in parts])


@torch.no_grad()
def _sample_together(
    model: Backbone, prompts: Conditioning, empty: Conditioning, seeds: Sequence[int], how: Sampling
) -> NDArray[np.uint8]:
    model.residence.rest(model.encoders)
    scheduler = model.sampler(how.sampler)
    scheduler.set_timesteps(how.steps, device=model.device)
    distinct = list(dict.fromkeys(seeds))
    noise = torch.cat([initial_noise(model, seed, how.resolution) for seed in distinct]).to(model.device)
    noise = noise * scheduler.init_noise_sigma
    of_seed = torch.tensor([distinct.index(seed) for seed in seeds], device=model.device)
    latents = noise[of_seed]
    conditioning = Conditioning.cat([empty.repeat_interleave(len(seeds)), prompts])
    first, *later = scheduler.timesteps
    # At the first step all jobs of a seed have the same latents, so without a prompt the U-Net says the same of them.
    both = model.denoise(
        torch.cat([noise, latents]),
        first.expand(len(distinct) + len(seeds)),
        conditioning.take(slice(len(seeds) - len(distinct), None)),
    )
    without, with_prompt = both[: len(distinct)][of_seed], both[len(distinct) :]
    with model.prompts_kept():
        for timestep, after in zip([first, *later], [*later, None], strict=True):
            guided = without + how.guidance * (with_prompt - without)
            latents = scheduler.step(guided, timestep, latents).prev_sample
            if after is not None:
                twice = torch.cat([latents, latents])
                without, with_prompt = model.denoise(twice, after.expand(len(twice)), conditioning).chunk(2)
    pictures: NDArray[np.uint8] = model.decode(latents).numpy()
    return pictures
