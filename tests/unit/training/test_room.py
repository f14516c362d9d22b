"""What a device without room for the pack costs: places, never a step, a checkpoint, or a concept that is sound."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
import torch

from tests.tiny import job, last_vectors, tiny_sd1
from ti_core.backbone.base import Backbone
from ti_core.backbone.sd1 import ENCODER
from ti_core.training import trainer
from ti_core.training.events import CheckpointReady, Event, Failed, Finished
from ti_core.training.pack import run_pass
from ti_core.training.slot import Slot
from ti_core.training.trainer import train

SMALL = torch.OutOfMemoryError("CUDA out of memory")


def checkpoints(events: Iterable[Event]) -> dict[tuple[str, int], torch.Tensor]:
    return {(e.key, e.step): e.state.vectors[ENCODER] for e in events if isinstance(e, CheckpointReady)}


def same(first: Iterable[Event], second: Iterable[Event]) -> bool:
    one, two = checkpoints(first), checkpoints(second)
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def finished(events: Iterable[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Finished)]


def holding(monkeypatch: pytest.MonkeyPatch, samples: float) -> list[int]:
    """A device that holds passes of so many samples, three times as many where the forward pass is kept in part, and
    never the concept called huge; returns the sizes of those that it did."""
    sizes = list[int]()

    def limited(pack: Sequence[Slot], model: Backbone, filler: int) -> None:
        size = sum(slot.samples for slot in pack) + filler
        if size > samples * (3 if model.recomputes else 1) or any(slot.job.name == "huge" for slot in pack):
            raise SMALL
        sizes.append(size)
        run_pass(pack, model, filler)

    monkeypatch.setattr(trainer, "run_pass", limited)
    return sizes


def test_without_room_for_all_half_of_them_wait_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_sd1()
    jobs = [job(model, name, steps=6, seed=seed) for seed, name in enumerate("abcd")]
    two = list(train(jobs, model, slots=2))
    sizes = holding(monkeypatch, samples=4)
    events = list(train(jobs, model, slots=4))
    assert finished(events) == ["a", "b", "c", "d"]
    assert max(sizes) == 4
    assert same(events, two)


def test_a_concept_that_the_memory_does_not_hold_fails_alone_and_the_others_have_all_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_sd1()
    jobs = [job(model, "huge", batch_size=3), *(job(model, name, seed=seed) for seed, name in enumerate("abcd"))]
    sizes = holding(monkeypatch, samples=8)
    events = list(train(jobs, model, slots=4))
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert (failed.key, failed.step) == ("huge", 0)
    assert "does not hold huge alone, one sample at a time: lower the resolution" in failed.reason
    assert finished(events) == ["a", "b", "c", "d"]
    assert set(sizes) == {8}, "four at a time again, once the huge one has left"
    assert not model.recomputes


def test_each_that_does_not_fit_fails_and_the_pack_comes_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    holding(monkeypatch, samples=0)
    events = list(train([job(tiny_sd1(), name) for name in "abc"], tiny_sd1(), slots=2))
    assert [event.key for event in events if isinstance(event, Failed)] == ["a", "b", "c"] and len(events) == 3


@pytest.mark.parametrize(("samples", "passes"), [(4, {4}), (2, {2}), (1, {1}), (0.4, {1})])
def test_a_concept_too_large_for_one_pass_is_trained_in_more_of_fewer_samples(
    samples: float, passes: set[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Steps, samples and checkpoints stay the same; below one sample, the forward pass is kept in part, only then."""
    model = tiny_sd1()
    wanted = job(model, batch_size=4, steps=3, checkpoint_every=3, vectors=2)
    whole = last_vectors(train([wanted], model))
    sizes = holding(monkeypatch, samples)
    events = list(train([wanted], model))
    assert set(sizes) == passes and len(sizes) == 3 * 4 / max(passes)
    start = model.initial_vectors("toy", 2)[ENCODER]
    assert (last_vectors(events) - whole).norm() < 1e-2 * (whole - start).norm()
    assert ("forward pass is kept in part" in caplog.text) == (samples < 1)
    assert not model.recomputes, "the next that uses the model has it as it was"


def test_memory_that_ends_in_the_middle_of_a_run_loses_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_sd1()
    wanted = job(model, batch_size=3, steps=4, checkpoint_every=1)
    whole = checkpoints(train([wanted], model))
    passes = iter(range(100))

    def full_from_the_third(pack: Sequence[Slot], model: Backbone, filler: int) -> None:
        if next(passes) >= 2 and pack[0].samples > 1:
            raise SMALL
        run_pass(pack, model, filler)

    monkeypatch.setattr(trainer, "run_pass", full_from_the_third)
    made = checkpoints(train([wanted], model))
    assert made.keys() == whole.keys()
    assert all(torch.equal(made["cat-toy", step], whole["cat-toy", step]) for step in (1, 2)), "done before"


def test_computing_the_forward_pass_again_changes_no_bit() -> None:
    model = tiny_sd1()
    made = []
    for recompute in (False, True):
        slot = Slot(job(model), model)
        model.recompute(recompute)
        try:
            run_pass([slot], model, 0)
        finally:
            model.recompute(False)
        made.append(slot.rows[ENCODER].detach())
    assert torch.equal(*made)


@pytest.mark.parametrize("step", [1, 3])
def test_memory_that_ends_after_the_step_of_some_costs_them_nothing(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second slot cannot step in the pass in which the first comes to a checkpoint, or to its end: that one is told
    all the same, and nobody is trained past the last step."""
    model = tiny_sd1()
    jobs = [job(model, "a", steps=4, checkpoint_every=2), job(model, "b", steps=6, checkpoint_every=3, seed=1)]
    whole = [list(train([one], model)) for one in jobs]
    stock, failures, deepest = Slot.take, iter(range(1)), dict[str, int]()

    def take(slot: Slot, loss: torch.Tensor) -> None:
        if slot.job.key == "b" and slot.step == step and next(failures, None) is not None:
            raise SMALL
        stock(slot, loss)
        deepest[slot.job.key] = max(deepest.get(slot.job.key, 0), slot.step)

    monkeypatch.setattr(Slot, "take", take)
    events = list(train(jobs, model, slots=2))
    assert sorted(finished(events)) == ["a", "b"] and deepest == {"a": 4, "b": 6}
    assert checkpoints(events).keys() == checkpoints(event for events in whole for event in events).keys()
    assert [event.step for event in events if isinstance(event, CheckpointReady) and event.key == "a"] == [2, 4]


def test_half_a_step_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_sd1()
    whole = list(train([job(model), job(model, "b", seed=1)], model))
    stock, failures = torch.optim.Adam.step, iter(range(1))

    def torn(adam: torch.optim.Adam) -> None:
        stock(adam)
        if next(failures, None) is not None:
            raise SMALL

    monkeypatch.setattr(torch.optim.Adam, "step", torn)
    made = list(train([job(model), job(model, "b", seed=1)], model, slots=2))
    assert same(whole, made)


def test_a_kept_shape_that_does_not_fit_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_sd1()
    sizes = holding(monkeypatch, samples=6)
    events = list(train([job(model, name) for name in "abcd"], model, slots=4, keep_shape=True))
    assert finished(events) == ["a", "b", "c", "d"] and max(sizes) == 4
    assert "The shape of the pack is not kept any more" in caplog.text
    alone = list(train([job(model)], model, slots=4, keep_shape=True))
    assert finished(alone) == ["cat-toy"], "without filler it fits"


def test_the_kept_shape_is_that_of_the_first_that_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_sd1()
    sound = [job(model, name, batch_size=6) for name in "ab"]
    sizes = holding(monkeypatch, samples=100)
    bad_first = list(train([job(model, "bad", broken=True, batch_size=1), *sound], model, slots=2, keep_shape=True))
    assert set(sizes) == {16}
    assert finished(bad_first) == ["a", "b"] and same(bad_first, train(sound, model, slots=2, keep_shape=True))


def test_who_finds_no_place_in_the_kept_shape_waits_for_one() -> None:
    model = tiny_sd1()
    jobs = [job(model, "a"), job(model, "wide", batch_size=8, steps=2, checkpoint_every=2), job(model, "b")]
    events = list(train(jobs, model, slots=3, keep_shape=True))
    assert finished(events) == ["a", "wide", "b"] and not [event for event in events if isinstance(event, Failed)]


def test_without_room_to_enter_a_concept_waits_and_alone_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model, stock, there = tiny_sd1(), Slot.__init__, list[str]()

    def enter(slot: Slot, wanted, model, at_once) -> None:
        if wanted.name == "never" or (wanted.name == "later" and "a" in there):
            raise SMALL
        stock(slot, wanted, model, at_once)
        there.append(wanted.name)

    monkeypatch.setattr(Slot, "__init__", enter)
    events = list[Event]()
    for event in train([job(model, name) for name in ("a", "later", "never", "b")], model, slots=2):
        events.append(event)
        if isinstance(event, Finished):
            there.remove(event.key)
    assert finished(events) == ["a", "later", "b"]
    assert [event.key for event in events if isinstance(event, Failed)] == ["never"]


def test_no_room_for_the_early_stop_s_batch_fails_that_concept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, stock = tiny_sd1(), trainer.watch

    def full(slot: Slot, model: Backbone) -> None:
        if slot.is_to_watch:
            raise SMALL
        stock(slot, model)

    monkeypatch.setattr(trainer, "watch", full)
    jobs = [job(model, "early", steps=60, checkpoint_every=60, stop_early=True), job(model, "plain")]
    events = list(train(jobs, model, slots=2))
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.key == "early" and "does not hold the fixed batch by which early would stop" in failed.reason
    assert finished(events) == ["plain"]


def test_a_state_at_the_last_step_is_told_and_not_trained_on() -> None:
    model = tiny_sd1()
    wanted = job(model, steps=6)
    (last,) = [event.state for event in train([wanted], model) if isinstance(event, CheckpointReady)]
    untold = replace(last, finished=False, losses=(0.5,) * 6)
    events = list(train([replace(wanted, resume=untold)], model))
    assert finished(events) == ["cat-toy"]
    assert torch.equal(checkpoints(events)["cat-toy", 6], last.vectors[ENCODER])
