"""How many concepts fit: what autograd keeps is counted, and the free memory divided by it."""

import pytest
import torch

from tests.tiny import job, tiny_sd1
from ti_core.training import memory
from ti_core.training.memory import HEADROOM, USED, fitting_slots, free_bytes, kept_bytes
from ti_core.training.slot import Slot


def test_what_is_kept_grows_with_the_samples_and_nothing_else() -> None:
    model = tiny_sd1()
    by_samples = [kept_bytes(Slot(job(model, batch_size=count), model)) for count in (2, 4, 8)]
    two, four, eight = by_samples
    assert abs((eight - four) - 2 * (four - two)) < 0.05 * eight
    assert two > 100_000, "the U-Net's activations are there"
    assert abs(kept_bytes(Slot(job(model, batch_size=4, accumulation=3), model)) - four) < 0.01 * four


def test_the_free_memory_decides(monkeypatch) -> None:
    model = tiny_sd1()
    wanted = job(model)
    kept = kept_bytes(Slot(wanted, model))
    for slots in (1, 3, 40):
        free = (slots + 0.5) * HEADROOM * kept / USED
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: int(free))
        assert fitting_slots(wanted, model) == slots
    monkeypatch.setattr(memory, "free_bytes", lambda device: 0)
    assert fitting_slots(wanted, model) == 1


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("MPS backend out of memory"),
              RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")],
)  # fmt: skip
def test_where_there_is_no_room_to_look_one_is_trained_at_a_time(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(memory, "losses_of", full)
    assert fitting_slots(job(tiny_sd1()), tiny_sd1()) == 1


def test_another_failure_of_the_look_is_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(memory, "losses_of", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        fitting_slots(job(tiny_sd1()), tiny_sd1())


def test_this_machine_has_some() -> None:
    assert 2**26 < free_bytes(torch.device("cpu")) < 2**50
