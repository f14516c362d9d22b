"""What resumes training: one concept's vectors and optimizer moments at a step. Kilobytes, in one safetensors file.

The file's metadata carries the step, the train_key and the checkpoints made so far. A file that does not read, or
belongs to other work, is not used.
"""

import json
from dataclasses import dataclass

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ti_core.errors import IntegrityError
from ti_core.records import Checkpoint

STATE_VERSION = 1


@dataclass(frozen=True)
class TrainingState:
    """State after `step` optimizer steps. Each mapping is {encoder: [V, D]} fp32 on the CPU."""

    step: int
    vectors: dict[str, Tensor]
    first_moment: dict[str, Tensor]
    second_moment: dict[str, Tensor]


def to_bytes(state: TrainingState, train_key: str, checkpoints: list[Checkpoint]) -> bytes:
    """The stored form."""
    groups = {"vectors": state.vectors, "first": state.first_moment, "second": state.second_moment}
    tensors = {f"{group}.{name}": rows for group, by_name in groups.items() for name, rows in by_name.items()}
    metadata = {
        "schema_version": str(STATE_VERSION),
        "train_key": train_key,
        "step": str(state.step),
        "checkpoints": json.dumps([checkpoint.model_dump(mode="json") for checkpoint in checkpoints]),
    }
    return save(tensors, metadata=metadata)


def from_bytes(data: bytes, train_key: str, source: str) -> tuple[TrainingState, list[Checkpoint]]:
    """Read a stored state. Raises IntegrityError when it is damaged, too new, or of another train_key."""
    try:
        metadata = _metadata(data)
        if int(metadata["schema_version"]) > STATE_VERSION:
            raise IntegrityError(f"{source} was written by a newer Pseudoword: upgrade, or remove it to train anew.")
        if metadata["train_key"] != train_key:
            raise IntegrityError(f"{source} belongs to other work ({metadata['train_key']}).")
        groups: dict[str, dict[str, Tensor]] = {"vectors": {}, "first": {}, "second": {}}
        for key, tensor in load(data).items():
            group, name = key.split(".", 1)
            groups[group][name] = tensor
        state = TrainingState(int(metadata["step"]), groups["vectors"], groups["first"], groups["second"])
        return state, [Checkpoint.model_validate(item) for item in json.loads(metadata["checkpoints"])]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{source} is damaged: {error}.") from None


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return dict(header["__metadata__"])
