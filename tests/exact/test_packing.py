"""Packing is exact: in any order and company, with concepts that come and go, after a kill, and in fp64 against solo.

The miniature, not the tiny model, where rounding is what is looked at: real weights make real sums."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch

from tests.tiny import checkpoints, job, last_vectors, miniature, tiny_sd1
from ti_core.backbone.base import Backbone
from ti_core.backbone.folder import find_base
from ti_core.backbone.sd1 import ENCODER, StableDiffusion1
from ti_core.training.events import CheckpointReady, ConceptJob, Event, Failed, Finished, Paused, Progress
from ti_core.training.state import from_bytes, to_bytes
from ti_core.training.trainer import train

Vectors = dict[tuple[str, int], torch.Tensor]


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    """However tests are started: on one thread, sums come out alike more easily."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@cache
def miniature_fp64() -> Backbone:
    return StableDiffusion1(find_base("miniature"), torch.device("cpu"), torch.float64)


def vectors_of(events: Iterable[Event]) -> Vectors:
    """All checkpoints' vectors, by concept and step."""
    return {(event.key, event.step): event.state.vectors[ENCODER]
            for event in events if isinstance(event, CheckpointReady)}  # fmt: skip


def company(model: Backbone) -> list[ConceptJob]:
    """Four concepts that differ in vectors, length, start and pictures."""
    return [
        job(model, "one", seed=1, steps=4, checkpoint_every=2),
        job(model, "two", start_phrase="red", vectors=3, seed=2, pictures_seed=1, steps=6, checkpoint_every=2),
        job(model, "three", seed=3, pictures=5, pictures_seed=2, steps=3, checkpoint_every=2),
        job(model, "four", vectors=2, seed=4, pictures_seed=3, steps=5, checkpoint_every=2),
    ]


def equal(first: Vectors, second: Vectors) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_at_one_shape_every_order_and_company_gives_the_same_bits() -> None:
    model = miniature()
    jobs = company(model)
    packed = vectors_of(train(jobs, model, slots=3, keep_shape=True))
    assert set(packed) == {("one", 2), ("one", 4), ("two", 2), ("two", 4), ("two", 6), ("three", 2), ("three", 3),
                           ("four", 2), ("four", 4), ("four", 5)}  # fmt: skip
    assert equal(packed, vectors_of(train(jobs[::-1], model, slots=3, keep_shape=True)))
    solo: Vectors = {}
    for alone in jobs:
        solo |= vectors_of(train([alone], model, slots=3, keep_shape=True))
    assert equal(packed, solo)


def test_the_same_job_gives_the_same_vectors_to_the_bit_and_another_seed_others() -> None:
    model = miniature()
    first, second = (last_vectors(train([job(model, vectors=2)], model)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, last_vectors(train([job(model, vectors=2, seed=1)], model)))


def test_resuming_at_any_checkpoint_is_the_same_to_the_bit() -> None:
    model = miniature()
    whole = checkpoints(train([job(model, vectors=2, checkpoint_every=4)], model))
    assert [event.step for event in whole] == [4, 8, 12]
    for start in whole[:-1]:
        before = start.state.vectors[ENCODER].clone()
        resumed = checkpoints(train([job(model, vectors=2, checkpoint_every=4, resume=start.state)], model))
        assert torch.equal(start.state.vectors[ENCODER], before), "the state it was given is not its to change"
        assert [event.step for event in resumed] == [step for step in (8, 12) if step > start.step]
        assert torch.equal(resumed[-1].state.vectors[ENCODER], whole[-1].state.vectors[ENCODER])
        assert torch.equal(resumed[-1].state.second_moment[ENCODER], whole[-1].state.second_moment[ENCODER])
        assert resumed[-1].loss == whole[-1].loss


def test_in_double_precision_packed_and_solo_agree_at_every_checkpoint() -> None:
    model = miniature_fp64()
    jobs = company(model)
    packed = vectors_of(train(jobs, model, slots=3))
    assert packed["two", 6].dtype == torch.float64
    for alone in jobs:
        for key, solo in vectors_of(train([alone], model)).items():
            assert (packed[key] - solo).abs().max() < 1e-9


def test_accumulated_passes_are_the_step_of_all_their_samples() -> None:
    model = miniature_fp64()
    whole = vectors_of(train([job(model, batch_size=4, steps=3, checkpoint_every=3)], model))
    parts = vectors_of(train([job(model, batch_size=2, accumulation=2, steps=3, checkpoint_every=3)], model))
    assert (whole["cat-toy", 3] - parts["cat-toy", 3]).abs().max() < 1e-9


def test_a_stop_at_any_pass_resumes_to_the_same_bits_in_other_company() -> None:
    model = tiny_sd1()
    wanted = job(model, "wanted", vectors=2, accumulation=2, steps=7, checkpoint_every=3, seed=5, stop_early=True)
    others = [job(model, "a", steps=4, checkpoint_every=4), job(model, "b", steps=9, checkpoint_every=9, seed=6)]
    whole = list(train([wanted], model, slots=3, keep_shape=True))
    for passes in (1, 4, 7, 13):
        left = iter(range(passes))
        before = list(train([others[0], wanted], model, slots=3, keep_shape=True,
                            should_stop=lambda left=left: next(left, None) is None))  # fmt: skip
        state = next(event.state for event in before if isinstance(event, Paused) and event.key == "wanted")
        assert state.step == passes // 2
        after = list(train([others[1], replace(wanted, resume=state)], model, slots=3, keep_shape=True))
        assert equal(vectors_of(one for one in whole if one.key == "wanted"),
                     vectors_of(one for one in [*before, *after] if one.key == "wanted"))  # fmt: skip
        assert losses(whole) == losses([*before, *after])


@pytest.mark.parametrize("norm", ["free", "clamp", "direction"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_stop_resumes_to_the_same_bits_under_every_norm(norm: str, dtype: torch.dtype) -> None:
    """To the sphere, a row that is on it goes to another rounding of it: in some of many rows at least."""
    model = tiny_sd1(dtype)
    wanted = job(model, "wanted", vectors=16, steps=8, checkpoint_every=1, learning_rate=0.05, norm=norm)
    whole = list(train([wanted], model))
    for stop in (1, 4, 7):
        state = next(one.state for one in whole if isinstance(one, CheckpointReady) and one.step == stop)
        again = from_bytes(to_bytes(state, "key", []), "key", "here")[0]
        after = vectors_of(train([replace(wanted, resume=again)], model))
        assert len(after) == 8 - stop
        assert all(torch.equal(rows, vectors_of(whole)[key]) for key, rows in after.items())


def losses(events: Iterable[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, CheckpointReady) and event.key == "wanted"]


def test_the_state_of_a_progress_report_resumes_too() -> None:
    model = tiny_sd1()
    wanted = job(model, steps=13, checkpoint_every=13)
    whole = list(train([wanted], model))
    (at_ten,) = [event.state for event in whole if isinstance(event, Progress) and event.state]
    assert at_ten.step == 10 and len(at_ten.losses) == 10
    resumed = list(train([replace(wanted, resume=at_ten)], model))
    assert equal(vectors_of(whole), vectors_of(resumed))
    assert [one.loss for one in whole if isinstance(one, CheckpointReady)] == [
        one.loss for one in resumed if isinstance(one, CheckpointReady)
    ]


def test_concepts_are_read_as_slots_become_free() -> None:
    model, read = tiny_sd1(), list[str]()

    def concepts() -> Iterable[ConceptJob]:
        for name in ("a", "b", "c", "d"):
            read.append(name)
            yield job(model, name, steps=2, checkpoint_every=2)

    seen = [(event.key, list(read)) for event in train(concepts(), model, slots=2) if isinstance(event, Finished)]
    assert seen == [("a", ["a", "b"]), ("b", ["a", "b"]), ("c", ["a", "b", "c", "d"]), ("d", ["a", "b", "c", "d"])]


def test_what_does_not_fit_a_pack_fails_alone() -> None:
    model = tiny_sd1()
    other = job(model, "other")
    other = replace(other, mean=other.mean[..., :4, :4], std=other.std[..., :4, :4])
    more = job(model, "more", batch_size=9)
    events = list(train([job(model, "first"), other, more], model, slots=3, keep_shape=True))
    reasons = {event.key: event.reason for event in events if isinstance(event, Failed)}
    assert "another resolution than first" in reasons["other"]
    assert "more pictures per step" in reasons["more"]
    assert ("first", 12) in vectors_of(events)
