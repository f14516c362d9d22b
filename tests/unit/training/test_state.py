"""The state that resumes training: what goes in comes out; what is damaged, foreign or newer is refused."""

import json

import pytest
import torch
from safetensors.torch import save

from ti_core.errors import IntegrityError
from ti_core.records import Checkpoint
from ti_core.training.state import TrainingState, from_bytes, to_bytes

KEY = "0123456789abcdef"
CHECKPOINTS = [
    Checkpoint(step=2, vectors="a" * 64, norm=0.41, loss=0.07),
    Checkpoint(step=4, vectors="b" * 64, norm=0.43, loss=1 / 3),
]


def state() -> TrainingState:
    random = torch.Generator().manual_seed(0)
    first, second, third = (torch.randn((3, 8), generator=random) for _ in range(3))
    return TrainingState(4, {"clip_l": first}, {"clip_l": second}, {"clip_l": third.square()})


def test_round_trip_to_the_bit() -> None:
    before = state()
    after, checkpoints = from_bytes(to_bytes(before, KEY, CHECKPOINTS), KEY, "here")
    assert checkpoints == CHECKPOINTS
    assert after.step == 4
    for name in ("vectors", "first_moment", "second_moment"):
        assert torch.equal(getattr(before, name)["clip_l"], getattr(after, name)["clip_l"])
        assert getattr(after, name)["clip_l"].dtype == torch.float32


def test_it_is_kilobytes() -> None:
    assert len(to_bytes(state(), KEY, CHECKPOINTS)) < 3 * 3 * 8 * 4 + 2048


def _header(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def test_cut_short_anywhere_is_damaged() -> None:
    data = to_bytes(state(), KEY, CHECKPOINTS)
    for length in (0, 1, 8, 20, _header(data) - 1, _header(data), len(data) - 1):
        with pytest.raises(IntegrityError, match="over there is damaged"):
            from_bytes(data[:length], KEY, "over there")


@pytest.mark.parametrize(
    "data",
    [
        b"not a safetensors file at all, but longer than eight bytes",
        b"\x02\0\0\0\0\0\0\0[]",
        b'\x14\0\0\0\0\0\0\0{"__metadata__":null}',
        save({"emb_params": torch.zeros((1, 8))}),
        save({"emb_params": torch.zeros((1, 8))}, metadata={"format": "pt"}),
        save({"vectors.clip_l": torch.zeros((1, 8)), "first.clip_l": torch.zeros((1, 8)),
              "second.clip_l": torch.zeros((1, 8))},
             metadata={"schema_version": "1", "train_key": KEY, "step": "4", "checkpoints": json.dumps([{"step": 1}])}),
    ],
)  # fmt: skip
def test_another_file_is_damaged(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="over there is damaged"):
        from_bytes(data, KEY, "over there")


def test_state_of_other_work_is_refused() -> None:
    with pytest.raises(IntegrityError, match=f"over there belongs to other work.*{KEY}"):
        from_bytes(to_bytes(state(), KEY, CHECKPOINTS), "f" * 16, "over there")


def test_state_of_a_newer_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("ti_core.training.state.STATE_VERSION", 2)
        data = to_bytes(state(), KEY, CHECKPOINTS)
    with pytest.raises(IntegrityError, match="newer Pseudoword"):
        from_bytes(data, KEY, "over there")
