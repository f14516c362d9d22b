"""fp16: a run in it learns what fp32 learns; what overflows is done again or passed over; neighbours notice nothing."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import pytest
import torch

from tests.tiny import checkpoints, job, last_vectors, tiny_sd1
from ti_core.backbone.base import Backbone
from ti_core.backbone.sd1 import ENCODER
from ti_core.training.events import ConceptJob, Event, Failed, Finished
from ti_core.training.scale import GROWTH_STEPS, START, LossScale
from ti_core.training.slot import Slot
from ti_core.training.state import TrainingState
from ti_core.training.trainer import train


@cache
def fp16() -> Backbone:
    """The tiny model as a card without bf16 has it: the U-Net in fp16, the rest in fp32."""
    return tiny_sd1(precision="fp16")


def wanted(**config: object) -> ConceptJob:
    return job(fp16(), **{"steps": 5, "checkpoint_every": 5, "batch_size": 1} | config)


def start() -> torch.Tensor:
    return fp16().initial_vectors("toy", 1)[ENCODER]


def beginning(scale: LossScale | None) -> TrainingState:
    zero = {ENCODER: torch.zeros_like(start())}
    return TrainingState(0, {ENCODER: start()}, zero, zero, scale=scale)


def failures(events: Iterable[Event]) -> list[Failed]:
    return [event for event in events if isinstance(event, Failed)]


def off(made: torch.Tensor, reference: torch.Tensor) -> float:
    """Distance from the reference, in parts of the way that it went."""
    return float((made - reference).norm() / (reference - start()).norm())


@cache
def in_fp32() -> torch.Tensor:
    return last_vectors(train([wanted()], tiny_sd1()))


def test_a_run_in_fp16_learns_what_fp32_learns() -> None:
    assert fp16().unet_dtype == torch.float16 and next(fp16().unet.parameters()).dtype == torch.float16
    assert {part.dtype for name, part in fp16().parts.items() if name != "unet"} == {torch.float32}
    made = checkpoints(train([wanted()], fp16()))[-1].state
    assert off(made.vectors[ENCODER], in_fp32()) < 0.05
    assert made.scale == LossScale(START, 5)


def test_all_in_fp16_ends_in_nothing() -> None:
    """What is not done here: vectors and optimizer in fp16 too. Adam divides by the root of squares that are zero."""
    (failed,) = failures(train([replace(wanted(), resume=None)], tiny_sd1(torch.float16)))
    assert "not finite" in failed.reason


def test_without_a_scale_small_gradients_are_lost_and_with_it_they_are_not() -> None:
    """A U-Net that says a ten-thousandth of what it says: gradients under fp16's smallest number."""
    made = {}
    for name, model, scale in (("fp32", tiny_sd1(), None), ("bare", fp16(), LossScale(1.0)), ("scaled", fp16(), None)):
        last = model.unet.conv_out.weight
        before = last.clone()
        try:
            last.mul_(1e-4)
            made[name] = list(train([wanted(steps=1, checkpoint_every=1, resume=beginning(scale))], model))
        finally:
            last.copy_(before)
    (failed,) = failures(made["bare"])
    assert "did not move" in failed.reason
    exact, scaled = (checkpoints(made[name])[0].state.first_moment[ENCODER] for name in ("fp32", "scaled"))
    assert 0 < (scaled - exact).norm() < 0.05 * exact.norm()


def test_a_scale_that_overflows_is_halved_until_the_step_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same samples again each time, so nothing of the run is lost."""
    too_large = wanted(resume=beginning(LossScale(2.0**40)))
    events = list(train([too_large], fp16()))
    state = checkpoints(events)[-1].state
    assert state.scale and state.scale.value < 2.0**40 and state.step == 5
    assert off(state.vectors[ENCODER], in_fp32()) < 0.05
    monkeypatch.setattr(Slot, "_unscaled", lambda slot, scale: True)
    (failed,) = failures(train([too_large], fp16()))
    assert "not finite" in failed.reason, "plain fp16"


def with_a_picture_too_bright(**config: object) -> ConceptJob:
    one = wanted(**config)
    mean = one.mean.clone()
    mean[0] = 1e6
    return replace(one, mean=mean)


def test_samples_that_overflow_on_the_way_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of four pictures is beyond fp16: the steps without it are taken, and resuming anywhere gives the same."""
    events = list(train([with_a_picture_too_bright(checkpoint_every=3)], fp16()))
    assert [type(event) for event in events if isinstance(event, Failed | Finished)] == [Finished]
    middle, last = checkpoints(events)
    assert len(middle.state.losses) == 0 and 0 < middle.loss < 10
    assert last.state.vectors[ENCODER].isfinite().all()
    assert last.state.scale and 0 < last.state.scale.sound < 5, "some steps were taken, some were not"
    resumed = list(train([replace(with_a_picture_too_bright(checkpoint_every=3), resume=middle.state)], fp16()))
    assert torch.equal(last_vectors(resumed), last.state.vectors[ENCODER])
    monkeypatch.setattr(Slot, "_unscaled", lambda slot, scale: True)
    assert failures(train([with_a_picture_too_bright()], fp16())), "plain fp16"


def test_what_never_fits_fp16_fails_and_says_what_to_set() -> None:
    one = wanted()
    (failed,) = failures(train([replace(one, mean=one.mean + 1e6)], fp16()))
    assert "finite in none of the last 5 steps" in failed.reason and "PSEUDOWORD_PRECISION" in failed.reason


def test_one_that_overflows_costs_its_neighbour_nothing() -> None:
    neighbour = wanted(name="neighbour", seed=1, steps=2, checkpoint_every=2)
    made = []
    for other in (wanted(), wanted(resume=beginning(LossScale(2.0**40))), with_a_picture_too_bright()):
        made.append(last_vectors(train([other, neighbour], fp16(), slots=2), "neighbour"))
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])


def test_accumulated_passes_are_scaled_as_one_step() -> None:
    whole = last_vectors(train([wanted(batch_size=2, steps=3, checkpoint_every=3)], fp16()))
    parts = last_vectors(train([wanted(accumulation=2, steps=3, checkpoint_every=3)], fp16()))
    assert off(parts, whole) < 0.05


def test_the_scale_doubles_after_many_sound_steps() -> None:
    scale = LossScale(8.0, GROWTH_STEPS - 2).after_sound_step()
    assert scale == LossScale(8.0, GROWTH_STEPS - 1)
    assert scale.after_sound_step() == LossScale(16.0, 0)
    assert scale.halved() == LossScale(4.0, 0)


def test_no_other_type_has_a_scale() -> None:
    for model in (tiny_sd1(), tiny_sd1(precision="bf16")):
        assert checkpoints(train([job(model)], model))[-1].state.scale is None
