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
from ti_core.backbone.room import naming_spent_memory
from ti_core.errors import InputError
from ti_core.training.events import ConceptJob, Event, Failed, Finished, Paused
from ti_core.training.pack import run_pass, watch
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
    first trained concept's batch size, rounded up to `SHAPE_MULTIPLE`. `should_stop` is asked before every pass; once
    it says yes, each concept in training tells its state and nothing more is trained.

    Where the device's memory does not hold the pack, half of it waits, and a kept shape is given up. A concept that it
    does not hold alone is trained in more passes of fewer samples, then with the U-Net's forward pass computed again in
    the backward pass (`Backbone.recompute`); one that it does not hold then either fails. None of this changes what is
    learned, but for rounding.
    """
    pack = _Pack(concepts, model, slots, keep_shape)
    try:
        yield from _trained(pack, model, should_stop)
    finally:
        pack.as_asked()


def _trained(pack: "_Pack", model: Backbone, should_stop: Callable[[], bool]) -> Iterator[Event]:
    while True:
        yield from pack.tell()
        yield from pack.fill()
        if not pack.slots:
            return
        if any(slot.has_news for slot in pack.slots):
            continue  # it entered with its last step done
        if should_stop():
            yield from (Paused(slot.job.key, slot.state()) for slot in pack.slots)
            return
        try:
            run_pass(pack.slots, model, pack.filler)
            fits = True
        except torch.OutOfMemoryError:
            fits = False
        if not fits:  # not in the handler: there the error still holds what the pass had computed
            yield from pack.make_room()


class _Pack:
    """The concepts in training and those that wait: the ones sent back first, then the rest of the iterable."""

    def __init__(self, concepts: Iterable[ConceptJob], model: Backbone, slots: int, keep_shape: bool) -> None:
        self.slots = list[Slot]()
        self._model, self._rest, self._sent_back = model, iter(concepts), deque[ConceptJob]()
        self._asked = self._room = slots
        self._keeps_shape, self._shape = keep_shape, 0
        self._at_once = 0
        """Most samples of a concept in one pass; 0 is its batch size."""

    @property
    def filler(self) -> int:
        """Inert samples of the next pass."""
        return max(0, self._shape - self._samples)

    @property
    def _samples(self) -> int:
        return sum(slot.samples for slot in self.slots)

    def tell(self) -> Iterator[Event]:
        """What the steps just done have to tell; who is done leaves."""
        for slot in [slot for slot in self.slots if slot.has_news]:
            try:
                watch(slot, self._model)
            except torch.OutOfMemoryError:
                yield slot.fail(
                    f"the memory of the device does not hold the fixed batch by which {slot.job.name} would stop "
                    "early: train it without early stopping, or at a lower resolution."
                )
                continue
            yield from slot.events()
        self.slots = [slot for slot in self.slots if not slot.done]

    def fill(self) -> Iterator[Event]:
        """Let concepts enter while there is room; those that cannot be trained fail alone."""
        while len(self.slots) < self._room and (job := self._next()):
            step = job.resume.step if job.resume else 0
            if job.resume and job.resume.finished:
                yield Finished(job.key, step)
                continue
            try:
                with naming_spent_memory():
                    slot = self._enter(job)
            except InputError as error:
                yield Failed(job.key, step, str(error))
                continue
            except torch.OutOfMemoryError:
                if not self.slots:
                    yield Failed(job.key, step, _too_large(job))
                    continue
                slot, self._room = None, len(self.slots)
            if slot is None:
                self._sent_back.appendleft(job)
                return
            self.slots.append(slot)

    def make_room(self) -> Iterator[Event]:
        """After a pass that the memory did not hold: give up a kept shape, and send the later half of the pack back to
        wait, with its state; the others do their pass again. A concept that was alone, without filler, enters again in
        smaller passes; where they could not be smaller, it fails."""
        before, alone = len(self.slots), len(self.slots) == 1 and not self.filler
        stepped = any(slot.has_news for slot in self.slots)
        yield from self.tell()  # of the steps that were done: a slot that is sent back forgets them
        for slot in self.slots:
            slot.forget_pass()
        if alone and not stepped:
            slot = self.slots.pop()
            if self._makes_passes_smaller(slot):
                self._room = 1
                self._sent_back.appendleft(replace(slot.job, resume=slot.state()))
            else:
                yield slot.fail(_too_large(slot.job))
                self.as_asked()  # the others may fit as before
        else:
            self._room = max(1, before // 2)
            for slot in reversed(self.slots[self._room :]):
                self._sent_back.appendleft(replace(slot.job, resume=slot.state()))
            del self.slots[self._room :]
            log.warning("The memory of the device does not hold so many concepts: %d at a time from here.", self._room)
        if self._shape:
            self._keeps_shape, self._shape = False, 0
            log.warning("The shape of the pack is not kept any more: its vectors are those of another rounding.")
        torch.cuda.empty_cache()

    def as_asked(self) -> None:
        """As many concepts at a time as asked for, in passes of their batch size, nothing computed twice."""
        self._room, self._at_once = self._asked, 0
        if self._model.recomputes:
            self._model.recompute(False)

    def _makes_passes_smaller(self, slot: Slot) -> bool:
        """Half as many samples in a pass, or less kept of one sample; whether either was possible."""
        if slot.samples > 1:
            self._at_once = slot.samples // 2
            log.warning(
                "The memory of the device does not hold so many samples: a step is done in more passes of fewer."
            )
        elif not self._model.recomputes:
            self._model.recompute(True)
            log.warning("The memory of the device does not hold one sample: its forward pass is kept in part (slower).")
        else:
            return False
        return True

    def _next(self) -> ConceptJob | None:
        return self._sent_back.popleft() if self._sent_back else next(self._rest, None)

    def _enter(self, job: ConceptJob) -> Slot | None:
        """Make the concept's slot; None where it has to wait for places in the kept shape. Raises InputError when it
        cannot be trained, or not in this pack."""
        slot = Slot(job, self._model, self._at_once)
        own = slot.samples
        if self.slots and slot.mean.shape[1:] != self.slots[0].mean.shape[1:]:
            first = self.slots[0].job.name
            raise InputError(f"{job.name} has another resolution than {first}: train them in two packs.")
        if self._keeps_shape:
            shape = self._shape or -(-self._asked * own // SHAPE_MULTIPLE) * SHAPE_MULTIPLE
            if own > shape:
                raise InputError(
                    f"{job.name} has more pictures per step than its pack, whose shape is to be kept, has places for."
                )
            if self._samples + own > shape:
                return None
            self._shape = shape
        return slot


def _too_large(job: ConceptJob) -> str:
    return (
        f"the memory of the device does not hold {job.name} alone, one sample at a time: lower the resolution "
        "(--resolution), or take a larger card."
    )
