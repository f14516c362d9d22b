"""Early stopping by the variance of a deterministic loss: DVAR (arXiv 2302.04841).

The training loss says nothing about progress, since every step draws other pictures, noise and timesteps. The loss on
a batch that never changes does: it falls and comes to rest. Training stops when the variance of its last n values is a
small part of the variance of all of them. The paper evaluates at every step, which costs half as much again; here it
is evaluated sparsely. This module knows no networks.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from ti_core.training.draws import Draws

SAMPLES = 8
"""Samples of the fixed batch."""
PASSES_PER_EVALUATION = 0.5
"""Cost of evaluating a sample, in training samples: a forward pass without its backward (803 of 1,696 GFLOP for SD 1.5
at 512²)."""
SHARE = 0.045
"""At most this part of the training's compute goes into evaluating."""
WINDOW = 310
"""Steps whose values are compared with all (n of the paper, which evaluates every step)."""
THRESHOLD = 0.15
"""ε of the paper for textual inversion."""


def evaluate_every(samples_per_step: int) -> int:
    """Steps between two evaluations such that they cost no more than `SHARE` of the training."""
    return max(1, round(SAMPLES * PASSES_PER_EVALUATION / (SHARE * samples_per_step) + 0.5))


def has_settled(losses: Sequence[float], every: int, window: int = WINDOW) -> bool:
    """Whether var(last n) / var(all) < `THRESHOLD`, the last n being those of `window` steps.

    `losses` are those of every `every`-th step since the start; no more than n of them say nothing yet.
    """
    last = max(2, round(window / every))
    if len(losses) <= last:
        return False
    of_all = float(np.var(losses))
    return of_all > 0.0 and float(np.var(losses[-last:])) / of_all < THRESHOLD


def fixed_batch(seed: int, pictures: int, templates: int, timesteps: int, latent: tuple[int, int, int]) -> Draws:
    """The batch that never changes: pictures in turn, timesteps in the middles of `SAMPLES` equal strata."""
    mixed = hashlib.sha256(f"pseudoword fixed batch {seed}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(mixed[:8], "little") >> 1)
    each = torch.arange(SAMPLES)
    return Draws(
        picture_b=each % pictures,
        template_b=torch.randint(templates, (SAMPLES,), generator=generator),
        timestep_b=((each + 0.5) * timesteps / SAMPLES).long(),
        posterior_bChw=torch.randn((SAMPLES, *latent), generator=generator),
        noise_bChw=torch.randn((SAMPLES, *latent), generator=generator),
    )
