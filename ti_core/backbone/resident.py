"""Load a base model of any kind, and the one owner of each loaded model: loading takes seconds and memory.

Base model and judges are lent, `with resident(…) as model`, to one thread at a time: they are not made for two
(sampling sets hooks and patches layers while it works), and two would not be faster on one device. A process that turns
to another base model or judge lets go of the first. Device choice lives here too.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

import torch

from ti_core.backbone.base import Backbone, number_type
from ti_core.backbone.blocks import keep_blocks
from ti_core.backbone.sd1 import StableDiffusion1
from ti_core.backbone.sd2 import StableDiffusion2
from ti_core.backbone.sdxl import StableDiffusionXL
from ti_core.config import BackboneKind, Precision
from ti_core.errors import InputError
from ti_core.records import BaseModelInfo

KINDS: dict[BackboneKind, type[Backbone]] = {
    "miniature": StableDiffusion1,
    "sd1": StableDiffusion1,
    "sd2": StableDiffusion2,
    "sdxl": StableDiffusionXL,
}
"""A further kind is one file, a line here, and its signs in `folder` and `checkpoint`."""

_one_thread = threading.RLock()
"""Held while any resident is lent. One for all of them, or two threads could each hold what the other waits for."""


class Weights(Protocol):
    """What names a model: its record of weights found on disk."""

    @property
    def digest(self) -> str:
        """Covers every file of it that is used."""


Info = TypeVar("Info", bound=Weights)
Model = TypeVar("Model")


class Resident(Generic[Info, Model]):
    """The one loaded model of its kind (base model, CLIP, DINO) in this process; `load` loads it anew."""

    def __init__(self, load: Callable[..., Model]) -> None:
        self._load = load
        self._loaded: dict[tuple[object, ...], Model] = {}

    @contextmanager
    def __call__(self, info: Info, device: str, **how: str) -> Iterator[Model]:
        """Lend the model to this thread for the body of the `with`, from memory if its digest is there already; other
        threads wait. A thread that has one resident may ask for more. `device` is the settings'; `how` is what else
        `load` is told, such as the base model's precision. Raises InputError if it does not load."""
        with _one_thread:
            place = choose_device(device)
            key = (info.digest, str(place), *sorted(how.items()))
            if key not in self._loaded:
                if place.type == "cpu":
                    keep_blocks()
                self._loaded.clear()
                self._loaded[key] = self._load(info, place, **how)
            yield self._loaded[key]


def choose_device(wish: str) -> torch.device:
    """The torch device for a setting; "" takes CUDA where there is one, else Apple's MPS, else the CPU. Raises
    InputError for one that is not there."""
    if not wish:
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        return torch.device(next(name for name, is_there in there.items() if is_there))
    try:
        torch.empty(0, device=wish)
        return torch.device(wish)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"PSEUDOWORD_DEVICE is {wish!r}: {str(error).splitlines()[0]}") from None


def place_of_work(device: str, precision: Precision = "") -> tuple[str, str]:
    """Where settings let this process work, for records: the device (`cpu`, or `cuda` with the card's name) and the
    U-Net's number type. Loads nothing. Raises InputError for a device that is not there."""
    place = choose_device(device)
    name = f"{place.type} ({torch.cuda.get_device_name(place)})" if place.type == "cuda" else place.type
    return name, str(number_type(place, precision)).removeprefix("torch.")


def load(
    info: BaseModelInfo, device: torch.device, dtype: torch.dtype | None = None, precision: Precision = ""
) -> Backbone:
    """Load a base model anew; `precision` is the U-Net's type, `dtype` overrides that of every part. Raises InputError
    if it does not load."""
    return KINDS[info.kind](info, device, dtype, precision)


resident: Resident[BaseModelInfo, Backbone] = Resident(load)
"""The base model of this process."""
