"""What the trainer is given and what it tells: one concept to train, and the events of its training.

This module knows no networks and no optimizer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ti_core.config import TrainingConfig
from ti_core.training.state import TrainingState


@dataclass(frozen=True)
class ConceptJob:
    """One concept to train. `key` tells it from the others, which may have its name; events carry it, `name` is for
    sentences. `mean` and `std` are the latents of its N pictures (mirrored ones counted), [N, C, h, w], scaled;
    `original`, [N, 2], their height and width in pixels before they were scaled (SDXL's U-Net is told); `mask`,
    [N, 1, h, w] in [0, 1], weighs the loss; `start`, [V, D] by text encoder, takes the place of the phrase. `resume`
    continues from an earlier state."""

    key: str
    name: str
    placeholder: str
    start_phrase: str
    vectors: int
    templates: Sequence[str]
    config: TrainingConfig
    mean: Tensor
    std: Tensor
    original: Tensor | None = None
    mask: Tensor | None = None
    start: dict[str, Tensor] | None = None
    resume: TrainingState | None = None


@dataclass(frozen=True)
class Progress:
    """How a concept stands after `step` of `steps`. `loss` is the mean since the last report, `norm` the mean L2 norm
    of the vectors; `samples_per_second` counts this concept's own samples. `state` resumes after this step; it is None
    where a `CheckpointReady` with the same state follows."""

    key: str
    step: int
    steps: int
    loss: float
    norm: float
    samples_per_second: float
    state: TrainingState | None


@dataclass(frozen=True)
class CheckpointReady:
    """Vectors to be judged, {encoder: [V, D]} on the CPU, in the state that resumes after this step. `loss` is the
    mean since the checkpoint before."""

    key: str
    step: int
    state: TrainingState
    norm: float
    loss: float


@dataclass(frozen=True)
class Finished:
    """The concept has done its steps, or has come to rest (`early`), and left its slot."""

    key: str
    step: int
    early: bool = False


@dataclass(frozen=True)
class Failed:
    """The concept left its slot with a reason; the others go on."""

    key: str
    step: int
    reason: str


@dataclass(frozen=True)
class Paused:
    """Training was asked to stop; `state` resumes the concept."""

    key: str
    state: TrainingState


Event = Progress | CheckpointReady | Finished | Failed | Paused
