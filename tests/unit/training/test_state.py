"""The state that resumes training: what goes in comes out; what is damaged, foreign or newer is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from ti_core.errors import IntegrityError
from ti_core.records import Checkpoint
from ti_core.store.folder import FolderStore
from ti_core.training.scale import LossScale
from ti_core.training.state import StateFiles, TrainingState, _digest, from_bytes, to_bytes

KEY = "0123456789abcdef"
CHECKPOINTS = [
    Checkpoint(step=2, vectors="a" * 64, norm=0.41, loss=0.07),
    Checkpoint(step=4, vectors="b" * 64, norm=0.43, loss=1 / 3),
]


def state() -> TrainingState:
    random = torch.Generator().manual_seed(0)
    first, second, third = (torch.randn((3, 8), generator=random) for _ in range(3))
    return TrainingState(
        4, {"clip_l": first}, {"clip_l": second}, {"clip_l": third.square()}, (0.1, 1 / 3), (0.2, 0.05), True
    )


def test_round_trip_to_the_bit() -> None:
    before = state()
    after, checkpoints = from_bytes(to_bytes(before, KEY, CHECKPOINTS), KEY, "here")
    assert checkpoints == CHECKPOINTS
    assert (after.step, after.losses, after.fixed_losses, after.finished) == (4, (0.1, 1 / 3), (0.2, 0.05), True)
    for name in ("vectors", "first_moment", "second_moment"):
        assert torch.equal(getattr(before, name)["clip_l"], getattr(after, name)["clip_l"])
        assert getattr(after, name)["clip_l"].dtype == torch.float32


def test_a_loss_scale_goes_in_and_comes_out() -> None:
    scaled = replace(state(), scale=LossScale(2.0**13, 77))
    assert from_bytes(to_bytes(scaled, KEY, CHECKPOINTS), KEY, "here")[0].scale == LossScale(2.0**13, 77)
    assert from_bytes(to_bytes(state(), KEY, CHECKPOINTS), KEY, "here")[0].scale is None


def test_a_state_of_the_version_before_is_gone_on_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no scale, and its checkpoints do not say where they were made."""
    before = CHECKPOINTS[0].model_dump(exclude={"device", "dtype"})
    monkeypatch.setattr("ti_core.training.state.STATE_VERSION", 2)
    data = to_bytes(state(), KEY, [])
    tensors, metadata = load(data), dict(json.loads(data[8 : _header(data)])["__metadata__"])
    del metadata["scale"], metadata["sha256"]
    metadata["checkpoints"] = json.dumps([before])
    old = save(tensors, metadata=metadata | {"sha256": _digest(tensors, metadata)})
    monkeypatch.undo()
    after, checkpoints = from_bytes(old, KEY, "here")
    assert after.step == 4 and after.scale is None
    assert checkpoints == [CHECKPOINTS[0]]


def test_it_is_kilobytes() -> None:
    """One vector of SD 1.5 late in a long run: 40 checkpoints behind it, 250 losses since the last."""
    first, second, third = ({"clip_l": torch.randn((1, 768))} for _ in range(3))
    late = TrainingState(9_999, first, second, third, tuple([0.1] * 250), tuple([0.1] * 400))
    assert len(to_bytes(late, KEY, CHECKPOINTS * 20)) < 32 * 1024


def test_a_changed_number_is_noticed() -> None:
    data = bytearray(to_bytes(state(), KEY, CHECKPOINTS))
    data[-5] ^= 1
    with pytest.raises(IntegrityError, match="over there is damaged: its content does not match its digest"):
        from_bytes(bytes(data), KEY, "over there")


def test_a_changed_step_is_noticed() -> None:
    data = to_bytes(state(), KEY, CHECKPOINTS)
    with pytest.raises(IntegrityError, match="damaged"):
        from_bytes(data.replace(b'"step":"4"', b'"step":"5"'), KEY, "over there")


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
             metadata={"schema_version": "2", "train_key": KEY, "step": "4", "checkpoints": json.dumps([{"step": 1}])}),
    ],
)  # fmt: skip
def test_another_file_is_damaged(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="over there is damaged"):
        from_bytes(data, KEY, "over there")


def test_state_of_other_work_is_refused() -> None:
    with pytest.raises(IntegrityError, match=f"over there belongs to other work.*{KEY}"):
        from_bytes(to_bytes(state(), KEY, CHECKPOINTS), "f" * 16, "over there")


@pytest.mark.parametrize(("version", "age"), [(1, "an older"), (4, "a newer")])
def test_state_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, version: int, age: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("ti_core.training.state.STATE_VERSION", version)
        data = to_bytes(state(), KEY, CHECKPOINTS)
    with pytest.raises(IntegrityError, match=f"{age} Pseudoword"):
        from_bytes(data, KEY, "over there")


def at(step: int) -> TrainingState:
    return replace(state(), step=step)


def test_of_two_files_the_newest_whole_one_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FolderStore(tmp_path)
    files = StateFiles(store, "run", KEY)
    assert files.newest() == (None, [])
    for step in (2, 4, 6):
        files.write(at(step), CHECKPOINTS)
    assert len(list(store.keys("run/state/"))) == 2
    again = StateFiles(store, "run", KEY)
    newest, _ = again.newest()
    assert newest and newest.step == 6
    torn = next(key for key in store.keys("run/state/") if b'"step":"6"' in store.get(key).data)
    store.put(torn, store.get(torn).data[:-9])
    before, checkpoints = again.newest()
    assert before and before.step == 4 and checkpoints == CHECKPOINTS
    assert "is damaged" in caplog.text and store.url(torn) in caplog.text
    again.write(at(8), CHECKPOINTS)
    assert {from_bytes(store.get(key).data, KEY, key)[0].step for key in store.keys("run/state/")} == {4, 8}, (
        "the damaged file is the one to be overwritten"
    )
