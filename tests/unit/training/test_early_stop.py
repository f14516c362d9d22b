"""Early stopping: the rule as DVAR has it, the batch that never changes, and what evaluating costs."""

import numpy as np
import pytest
import torch

from ti_core.training.early_stop import (
    PASSES_PER_EVALUATION,
    SAMPLES,
    THRESHOLD,
    WINDOW,
    evaluate_every,
    fixed_batch,
    has_settled,
)  # fmt: skip


def test_a_loss_that_falls_goes_on_and_one_at_rest_stops() -> None:
    falling = list(np.linspace(1.0, 0.5, 2 * WINDOW // 10))
    assert not has_settled(falling, 10)
    assert has_settled([*falling, *[0.5] * (WINDOW // 10)], 10)


@pytest.mark.parametrize("every", [1, 10, 31])
def test_the_rule_is_the_ratio_of_variances(every: int) -> None:
    steps = np.arange(1, 1500, every)
    losses = list(np.exp(-steps / 200) + 0.02 * np.cos(steps))
    n = round(WINDOW / every)
    expected = [end > n and np.var(losses[end - n : end]) / np.var(losses[:end]) < THRESHOLD
                for end in range(1, len(losses) + 1)]  # fmt: skip
    assert [has_settled(losses[:end], every) for end in range(1, len(losses) + 1)] == expected
    assert True in expected and False in expected[n:]


def test_few_or_constant_losses_say_nothing() -> None:
    assert not has_settled([], 10)
    assert not has_settled([1.0] + [0.5] * (WINDOW // 10 - 1), 10)
    assert not has_settled([0.5] * 100, 10)


@pytest.mark.parametrize("samples", [1, 4, 8, 16, 64])
def test_evaluating_costs_under_five_percent(samples: int) -> None:
    assert SAMPLES * PASSES_PER_EVALUATION / (evaluate_every(samples) * samples) < 0.05


def test_the_fixed_batch_is_fixed_and_covers_pictures_and_times() -> None:
    first, again, other = (fixed_batch(seed, 3, 5, 1000, (4, 8, 8)) for seed in (1, 1, 2))
    assert torch.equal(first.noise_bChw, again.noise_bChw) and torch.equal(first.template_b, again.template_b)
    assert not torch.equal(first.noise_bChw, other.noise_bChw)
    assert set(first.picture_b.tolist()) == {0, 1, 2}
    assert (first.timestep_b * SAMPLES // 1000).tolist() == list(range(SAMPLES)), "one in each stratum"
