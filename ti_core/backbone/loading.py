"""Load the parts of a base model from a diffusers folder or a single file, each in a type chosen on purpose.

The libraries load weights in their stored type, and make up tensors that are missing, with a warning; here the type is
given and a hole is an error.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.utils import logging
from torch import nn
from transformers import CLIPTokenizer

from ti_core.backbone.checkpoint import configuration, is_file
from ti_core.backbone.supported import PIPELINES
from ti_core.backbone.text import TextEncoder
from ti_core.backbone.weights import weights_in
from ti_core.errors import InputError
from ti_core.records import BaseModelInfo


@dataclass(frozen=True)
class Parts:
    """Everything a base model consists of, on the CPU."""

    encoders: dict[str, TextEncoder]
    vae: Any
    unet: Any
    noise: DDPMScheduler
    index: dict[str, Any]
    """model_index.json, where pipelines keep settings of their own."""


def load_parts(
    info: BaseModelInfo, encoders: Mapping[str, tuple[str, str, Any]], dtype: torch.dtype, unet_dtype: torch.dtype
) -> Parts:
    """Load text encoders and VAE in `dtype`, the U-Net in `unet_dtype`. Raises InputError when a part does not load."""
    folder = configuration(info)
    try:
        parts = _from_file(info, folder, dtype, unet_dtype) if is_file(info) else {
            "vae": _part(AutoencoderKL, folder / "vae", torch_dtype=dtype),
            "unet": _part(UNet2DConditionModel, folder / "unet", torch_dtype=unet_dtype),
        } | {weights: _part(kind, folder / weights, dtype=dtype) for _, weights, kind in encoders.values()}  # fmt: skip
        return Parts(
            encoders={
                name: TextEncoder(CLIPTokenizer.from_pretrained(str(folder / tokenizer)), parts[weights])
                for name, (tokenizer, weights, _) in encoders.items()
            },
            vae=parts["vae"],
            unet=parts["unet"],
            noise=DDPMScheduler.from_pretrained(str(folder / "scheduler")),
            index=json.loads((folder / "model_index.json").read_text()),
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"The base model in {info.folder} does not load: {str(error).splitlines()[0]}") from None


def _part(kind: Any, folder: Path, **types: torch.dtype) -> Any:
    variant = weights_in(folder).variant or None
    part, loaded = kind.from_pretrained(
        str(folder), variant=variant, use_safetensors=True, output_loading_info=True, **types
    )
    if missing := sorted(loaded["missing_keys"]):
        raise _hole(folder, missing)
    return part


def _from_file(info: BaseModelInfo, folder: Path, dtype: torch.dtype, unet_dtype: torch.dtype) -> dict[str, nn.Module]:
    # It warns of a cast that it makes itself, and draws a bar for half a second.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    local = {"config": str(folder), "local_files_only": True}
    given: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
    for name, network, stored in (("vae", AutoencoderKL, dtype), ("unet", UNet2DConditionModel, unet_dtype)):
        try:
            given[name] = network.from_single_file(info.folder, subfolder=name, torch_dtype=stored, **local)
        except NotImplementedError:  # "Cannot copy out of meta tensor": where missing tensors were left
            raise _hole(Path(info.folder), [f"a part of the {name}"]) from None
    # Only a whole pipeline loads text encoders from a file; the parts it is given keep their types.
    pipeline = getattr(diffusers, next(name for name, kinds in PIPELINES.items() if info.kind in kinds))
    whole = pipeline.from_single_file(info.folder, torch_dtype=dtype, **given, **local)
    parts = {name: part for name, part in whole.components.items() if isinstance(part, nn.Module)}
    for name, part in parts.items():
        if missing := sorted(key for key, tensor in part.state_dict().items() if tensor.is_meta):
            raise _hole(Path(info.folder), [f"{name}.{key}" for key in missing])
    return parts


def _hole(place: Path, missing: list[str]) -> InputError:
    return InputError(f"{place} holds no weights for {missing[0]} ({len(missing)} missing): copy it again.")
