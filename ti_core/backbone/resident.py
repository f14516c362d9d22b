"""Load a base model of any kind, and the one owner of the loaded one: loading takes seconds and memory.

A process that turns to another base model lets go of the first. Device choice lives here too.
"""

import threading

import torch

from ti_core.backbone.base import Backbone
from ti_core.backbone.sd1 import StableDiffusion1
from ti_core.config import BackboneKind
from ti_core.errors import InputError
from ti_core.records import BaseModelInfo

KINDS: dict[BackboneKind, type[Backbone]] = {"miniature": StableDiffusion1, "sd1": StableDiffusion1}

_lock = threading.Lock()
_loaded: dict[tuple[str, str], Backbone] = {}


def choose_device(wish: str) -> torch.device:
    """The torch device for a setting; "" takes CUDA where there is one. Raises InputError for one that is not there."""
    if not wish:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=wish)
        return torch.device(wish)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"PSEUDOWORD_DEVICE is {wish!r}: {str(error).splitlines()[0]}") from None


def load(info: BaseModelInfo, device: torch.device, dtype: torch.dtype | None = None) -> Backbone:
    """Load a base model anew; `dtype` overrides the type of every part. Raises InputError if it does not load."""
    return KINDS[info.kind](info, device, dtype)


def resident(info: BaseModelInfo, device: str) -> Backbone:
    """The loaded base model, from memory if the digest is there already. Raises InputError if it does not load."""
    with _lock:
        place = choose_device(device)
        key = (info.digest, str(place))
        if key not in _loaded:
            _loaded.clear()
            _loaded[key] = load(info, place)
        return _loaded[key]
