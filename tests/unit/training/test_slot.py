"""What a concept may ask of its training: schedule, norm control, mask, early stop. Each by its definition."""

from dataclasses import replace

import pytest
import torch
from diffusers.optimization import get_scheduler

from tests.tiny import job, tiny_sd1
from ti_core.backbone.sd1 import ENCODER
from ti_core.training import early_stop
from ti_core.training.events import CheckpointReady, ConceptJob, Finished
from ti_core.training.trainer import train


def by_step(wanted: ConceptJob) -> list[torch.Tensor]:
    """The start and the vectors after every step."""
    model = tiny_sd1()
    start = model.initial_vectors(wanted.start_phrase, wanted.vectors)[ENCODER]
    return [start] + [one.state.vectors[ENCODER] for one in train([wanted], model) if isinstance(one, CheckpointReady)]


@pytest.mark.parametrize("schedule", ["constant", "constant_with_warmup", "linear", "cosine"])
def test_the_schedule_is_diffusers_own(schedule: str) -> None:
    """Adam's first step moves every number by the learning rate, whatever the gradient, and later ones by nearly so
    while the gradient keeps its sign; so the schedule is compared by running the same steps with torch's optimizer."""
    wanted = job(tiny_sd1(), steps=6, checkpoint_every=1, schedule=schedule, warmup=2 if schedule != "constant" else 0)
    made = by_step(wanted)
    holder = torch.optim.SGD([torch.zeros(1)], lr=wanted.config.learning_rate)
    warmup = wanted.config.warmup
    rates = get_scheduler(schedule, holder, num_warmup_steps=warmup, num_training_steps=6)
    moments = [one.state for one in train([wanted], tiny_sd1()) if isinstance(one, CheckpointReady)]
    for step, state in enumerate(moments, start=1):
        first, second = state.first_moment[ENCODER], state.second_moment[ENCODER]
        unit = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        torch.testing.assert_close(made[step - 1] - made[step], rates.get_last_lr()[0] * unit, rtol=1e-3, atol=1e-7)
        holder.step()
        rates.step()


def vocabulary_norm() -> float:
    return float(tiny_sd1().encoders[ENCODER].table_ND.norm(dim=-1).mean())


def test_clamped_vectors_grow_to_the_limit_and_no_further() -> None:
    free = by_step(job(tiny_sd1(), steps=8, checkpoint_every=1, learning_rate=0.05, vectors=2))
    clamped = by_step(job(tiny_sd1(), steps=8, checkpoint_every=1, learning_rate=0.05, vectors=2, norm="clamp",
                          norm_limit=1.5))  # fmt: skip
    limit = 1.5 * vocabulary_norm()
    assert free[-1].norm(dim=-1).max() > limit
    assert all(rows.norm(dim=-1).max() <= limit * (1 + 1e-6) for rows in clamped[1:])


def test_direction_only_keeps_the_norm_and_turns() -> None:
    made = by_step(job(tiny_sd1(), steps=4, checkpoint_every=1, vectors=2, norm="direction"))[1:]
    for rows in made:
        torch.testing.assert_close(rows.norm(dim=-1), torch.full((2,), vocabulary_norm()))
    assert torch.cosine_similarity(made[0], made[-1]).max() < 0.9999


def test_what_the_mask_hides_has_no_say() -> None:
    model = tiny_sd1()
    plain = job(model, steps=3, checkpoint_every=3)
    left = torch.zeros_like(plain.mean[:, :1])
    left[..., : left.shape[-1] // 2] = 1.0
    whole = replace(plain, mask=torch.ones_like(left))
    torch.testing.assert_close(by_step(plain)[-1], by_step(whole)[-1])
    masked = by_step(replace(plain, mask=left))[-1]
    assert not torch.allclose(masked, by_step(plain)[-1], atol=1e-4)


def test_the_masked_loss_is_the_mean_over_what_shows() -> None:
    model = tiny_sd1()
    plain = job(model, steps=1, checkpoint_every=1, batch_size=1, pictures=1)
    shape = plain.mean[:, :1]
    half = torch.zeros_like(shape)
    half[..., : shape.shape[-1] // 2] = 1.0
    (whole,), (left,), (right,) = (
        [one.loss for one in train([replace(plain, mask=mask)], model) if isinstance(one, CheckpointReady)]
        for mask in (torch.ones_like(shape), half, 1 - half)
    )
    assert whole == pytest.approx((left + right) / 2, rel=1e-5)
    assert abs(left - right) > 1e-4


def test_early_stop_ends_with_a_checkpoint_and_a_finished_state(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_sd1()
    monkeypatch.setattr(early_stop, "has_settled", lambda losses, every: len(losses) == 2)
    every = early_stop.evaluate_every(2)
    wanted = job(model, steps=5 * every, checkpoint_every=5 * every, stop_early=True)
    assert every > 10
    events = list(train([wanted], model))
    assert events[-1] == Finished("cat-toy", 2 * every, early=True)
    last = [event for event in events if isinstance(event, CheckpointReady)][-1]
    assert last.step == 2 * every and last.state.finished and len(last.state.fixed_losses) == 2
    assert list(train([replace(wanted, resume=last.state)], model)) == [Finished("cat-toy", 2 * every)]


def test_the_fixed_loss_falls_while_a_concept_is_learned() -> None:
    model = tiny_sd1()
    wanted = job(model, steps=48, checkpoint_every=48, learning_rate=2e-2, batch_size=8, stop_early=True)
    *_, last = [event.state for event in train([wanted], model) if isinstance(event, CheckpointReady)]
    assert len(last.fixed_losses) == 48 // early_stop.evaluate_every(8)
    assert last.fixed_losses[-1] < last.fixed_losses[0]
