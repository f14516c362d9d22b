"""The draws of a step: the same for the same seed and step, whenever they are asked for, and others for any other."""

import dataclasses

import torch

from ti_core.training.draws import Draws, draw

LATENT = (4, 16, 16)
PICTURES, TEMPLATES, TIMESTEPS = [3, 3, 1, 1], [9, 3, 1, 3], [47, 351, 655, 436]
NOISE = [0.510049, 0.07093, 0.823433]


def one(seed: int = 0, step: int = 0, samples: int = 64) -> Draws:
    return draw(seed, step, samples, pictures=5, templates=16, timesteps=1000, latent=LATENT)


def same(left: Draws, right: Draws) -> dict[str, bool]:
    return {f.name: torch.equal(getattr(left, f.name), getattr(right, f.name)) for f in dataclasses.fields(Draws)}


def test_a_pure_function_of_seed_and_step() -> None:
    first = one(3, 7)
    torch.manual_seed(1)
    torch.rand(10)
    one(4, 8)
    assert all(same(first, one(3, 7)).values())


def test_asking_leaves_torch_s_own_generator_alone() -> None:
    before = torch.get_rng_state()
    one(3, 7)
    assert torch.equal(before, torch.get_rng_state())


def test_every_step_and_every_seed_draws_otherwise() -> None:
    # (1, 12) and (11, 2) would meet if seed and step were only written one after the other.
    for other in (one(1, 13), one(2, 12), one(12, 1), one(11, 2), one(13, 0)):
        assert not any(same(one(1, 12), other).values())


def test_the_kinds_of_noise_are_not_the_same_noise() -> None:
    drawn = one()
    correlation = torch.corrcoef(torch.stack([drawn.noise_bChw.flatten(), drawn.posterior_bChw.flatten()]))[0, 1]
    assert abs(correlation) < 0.02


def test_shapes_ranges_and_moments() -> None:
    drawn = one(samples=4096)
    for index, bound in ((drawn.picture_b, 5), (drawn.template_b, 16), (drawn.timestep_b, 1000)):
        assert index.shape == (4096,) and index.min() == 0 and bound - 3 <= index.max() < bound
    assert drawn.noise_bChw.shape == drawn.posterior_bChw.shape == (4096, *LATENT)
    assert abs(drawn.noise_bChw.mean()) < 0.01 and abs(drawn.noise_bChw.std() - 1) < 0.01
    assert drawn.noise_bChw.device.type == "cpu"


def test_frozen() -> None:
    """Other numbers here mean other vectors for the same train_key: bump keys.NUMERICS_VERSION."""
    drawn = one(seed=5, step=9, samples=4)
    assert drawn.picture_b.tolist() == PICTURES
    assert drawn.template_b.tolist() == TEMPLATES
    assert drawn.timestep_b.tolist() == TIMESTEPS
    torch.testing.assert_close(drawn.noise_bChw[0, 0, 0, :3], torch.tensor(NOISE), rtol=0, atol=1e-5)
