"""The packed trainer: many concepts, one frozen network, one batch.

Nothing in the network couples samples, so with a per-sample loss each concept's vectors get the gradient of their own
solo run. Each slot has vectors, optimizer state, schedule and step of its own; when a concept ends, comes to rest or
fails, the next takes its slot at once. The trainer yields events and stores nothing: it knows no files, no registry and
no judging.

How exact that is: kernels choose their order of summation by the batch's shape. At the same shape (`keep_shape`) a
concept's vectors are bit-identical on a CPU in any company; at another shape they are those of another rounding.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch

from ti_core.backbone.base import Backbone
from ti_core.errors import InputError, TrainingError
from ti_core.training.events import ConceptJob, Event, Failed, Finished, Paused
from ti_core.training.pack import run_pass
from ti_core.training.slot import Slot

log = logging.getLogger(__name__)

SHAPE_MULTIPLE = 8
"""A kept shape is rounded up to this. Kernels split a handful of rows unevenly among threads, and a row's last bit then
depends on its place (seen with 6 rows on two threads, in the layers that see one row per sample)."""


def train(
    concepts: Iterable[ConceptJob],
    model: Backbone,
    slots: int = 1,
    *,
    keep_shape: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train `concepts`, at most `slots` at a time, and tell what happens. One concept is a pack of one.

    Loss: see `pack.losses_of`. Optimizer: Adam (arXiv 1412.6980) on the new rows alone, no weight decay. A checkpoint
    comes every `checkpoint_every` steps and at the end; the state of any event resumes the training. `concepts` is read
    as slots become free. `keep_shape` fills empty places with inert samples, so that every pass has `slots` times the
    first concept's batch size, rounded up to `SHAPE_MULTIPLE`. `should_stop` is asked before every pass; once it says
    yes, each concept in training tells its state and nothing more is trained.

    Raises TrainingError when the memory does not hold a single concept.
    """
    waiting, pack = _Queue(concepts), list[Slot]()
    shape = 0
    while True:
        while len(pack) < slots and (job := waiting.next()):
            if not pack and not shape:
                shape = -(-slots * job.config.batch_size // SHAPE_MULTIPLE) * SHAPE_MULTIPLE
            try:
                slot = _enter(job, model, pack, shape if keep_shape else 0)
            except InputError as error:
                yield Failed(job.name, job.resume.step if job.resume else 0, str(error))
                continue
            if job.resume and job.resume.finished:
                yield Finished(job.name, slot.step)
            else:
                pack.append(slot)
        if not pack:
            return
        if should_stop():
            yield from (Paused(slot.job.name, slot.state()) for slot in pack)
            return
        samples = sum(slot.job.config.batch_size for slot in pack)
        try:
            run_pass(pack, model, shape - samples if keep_shape else 0)
        except torch.OutOfMemoryError:
            slots = _make_room(pack, waiting)
            continue
        for slot in [slot for slot in pack if slot.between_steps]:
            yield from slot.events()
        pack = [slot for slot in pack if not slot.done]


class _Queue:
    """Concepts that wait: those sent back, then the next of the iterable, which is read no further than needed."""

    def __init__(self, concepts: Iterable[ConceptJob]) -> None:
        self._rest, self.sent_back = iter(concepts), deque[ConceptJob]()

    def next(self) -> ConceptJob | None:
        return self.sent_back.popleft() if self.sent_back else next(self._rest, None)


def _enter(job: ConceptJob, model: Backbone, pack: list[Slot], shape: int) -> Slot:
    """Make the concept's slot. Raises InputError when it cannot be trained, or not in this pack."""
    slot = Slot(job, model)
    if pack and slot.mean.shape[1:] != pack[0].mean.shape[1:]:
        raise InputError(f"{job.name} has another resolution than {pack[0].job.name}: train them in two packs.")
    if shape and shape < sum(one.job.config.batch_size for one in [*pack, slot]):
        raise InputError(
            f"{job.name} has more pictures per step than its pack, whose shape is to be kept, has places for."
        )
    return slot


def _make_room(pack: list[Slot], waiting: _Queue) -> int:
    """Send the later half of the pack back to wait, with its state; the others do their pass again. Returns how many
    slots are left."""
    if len(pack) == 1:
        raise TrainingError(
            f"The memory of the device does not hold {pack[0].job.name} alone: lower the pictures per step (and raise "
            "the accumulation for the same samples), or the resolution."
        ) from None
    keep = len(pack) // 2
    for slot in pack:
        slot.forget_pass()
    for slot in reversed(pack[keep:]):
        waiting.sent_back.appendleft(replace(slot.job, resume=slot.state()))
    del pack[keep:]
    torch.cuda.empty_cache()
    log.warning("The memory of the device does not hold so many concepts: going on with %d slots.", keep)
    return keep
