"""The one owner of the loaded base model of a process: loading takes seconds and memory, so it happens once.

A process that turns to another base model lets go of the first. Device choice lives here too.
"""

import threading

import torch

from ti_core.backbone.stable_diffusion import StableDiffusion
from ti_core.errors import InputError
from ti_core.records import BaseModelInfo

_lock = threading.Lock()
_loaded: dict[tuple[str, str], StableDiffusion] = {}


def choose_device(wish: str) -> torch.device:
    """The torch device for a setting; "" takes CUDA where there is one. Raises InputError for one that is not there."""
    if not wish:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=wish)
        return torch.device(wish)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"PSEUDOWORD_DEVICE is {wish!r}: {str(error).splitlines()[0]}") from None


def resident(info: BaseModelInfo, device: str) -> StableDiffusion:
    """The loaded base model, from memory if the digest is there already. Raises InputError if it does not load."""
    with _lock:
        place = choose_device(device)
        key = (info.digest, str(place))
        if key not in _loaded:
            _loaded.clear()
            _loaded[key] = StableDiffusion(info, place)
        return _loaded[key]
