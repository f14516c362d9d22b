"""A place in the pack and the concept that has it: its vectors, optimizer, schedule, draws, and what it has to tell.

Everything here belongs to one concept and is the same in any company. This module knows no pack and no forward pass:
those are in `pack`.

Shapes: b samples of one pass, V vectors, D text width, N pictures, C×h×w latents.
"""

import math
import time
from collections.abc import Callable, Iterator

import torch
from diffusers.optimization import get_scheduler
from torch import Tensor

from ti_core.backbone.base import Backbone
from ti_core.errors import InputError
from ti_core.training import early_stop, norms
from ti_core.training.draws import Draws, draw
from ti_core.training.events import CheckpointReady, ConceptJob, Event, Failed, Finished, Progress
from ti_core.training.scale import LossScale
from ti_core.training.state import TrainingState

REPORT_EVERY = 10
"""Steps between two `Progress` events. Losses are fetched from the device only then, and at checkpoints."""


class Slot:
    """A concept in training, `samples` at a time: its batch size, or the largest part of it that is no more than
    `at_once`. Raises InputError when it cannot be trained on this model."""

    def __init__(self, job: ConceptJob, model: Backbone, at_once: int = 0) -> None:
        self.job, self.model = job, model
        batch = job.config.batch_size
        self.samples = next(n for n in range(min(batch, at_once or batch), 0, -1) if batch % n == 0)
        self.passes = job.config.accumulation * batch // self.samples
        """Passes of a step. Its samples are drawn at once, so they are the same in any number of passes."""
        self.done = False
        self.tokens = model.tokens(
            [text.format(job.placeholder) for text in job.templates], {job.placeholder: job.vectors}
        )
        start = _start(job, model)
        dtype = next(iter(start.values())).dtype
        self.mean, self.std = job.mean.to(model.device, dtype), job.std.to(model.device, dtype)
        if not (torch.isfinite(self.mean).all() and torch.isfinite(self.std).all()):
            raise InputError(
                f"The latents of {job.name} are not finite: its pictures or the VAE's weights are damaged."
            )
        side = self.mean.shape[-1] * model.scale
        original_N2 = torch.full((len(self.mean), 2), float(side)) if job.original is None else job.original
        self.original_N2 = original_N2.to(model.device, dtype)
        self.mask = None if job.mask is None else job.mask.to(model.device, dtype)
        self._limits = {name: job.config.norm_limit * float(encoder.table_ND.float().norm(dim=-1).mean())
                        for name, encoder in model.encoders.items()}  # fmt: skip
        state = job.resume
        # Copies, here and below: the optimizer writes in place, and the state belongs to the caller.
        self._start = {name: rows_VD.clone() for name, rows_VD in start.items()}
        if job.config.norm == "direction":  # a state's rows are on the sphere: once more would change their last bits
            for name, rows_VD in self._start.items():
                norms.to_sphere_(rows_VD, self._limits[name])
        begun = state.vectors if state else self._start
        self.rows = {name: begun[name].to(model.device, dtype).clone() for name in start}
        for rows_VD in self.rows.values():
            rows_VD.requires_grad_(True)
        self._optimizer = torch.optim.Adam(list(self.rows.values()), lr=job.config.learning_rate)
        self._rate = _rate_factors(job)
        self._scale: LossScale | None = None
        if model.unet_dtype == torch.float16:
            self._scale = (state and state.scale) or LossScale()
        self.step = state.step if state else 0
        for name, rows_VD in self.rows.items():
            zero_VD = torch.zeros_like(rows_VD, requires_grad=False)
            self._optimizer.state[rows_VD] = {
                "step": torch.tensor(float(self.step)),
                "exp_avg": state.first_moment[name].to(model.device, dtype).clone() if state else zero_VD.clone(),
                "exp_avg_sq": state.second_moment[name].to(model.device, dtype).clone() if state else zero_VD,
            }
        self.has_news = self.step >= job.config.steps
        """Whether a step was done that `events` has not told of yet."""
        self.is_to_watch = False
        """Whether `watched` is due before that."""
        self._settled = False
        self._pass = 0
        """Passes done of the step in progress."""
        self._losses = list[Tensor]()
        """On the device, of steps whose loss was not fetched yet."""
        self._pass_losses = list[Tensor]()
        self._passed_over = 0
        """Steps since the last report whose loss overflowed."""
        self._since_checkpoint = list(state.losses) if state else []
        self._fixed_losses = list(state.fixed_losses) if state else []
        self._drawn: Draws | None = None
        self._reported = time.perf_counter()

    def draws(self) -> Draws:
        """The samples of the next pass: a part of the step's, which are drawn at once."""
        b = self.samples
        if self._drawn is None:
            self._drawn = draw(self.job.config.seed, self.step, b * self.passes, *self._draw_sizes())
        return self._drawn.part(slice(self._pass * b, (self._pass + 1) * b))

    def fixed_batch(self) -> Draws:
        """The samples that early stopping watches."""
        return early_stop.fixed_batch(self.job.config.seed, *self._draw_sizes())

    def share(self, loss: Tensor) -> Tensor:
        """The pass's part of what is differentiated for the step, which `take` expects in the rows' gradients."""
        part = loss / self.passes
        return part * self._scale.value if self._scale else part

    def take(self, loss: Tensor) -> None:
        """Receive the loss of the pass, and step if it was the last one of the step. Where the device's memory is spent
        (torch.OutOfMemoryError) no step was taken."""
        self._pass_losses.append(loss.detach())
        self._pass += 1
        if self._pass < self.passes or (self._scale and not self._unscaled(self._scale)):
            return
        changed = [*self.rows.values(), *(one for kept in self._optimizer.state.values() for one in kept.values())]
        with torch.no_grad():
            before = [one.clone() for one in changed]
            try:
                self._before_step()
                self._optimizer.step()
                self._after_step()
            except torch.OutOfMemoryError:  # half a step is none
                for one, as_it_was in zip(changed, before, strict=True):
                    one.copy_(as_it_was)
                raise
        self._losses.append(torch.stack(self._pass_losses).mean())
        self._next_step()

    def _unscaled(self, scale: LossScale) -> bool:
        """Whether the step can be taken: its gradients are then free of the scale.

        Where they overflowed, the step is to be done again, from the same draws, at half the scale. Where the loss
        itself did, in the U-Net's forward pass, no scale helps: the step is passed over. Costs a wait for the device.
        """
        gradients = [rows.grad for rows in self.rows.values() if rows.grad is not None]
        finite = [torch.stack(self._pass_losses).isfinite().all(), *(one.isfinite().all() for one in gradients)]
        loss_is, *gradients_are = torch.stack(finite).tolist()
        if loss_is and all(gradients_are):
            for one in gradients:
                one.div_(scale.value)
            self._scale = scale.after_sound_step()
            return True
        if loss_is and scale.value > 1:
            self._scale = scale.halved()
            self.forget_pass()
        else:
            self._passed_over += 1
            for kept in self._optimizer.state.values():
                kept["step"] += 1  # it counts like `step`, from which it is made anew where training is resumed
            self._next_step()
        return False

    def _next_step(self) -> None:
        self.forget_pass()
        self.step += 1
        self.has_news = True
        self.is_to_watch = self.job.config.stop_early and self.step % self._watched_every == 0

    def watched(self, loss: float) -> None:
        """Receive the loss of the fixed batch, on which early stopping decides."""
        self._fixed_losses.append(loss)
        self._settled = early_stop.has_settled(self._fixed_losses, self._watched_every)
        self.is_to_watch = False

    def events(self) -> Iterator[Event]:
        """What the step just done has to tell."""
        config = self.job.config
        self.has_news = False
        last = self.step >= config.steps or self._settled
        at_checkpoint = last or self.step % config.checkpoint_every == 0
        if not (at_checkpoint or self.step % REPORT_EVERY == 0):
            return
        losses = torch.stack(self._losses).tolist() if self._losses else []
        self._losses.clear()
        self._since_checkpoint += losses
        norm = self._norm()
        reason = self._failure(losses, norm)
        if reason:
            yield self.fail(reason)
            return
        elapsed, self._reported = time.perf_counter() - self._reported, time.perf_counter()
        rate = len(losses) * self.samples * self.passes / elapsed
        loss_since_checkpoint = _mean(self._since_checkpoint)
        if at_checkpoint:
            self._since_checkpoint.clear()
        state = self.state(finished=last)
        loss, resumes = _mean(losses) if losses else loss_since_checkpoint, None if at_checkpoint else state
        yield Progress(self.job.key, self.step, config.steps, loss, norm, rate, resumes)
        if at_checkpoint:
            yield CheckpointReady(self.job.key, self.step, state, norm, loss_since_checkpoint)
        if last:
            self.done = True
            yield Finished(self.job.key, self.step, early=self.step < config.steps)

    def fail(self, reason: str) -> Failed:
        """Leave the pack with a reason."""
        self.done = True
        return Failed(self.job.key, self.step, reason)

    def state(self, finished: bool = False) -> TrainingState:
        """The state after the last whole step, on the CPU."""

        def kept(key: str) -> dict[str, Tensor]:
            return {name: self._optimizer.state[rows][key].cpu().clone() for name, rows in self.rows.items()}

        return TrainingState(
            self.step,
            {name: rows.detach().cpu().clone() for name, rows in self.rows.items()},
            kept("exp_avg"),
            kept("exp_avg_sq"),
            (*self._since_checkpoint, *(loss.item() for loss in self._losses)),
            tuple(self._fixed_losses),
            finished,
            self._scale,
        )

    def forget_pass(self) -> None:
        """Drop what a step in progress has summed up: the step is then done again from its start."""
        self._pass, self._drawn = 0, None
        self._pass_losses.clear()
        self._optimizer.zero_grad(set_to_none=True)

    def _draw_sizes(self) -> tuple[int, int, int, tuple[int, int, int]]:
        pictures, channels, height, width = self.mean.shape
        return pictures, len(self.job.templates), self.model.noise.config.num_train_timesteps, (channels, height, width)

    def _before_step(self) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.job.config.learning_rate * self._rate(self.step)
        if self.job.config.norm == "direction":
            for rows_VD in self.rows.values():
                if rows_VD.grad is not None:
                    norms.to_tangent_(rows_VD.grad, rows_VD)

    def _after_step(self) -> None:
        bound = {"clamp": norms.clamp_, "direction": norms.to_sphere_}.get(self.job.config.norm)
        if bound:
            for name, rows_VD in self.rows.items():
                bound(rows_VD, self._limits[name])

    @property
    def _watched_every(self) -> int:
        return early_stop.evaluate_every(self.samples * self.passes)

    def _norm(self) -> float:
        return sum(rows.detach().norm(dim=-1).mean().item() for rows in self.rows.values()) / len(self.rows)

    def _failure(self, losses: list[float], norm: float) -> str:
        name, rate = self.job.name, self.job.config.learning_rate
        passed_over, self._passed_over = self._passed_over, 0
        if passed_over and not losses:
            return (
                f"the loss of {name} was finite in none of the last {passed_over} steps, by step {self.step}: the base "
                "model's numbers are too large for fp16 (set PSEUDOWORD_PRECISION to bf16 or fp32), or the learning "
                f"rate ({rate:g}) is too high."
            )
        if not all(map(math.isfinite, losses)):
            return (
                f"the loss of {name} is not finite by step {self.step}: lower the learning rate ({rate:g}), and check "
                "that the base model's weights are sound."
            )
        if not math.isfinite(norm):
            return f"the vectors of {name} are not finite by step {self.step}: lower the learning rate."
        warmed_up = self.step > self.job.config.warmup
        if warmed_up and all(torch.equal(self.rows[one].detach(), start) for one, start in self._start.items()):
            return (
                f"the vectors of {name} did not move in {self.step} steps: the learning rate ({rate:g}) is too small "
                "for fp32, or the base model passes no gradient."
            )
        return ""


def _start(job: ConceptJob, model: Backbone) -> dict[str, Tensor]:
    """{encoder: [V, D]} to start from: what is given, else the phrase's token embeddings."""
    if job.start is None:
        return model.initial_vectors(job.start_phrase, job.vectors)
    return {name: job.start[name].to(model.device, one.table_ND.dtype) for name, one in model.encoders.items()}


def _mean(losses: list[float]) -> float:
    return sum(losses) / len(losses) if losses else math.nan


def _rate_factors(job: ConceptJob) -> Callable[[int], float]:
    """The schedule as a function of the step, from diffusers: factors of the learning rate, without any state."""
    holder = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = get_scheduler(
        job.config.schedule, holder, num_warmup_steps=job.config.warmup, num_training_steps=job.config.steps
    )
    factors: Callable[[int], float] = schedule.lr_lambdas[0]
    return factors
