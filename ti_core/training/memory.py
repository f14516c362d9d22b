"""How many concepts fit into memory at the same time.

Almost all memory of a step is what autograd keeps of the forward pass for the backward pass; it grows with the number
of samples and can be counted in one pass of a single concept, on any device. This module trains nothing.
"""

from pathlib import Path

import psutil
import torch
from torch import Tensor

from ti_core.backbone.base import Backbone
from ti_core.backbone.room import naming_spent_memory
from ti_core.training.events import ConceptJob
from ti_core.training.pack import losses_of
from ti_core.training.slot import Slot

HEADROOM = 1.6
"""Memory of a step over what autograd keeps of it: the kernels' working space, gradients in flight, fragments."""
USED = 0.9
"""Part of the free memory that is taken."""


def fitting_slots(job: ConceptJob, model: Backbone) -> int:
    """Return how many concepts like `job` the free memory of the model's device holds at a time, at least 1: also where
    it does not even hold the looking, which ends nothing.

    Raises InputError when the concept cannot be trained on this model.
    """
    try:
        with naming_spent_memory():
            kept = kept_bytes(Slot(job, model))
    except torch.OutOfMemoryError:
        kept = 0
    if not kept:  # not in the handler: there the error still holds what the pass had computed
        torch.cuda.empty_cache()
        return 1
    return max(1, int(USED * free_bytes(model.device) / (HEADROOM * kept)))


def kept_bytes(slot: Slot) -> int:
    """Bytes that autograd keeps of one pass of the slot alone; weights and each storage count once."""
    weights = {
        tensor.untyped_storage().data_ptr() for part in slot.model.parts.values() for tensor in part.parameters()
    }
    kept: dict[int, int] = {}
    alive = list[Tensor]()  # or a later tensor could take an earlier one's address

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses_of([slot], [slot.draws()], slot.model)
    return sum(kept.values())


def free_bytes(device: torch.device) -> int:
    """Free memory of the device; for the CPU no more than the control group (a container's limit) leaves."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and (text := limit.read_text().strip()) != "max":
        free = min(free, int(text) - int(used.read_text()))
    return int(free)
