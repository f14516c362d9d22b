"""Words' files of other programs: bytes of any known layout in, vectors by text encoder out.

    AUTOMATIC1111 .pt        {"string_to_param": {"*": [V, D]}, "step": …}
    diffusers .bin, .safetensors   {"<token>": [D] or [V, D]}
    kohya, AUTOMATIC1111     {"emb_params": [V, D]}
    OneTrainer               {"emp_params": [V, D]}
    ComfyUI                  {"clip_l" or "clip_h": [V, D]}
    all of them for SDXL     {"clip_l": [V, 768], "clip_g": [V, 1280]}

Pickled files are read with `weights_only=True` alone, so nothing in them runs. What is no word is called by name where
it can be told. This module knows no base model but by the widths it is given. Torch is imported when a file is read.
"""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ti_core.config import MOST_VECTORS
from ti_core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

MOST_BYTES = 16 * 2**20
"""Of a file. The largest word, 64 vectors of SDXL in double precision, has one."""
MOST_NORM = 1000.0
"""L2 norm of a vector. Trained ones grow up to a hundred times those of the vocabulary (arXiv 2512.13672)."""

_LAYOUTS = {
    "emb_params": "kohya or AUTOMATIC1111",
    "emp_params": "OneTrainer",
    "clip_l": "ComfyUI",
    "clip_h": "ComfyUI",
}
_TWO = {"clip_l", "clip_g"}
_WIDTHS = {(768,): "Stable Diffusion 1.x", (1024,): "Stable Diffusion 2.x", (768, 1280): "SDXL"}
_OTHERS = {
    ("lora_", "lora.", "hada_w", "lokr_", "dora_scale"): "a LoRA",
    ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner."): "a whole base model",
    ("decoder.", "encoder.down"): "a VAE",
    ("control_model.", "controlnet_"): "a ControlNet",
    ("layer_structure", "activation_func", "weight_initialization"): "a hypernetwork",
}
"""What stands in the names of other files' tensors, and what those are."""


class Word(NamedTuple):
    """What a file holds: vectors as [V, D] fp32 by text encoder, whose layout it is, and for how many steps it was
    trained, 0 where it does not say."""

    vectors: dict[str, NDArray[np.float32]]
    layout: str
    step: int


def read_word(data: bytes, source: str, widths: Mapping[str, int], base: str) -> Word:
    """Read a word's file for the base model called `base`, whose text encoders have these `widths`.

    Raises InputError, which names the `source`, for whatever is no word, is damaged, or is for another base model.
    """
    if len(data) > MOST_BYTES:
        kind = _other(_header(data)) or "something else: a LoRA, a hypernetwork, a base model"
        raise InputError(f"{source} has more than {MOST_BYTES >> 20} MB and is no word. It is {kind}.")
    tensors, layout, step = _taken_apart(data, source)
    rows = {name: _rows(tensor, source) for name, tensor in tensors.items()}
    found = tuple(one.shape[1] for one in rows.values())
    if len(rows) != len(widths) or found != tuple(widths.values()):
        made_for = f", as {_WIDTHS[found]} has" if found in _WIDTHS else ""
        raise InputError(
            f"{source} holds vectors of width {_listed(found)}{made_for}; {base} reads {_listed(widths.values())}: "
            "name the base model that the word was made for."
        )
    if len({len(one) for one in rows.values()}) != 1:
        raise InputError(f"{source} has different numbers of vectors for the two text encoders: it is damaged.")
    return Word(dict(zip(widths, rows.values(), strict=True)), layout, step)


def _taken_apart(data: bytes, source: str) -> tuple[dict[str, "Tensor"], str, int]:
    """The tensors of a word, the first text encoder's first; whose layout it is, and its step."""
    if data[8:9] == b"{":  # first of all: its first byte, a length, may be anything
        found, about = _of_safetensors(data, source)
    elif data[:2] == b"PK" or data[:1] == b"\x80":
        found, about = _unpickled(data, source), dict[str, str]()
    else:
        raise InputError(
            f"{source} is no word's file: it is neither a safetensors file nor one of PyTorch's. Words that were saved "
            "as pictures, and zip archives, are not read."
        )
    if not isinstance(found, Mapping):
        kind = "a lone tensor, as aesthetic gradients are" if _is_tensor(found) else f"a {type(found).__name__}"
        raise InputError(f"{source} is no word: it holds {kind}.")
    names = [str(name) for name in found]
    if "string_to_param" in names:
        held: Any = found["string_to_param"]
        inner = held if isinstance(held, Mapping) else getattr(held, "_parameters", {})
        return _only(inner, source), "AUTOMATIC1111", _number(found.get("step"))
    if any(isinstance(name, int) for name in found):
        raise InputError(f"{source} is no word. It is a hypernetwork.")
    if kind := _other(names):
        raise InputError(f"{source} is no word. It is {kind}.")
    step = _number(about.get("pseudoword.step") or about.get("ss_steps"))
    if set(names) == _TWO:
        return {name: found[name] for name in ("clip_l", "clip_g")}, "clip_l and clip_g", step
    return _only(found, source), _LAYOUTS.get(names[0], "diffusers") if names else "", step


def _only(tensors: Mapping[Any, Any], source: str) -> dict[str, "Tensor"]:
    if len(tensors) != 1:
        there = _listed(sorted(map(str, tensors))[:4]) + (", …" if len(tensors) > 4 else "")
        raise InputError(f"{source} is no file of one word: it holds {there or 'nothing'}.")
    return {str(name): tensor for name, tensor in tensors.items()}


def _rows(tensor: Any, source: str) -> NDArray[np.float32]:
    """[V, D] fp32. Nothing is computed before the shape is known: a tensor may claim more than its file has."""
    import torch

    if not _is_tensor(tensor) or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise InputError(f"{source} is no word: what it holds is no plain tensor.")
    shape = "×".join(map(str, tensor.shape))
    if not tensor.is_floating_point() or tensor.dim() not in (1, 2) or 0 in tensor.shape or tensor.shape[-1] > 2**16:
        raise InputError(f"{source} is no word: it holds {tensor.dtype} [{shape}], not one or more vectors.")
    if tensor.dim() == 2 and len(tensor) > MOST_VECTORS:
        raise InputError(f"{source} has {len(tensor)} vectors [{shape}]; a word has at most {MOST_VECTORS}.")
    rows_VD = tensor.detach().float().reshape(-1, tensor.shape[-1])
    norms_V = rows_VD.norm(dim=-1)
    if not torch.isfinite(norms_V).all():
        raise InputError(f"{source} is damaged: its vectors are not finite.")
    if norms_V.min() == 0 or norms_V.max() > MOST_NORM:
        raise InputError(
            f"{source} is no usable word: its vectors have norms from {norms_V.min():.3g} to {norms_V.max():.3g}; "
            f"those of words lie above 0 and below {MOST_NORM:g}."
        )
    return np.array(rows_VD.numpy(), np.float32)


def _unpickled(data: bytes, source: str) -> Any:
    """What `torch.load(weights_only=True)` reads; the first words there were have theirs in a ParameterDict."""
    import torch

    try:
        if data[:2] == b"PK" and _unpacked(data) > MOST_BYTES:
            raise InputError(f"{source} unpacks to more than {MOST_BYTES >> 20} MB and is no word.")
        with torch.serialization.safe_globals([torch.nn.ParameterDict]):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "global" in str(error).lower():
            raise InputError(
                f"{source} holds pickled objects other than tensors. They are not read, since they could run anything "
                "on this machine: save the word as safetensors where it comes from."
            ) from None
        raise InputError(f"{source} is damaged, or no file of PyTorch's.") from None
    except _DAMAGE:
        raise InputError(f"{source} is damaged, cut off, or no file of PyTorch's.") from None


_DAMAGE = (
    RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, AssertionError, OverflowError,
    MemoryError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
"""What torch raises on damaged bytes, beside pickle's own."""


def _unpacked(data: bytes) -> int:
    return sum(one.file_size for one in zipfile.ZipFile(io.BytesIO(data)).infolist())


def _of_safetensors(data: bytes, source: str) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, Tensor] = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{source} is damaged or cut off: {error}.") from None
    return tensors, _metadata(data)


def _metadata(data: bytes) -> dict[str, str]:
    return dict(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {}))


def _header(data: bytes) -> list[str]:
    """The tensors' names of a file of which only the beginning is there; none where it is no safetensors file."""
    try:
        return list(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]))
    except (ValueError, TypeError, RecursionError):
        return []


def _other(names: list[str]) -> str:
    """What a file with these names in it is, if it is known to be no word."""
    if len(names) == 1 and names[0].startswith("<"):  # diffusers calls the tensor by the word, which may be <flora_1>
        return ""
    return next((kind for signs, kind in _OTHERS.items() if any(sign in name for name in names for sign in signs)), "")


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _number(value: object) -> int:
    try:
        return max(0, int(str(value)))
    except ValueError:
        return 0


def _listed(values: Any) -> str:
    return " and ".join(map(str, values))
