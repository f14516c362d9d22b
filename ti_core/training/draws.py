"""The random draws of a training step: a pure function of (concept seed, step), on every device the same.

No generator state is kept, so a run resumes anywhere and a concept draws the same in any company. This module knows no
networks.
"""

import hashlib
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """One concept's b samples of one step, all on the CPU."""

    picture_b: Tensor
    """Index of the picture, in [0, pictures)."""
    template_b: Tensor
    """Index of the prompt template, in [0, templates)."""
    timestep_b: Tensor
    """Diffusion timestep, in [0, timesteps)."""
    posterior_bChw: Tensor
    """Standard normal noise that samples the VAE's posterior."""
    noise_bChw: Tensor
    """Standard normal noise that the network is to find."""

    def part(self, rows: slice) -> "Draws":
        """The samples `rows`."""
        return Draws(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw(
    seed: int, step: int, samples: int, pictures: int, templates: int, timesteps: int, latent: tuple[int, int, int]
) -> Draws:
    """Draw `samples` training samples of step `step` (from 0). `latent` is (C, h, w)."""
    mixed = hashlib.sha256(f"pseudoword draw {seed} {step}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(mixed[:8], "little") >> 1)

    def index(bound: int) -> Tensor:
        return torch.randint(bound, (samples,), generator=generator)

    return Draws(
        picture_b=index(pictures),
        template_b=index(templates),
        timestep_b=index(timesteps),
        posterior_bChw=torch.randn((samples, *latent), generator=generator),
        noise_bChw=torch.randn((samples, *latent), generator=generator),
    )
