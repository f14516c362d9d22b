"""The packed trainer: many concepts, one frozen network, one batch.

Nothing in the network couples samples, so with a per-sample loss each concept's vectors get the gradient of their own
solo run. Each slot has vectors, optimizer state and step of its own; when a concept ends or fails, the next takes its
slot at once. The trainer yields events and stores nothing: it knows no files, no registry and no judging.

Shapes: B samples in the pack (b of each concept, in slot order), V vectors, D text width, C×h×w latents.
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ti_core.backbone.base import Backbone
from ti_core.backbone.conditioning import Tokens
from ti_core.config import TrainingConfig
from ti_core.errors import InputError
from ti_core.training.draws import Draws, draw
from ti_core.training.state import TrainingState

REPORT_EVERY = 10
"""Steps between two `Progress` events. Losses are fetched from the device only then, and at checkpoints."""
TIMESTEPS = "num_train_timesteps"


@dataclass(frozen=True)
class ConceptJob:
    """One concept to train. `mean` and `std` are the latents of its N pictures (mirrored ones counted), [N, C, h, w],
    scaled. `resume` continues from an earlier state."""

    name: str
    placeholder: str
    start_phrase: str
    vectors: int
    templates: Sequence[str]
    config: TrainingConfig
    mean: Tensor
    std: Tensor
    resume: TrainingState | None = None


@dataclass(frozen=True)
class Progress:
    """How a concept stands after `step` of `steps`. `loss` is the mean since the last report."""

    concept: str
    step: int
    steps: int
    loss: float
    norm: float
    samples_per_second: float


@dataclass(frozen=True)
class CheckpointReady:
    """Vectors to be judged, {encoder: [V, D]} fp32 on the CPU, and the state that resumes after this step. `loss`
    is the mean since the checkpoint before."""

    concept: str
    step: int
    state: TrainingState
    norm: float
    loss: float


@dataclass(frozen=True)
class Finished:
    """The concept has done its steps and left its slot."""

    concept: str
    step: int


@dataclass(frozen=True)
class Failed:
    """The concept left its slot with a reason; the others go on."""

    concept: str
    step: int
    reason: str


Event = Progress | CheckpointReady | Finished | Failed


def train(concepts: Sequence[ConceptJob], model: Backbone, slots: int = 1) -> Iterator[Event]:
    """Train `concepts`, at most `slots` at a time, and tell what happens. One concept is a pack of one.

    Loss: the latent-diffusion objective E‖ε − ε_θ(z_t, t, c(S*))‖² (arXiv 2208.01618, equation 2), averaged per
    concept and summed over the pack. Optimizer: Adam (arXiv 1412.6980) on the new rows alone, constant learning rate,
    no weight decay. A checkpoint comes every `checkpoint_every` steps and at the end; its state resumes the training.
    """
    waiting, active = deque(concepts), list[_Slot]()
    while waiting or active:
        while waiting and len(active) < slots:
            job = waiting.popleft()
            try:
                slot = _Slot(job, model)
            except InputError as error:
                yield Failed(job.name, 0, str(error))
                continue
            if slot.step >= job.config.steps:  # resumed from its last state
                yield Finished(job.name, slot.step)
            else:
                active.append(slot)
        if active:
            _step(active, model)
        for slot in list(active):
            yield from slot.events()
            if slot.done:
                active.remove(slot)


@dataclass
class _Slot:
    """A place in the pack and the concept that has it."""

    job: ConceptJob
    model: Backbone
    step: int = 0
    done: bool = False
    losses: list[Tensor] = field(default_factory=list)
    """Losses on the device that were not fetched yet."""
    since_checkpoint: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        job, model = self.job, self.model
        self.tokens = model.tokens(
            [text.format(job.placeholder) for text in job.templates], {job.placeholder: job.vectors}
        )
        self.mean, self.std = job.mean.to(model.device), job.std.to(model.device)
        self.start = model.initial_vectors(job.start_phrase, job.vectors)
        state = job.resume
        first = state.vectors if state else self.start
        # A copy: the optimizer writes in place, and the state belongs to the caller.
        self.rows = {name: rows.to(model.device, copy=True).requires_grad_(True) for name, rows in first.items()}
        self.optimizer = torch.optim.Adam(self.rows.values(), lr=job.config.learning_rate)
        if state:
            self.step = state.step
            for name, rows in self.rows.items():
                self.optimizer.state[rows] = {
                    "step": torch.tensor(float(state.step)),
                    "exp_avg": state.first_moment[name].to(model.device, copy=True),
                    "exp_avg_sq": state.second_moment[name].to(model.device, copy=True),
                }
        self.reported = time.perf_counter()

    def draws(self) -> Draws:
        config, (pictures, *latent) = self.job.config, self.mean.shape
        timesteps = self.model.noise.config[TIMESTEPS]
        channels, height, width = latent
        return draw(
            config.seed, self.step, config.batch_size, pictures, len(self.job.templates), timesteps,
            (channels, height, width),
        )  # fmt: skip

    def events(self) -> Iterator[Event]:
        """What the step just done has to tell."""
        steps = self.job.config.steps
        at_checkpoint = self.step % self.job.config.checkpoint_every == 0 or self.step == steps
        if not (at_checkpoint or self.step % REPORT_EVERY == 0):
            return
        losses = torch.stack(self.losses).tolist()
        self.losses.clear()
        self.since_checkpoint += losses
        norm = torch.cat([rows.detach().norm(dim=-1) for rows in self.rows.values()]).mean().item()
        reason = self._failure(losses, norm)
        if reason:
            self.done = True
            yield Failed(self.job.name, self.step, reason)
            return
        elapsed, self.reported = time.perf_counter() - self.reported, time.perf_counter()
        rate = len(losses) * self.job.config.batch_size / elapsed
        yield Progress(self.job.name, self.step, steps, sum(losses) / len(losses), norm, rate)
        if at_checkpoint:
            loss = sum(self.since_checkpoint) / len(self.since_checkpoint)
            self.since_checkpoint.clear()
            yield CheckpointReady(self.job.name, self.step, self._state(), norm, loss)
        if self.step == steps:
            self.done = True
            yield Finished(self.job.name, self.step)

    def _failure(self, losses: list[float], norm: float) -> str:
        if not all(map(math.isfinite, losses)):
            return (
                f"the loss of {self.job.name} is not finite by step {self.step}: lower the learning rate "
                f"({self.job.config.learning_rate:g}), and check that the base model's weights are sound."
            )
        if not math.isfinite(norm):
            return f"the vectors of {self.job.name} are not finite by step {self.step}: lower the learning rate."
        if all(torch.equal(rows.detach(), self.start[name]) for name, rows in self.rows.items()):
            return (
                f"the vectors of {self.job.name} did not move in {self.step} steps: the learning rate "
                f"({self.job.config.learning_rate:g}) is too small for fp32, or the base model passes no gradient."
            )
        return ""

    def _state(self) -> TrainingState:
        moments = {name: self.optimizer.state[rows] for name, rows in self.rows.items()}
        return TrainingState(
            self.step,
            {name: rows.detach().cpu().clone() for name, rows in self.rows.items()},
            {name: moment["exp_avg"].cpu().clone() for name, moment in moments.items()},
            {name: moment["exp_avg_sq"].cpu().clone() for name, moment in moments.items()},
        )


def _step(active: list[_Slot], model: Backbone) -> None:
    """One optimizer step of every active concept, in one forward and one backward pass."""
    device = model.device
    drawn = [slot.draws() for slot in active]
    counts = [len(draws.picture_b) for draws in drawn]

    latents_BChw = torch.cat(
        [
            slot.mean[draws.picture_b] + slot.std[draws.picture_b] * draws.posterior_bChw.to(device)
            for slot, draws in zip(active, drawn, strict=True)
        ]
    )
    noise_BChw = torch.cat([draws.noise_bChw for draws in drawn]).to(device)
    timesteps_B = torch.cat([draws.timestep_b for draws in drawn]).to(device)
    tokens = Tokens.cat([slot.tokens.take(draws.template_b) for slot, draws in zip(active, drawn, strict=True)])

    most = max(slot.job.vectors for slot in active)
    vectors = {}
    for name in model.encoders:
        rows = [torch.nn.functional.pad(slot.rows[name], (0, 0, 0, most - slot.job.vectors)) for slot in active]
        vectors[name] = torch.cat([row.expand(count, -1, -1) for row, count in zip(rows, counts, strict=True)])

    told = model.encode_prompts(tokens, vectors)
    noisy_BChw = model.noise.add_noise(latents_BChw, noise_BChw, timesteps_B)
    predicted_BChw = model.denoise(noisy_BChw, timesteps_B, told)
    error_B = (predicted_BChw - model.target(latents_BChw, noise_BChw, timesteps_B)).square().mean(dim=(1, 2, 3))
    losses = [part.mean() for part in error_B.split(counts)]
    torch.stack(losses).sum().backward()

    for slot, loss in zip(active, losses, strict=True):
        slot.optimizer.step()
        slot.optimizer.zero_grad(set_to_none=True)
        slot.losses.append(loss.detach())
        slot.step += 1
