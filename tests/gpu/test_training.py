"""On a card: bf16 and fp16 learn what fp32 learns, a pack what each learns alone, spent memory costs places only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from tests.gpu.conftest import CUDA
from tests.tiny import checkpoints, job
from ti_core.backbone import footprint
from ti_core.backbone.base import Backbone
from ti_core.backbone.resident import load
from ti_core.training import pack
from ti_core.training.events import ConceptJob, Failed
from ti_core.training.trainer import train

SHORT = {"steps": 2, "checkpoint_every": 2, "batch_size": 2, "learning_rate": 5e-3}


def learned(model: Backbone, jobs: list[ConceptJob], slots: int = 1) -> dict[str, torch.Tensor]:
    """The mean gradient of each job's steps (Adam's first moment: steps themselves are mostly signs of it)."""
    events = list(train(jobs, model, slots))
    assert not [event.reason for event in events if isinstance(event, Failed)]
    last = {one.name: checkpoints(events, one.name)[-1].state.first_moment for one in jobs}
    return {name: torch.cat([rows for _, rows in sorted(moments.items())], 1) for name, moments in last.items()}


def off(made: torch.Tensor, reference: torch.Tensor) -> float:
    """Distance from the reference, in parts of its length."""
    return float((made - reference).norm() / reference.norm())


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_bf16_and_fp16_learn_what_fp32_learns(name: str, model_of: Callable[..., Backbone]) -> None:
    made = {}
    for precision in ("fp32", "bf16", "fp16"):
        model = model_of(name, precision)
        made[precision] = learned(model, [job(model, **SHORT | {"steps": 1, "checkpoint_every": 1})])["cat-toy"]
    assert off(made["fp16"], made["fp32"]) < 0.1
    assert off(made["bf16"], made["fp32"]) < 0.5


def test_a_pack_learns_what_each_learns_alone(model_of: Callable[..., Backbone]) -> None:
    model = model_of("sd15", "fp32")
    jobs = [job(model, "first", seed=1, **SHORT), job(model, "second", seed=2, pictures_seed=1, **SHORT)]
    packed = learned(model, jobs, slots=2)
    for one in jobs:
        assert off(packed[one.name], learned(model, [one])[one.name]) < 0.02


@contextmanager
def less_memory(model: Backbone, samples: float, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """A device whose memory holds a training pass of so many samples. On a CPU, which has no such limit, a pass of more
    ends as it would."""
    if CUDA:
        one = footprint.training_bytes(load(model.info, torch.device("meta"), precision="bf16"), model.info.resolution)
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 1.3 * samples * one) / whole)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    stock = pack.losses_of

    def limited(slots, drawn, *rest):
        if sum(slot.samples for slot in slots) > samples * (2 if model.recomputes else 1):
            raise torch.OutOfMemoryError("forced")
        return stock(slots, drawn, *rest)

    with patch.context() as patched:
        patched.setattr(pack, "losses_of", limited)
        yield


@pytest.mark.parametrize("samples", [2, 1, 0.6])
def test_memory_that_does_not_hold_the_pack_costs_places_and_passes_only(
    samples: float, model_of: Callable[..., Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("sd15", "bf16" if CUDA else "fp32")
    jobs = [job(model, name, seed=seed, **SHORT) for seed, name in enumerate("ab")]
    whole = learned(model, jobs, slots=2)
    with less_memory(model, samples, monkeypatch):
        made = learned(model, jobs, slots=2)
    for name, rows in made.items():
        assert off(rows, whole[name]) < (0.5 if CUDA else 0.02)
    assert not model.recomputes


@pytest.mark.skipif(not CUDA, reason="a CPU's allocator tells no peak; benchmarks/memory.py measures it there")
@pytest.mark.parametrize("name", ["sd15", "sdxl"])
@pytest.mark.parametrize("recompute", [False, True])
def test_the_counted_memory_of_a_pass_is_what_the_card_needs(
    name: str, recompute: bool, model_of: Callable[..., Backbone]
) -> None:
    model = model_of(name, "bf16")
    counted = footprint.training_bytes(
        load(model.info, torch.device("meta"), precision="bf16"), model.info.resolution, 1, recompute
    )
    model.recompute(recompute)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    learned(model, [job(model, **SHORT | {"batch_size": 1})])
    found = torch.cuda.max_memory_allocated() - before
    assert found < footprint.SLACK * counted, f"counted {counted / 1e9:.2f} GB, measured {found / 1e9:.2f} GB"
