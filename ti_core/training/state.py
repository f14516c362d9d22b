"""What resumes training: one concept's vectors and optimizer moments at a step. Kilobytes, in one safetensors file.

The file's metadata carries the step, the train_key, the checkpoints made so far and a digest of all of it, so that a
torn or altered file is noticed. Two files are kept in turn: while one is written, the other is whole. This module knows
no networks.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ti_core.errors import IntegrityError, NotFoundError
from ti_core.records import Checkpoint
from ti_core.store import Store
from ti_core.training.scale import LossScale

log = logging.getLogger(__name__)

STATE_VERSION, OLDEST = 3, 2
"""Version 3 added the loss scale, and where each checkpoint was made."""
_FILES = ("training-a.safetensors", "training-b.safetensors")


@dataclass(frozen=True)
class TrainingState:
    """State after `step` optimizer steps. Each mapping is {encoder: [V, D]} on the CPU, in the type of training (fp32).

    `losses` are those since the last checkpoint, `fixed_losses` those on the early stop's fixed batch since the start;
    `finished` says that there is nothing left to train.
    """

    step: int
    vectors: dict[str, Tensor]
    first_moment: dict[str, Tensor]
    second_moment: dict[str, Tensor]
    losses: tuple[float, ...] = ()
    fixed_losses: tuple[float, ...] = ()
    finished: bool = False
    scale: LossScale | None = None
    """Of a U-Net that computes in fp16."""


def to_bytes(state: TrainingState, train_key: str, checkpoints: list[Checkpoint]) -> bytes:
    """The stored form."""
    groups = {"vectors": state.vectors, "first": state.first_moment, "second": state.second_moment}
    tensors = {f"{group}.{name}": rows for group, by_name in groups.items() for name, rows in by_name.items()}
    tensors["losses"] = torch.tensor(state.losses, dtype=torch.float64)
    tensors["fixed_losses"] = torch.tensor(state.fixed_losses, dtype=torch.float64)
    metadata = {
        "schema_version": str(STATE_VERSION),
        "train_key": train_key,
        "step": str(state.step),
        "finished": json.dumps(state.finished),
        "checkpoints": json.dumps([checkpoint.model_dump(mode="json") for checkpoint in checkpoints]),
        "scale": json.dumps(state.scale and asdict(state.scale)),
    }
    return save(tensors, metadata=metadata | {"sha256": _digest(tensors, metadata)})


def from_bytes(data: bytes, train_key: str, source: str) -> tuple[TrainingState, list[Checkpoint]]:
    """Read a stored state. Raises IntegrityError when it is damaged, of another version, or of another train_key."""
    try:
        metadata = _metadata(data)
        version = int(metadata["schema_version"])
        if not OLDEST <= version <= STATE_VERSION:
            age = "a newer" if version > STATE_VERSION else "an older"
            raise IntegrityError(f"{source} was written by {age} Pseudoword and cannot be gone on from.")
        tensors = load(data)
        if metadata.pop("sha256") != _digest(tensors, metadata):
            raise IntegrityError(f"{source} is damaged: its content does not match its digest.")
        if metadata["train_key"] != train_key:
            raise IntegrityError(f"{source} belongs to other work ({metadata['train_key']}).")
        losses, fixed_losses = (tuple(tensors.pop(name).tolist()) for name in ("losses", "fixed_losses"))
        scale = json.loads(metadata.get("scale", "null"))
        groups: dict[str, dict[str, Tensor]] = {"vectors": {}, "first": {}, "second": {}}
        for key, tensor in tensors.items():
            group, name = key.split(".", 1)
            groups[group][name] = tensor
        state = TrainingState(
            int(metadata["step"]), groups["vectors"], groups["first"], groups["second"], losses, fixed_losses,
            json.loads(metadata["finished"]), LossScale(**scale) if scale else None,
        )  # fmt: skip
        return state, [Checkpoint.model_validate(item) for item in json.loads(metadata["checkpoints"])]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{source} is damaged: {error}.") from None


class StateFiles:
    """The two state files of one training run in a store."""

    def __init__(self, store: Store, prefix: str, train_key: str) -> None:
        self._store, self._train_key = store, train_key
        self._keys = [f"{prefix}/state/{name}" for name in _FILES]
        self._next = 0

    def newest(self) -> tuple[TrainingState | None, list[Checkpoint]]:
        """The newest whole state and the checkpoints made before it; a damaged one is passed over with a warning."""
        found = list[tuple[int, TrainingState, list[Checkpoint]]]()
        for index, key in enumerate(self._keys):
            try:
                found.append((index, *from_bytes(self._store.get(key).data, self._train_key, self._store.url(key))))
            except NotFoundError:
                pass
            except IntegrityError as error:
                log.warning("%s The state before it is used, if there is one.", error)
                self._next = index
        if not found:
            return None, []
        newest, state, checkpoints = max(found, key=lambda one: one[1].step)
        self._next = 1 - newest
        return state, checkpoints

    def write(self, state: TrainingState, checkpoints: list[Checkpoint]) -> None:
        """Overwrite the older of the two files."""
        self._store.put(self._keys[self._next], to_bytes(state, self._train_key, checkpoints))
        self._next = 1 - self._next


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    seal = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        seal.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        seal.update(tensors[name].contiguous().numpy().tobytes())
    return seal.hexdigest()


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return dict(header["__metadata__"])
