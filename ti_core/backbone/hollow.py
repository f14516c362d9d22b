"""A base model without its weights: the same parts on the meta device, from configurations alone, to be counted.

Everything but numbers is there: shapes, types, the operations of a pass. Nothing of the weights is read.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTokenizer

from ti_core.backbone.checkpoint import configuration
from ti_core.backbone.loading import Parts
from ti_core.backbone.text import TextEncoder
from ti_core.records import BaseModelInfo


def empty_parts(
    info: BaseModelInfo, encoders: Mapping[str, tuple[str, str, Any]], dtype: torch.dtype, unet_dtype: torch.dtype
) -> Parts:
    """What `load_parts` gives, on the meta device."""
    folder = configuration(info)
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(str(folder / "vae")))
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(str(folder / "unet")))
        texts = {
            name: kind(kind.config_class.from_pretrained(str(folder / weights)))
            for name, (_, weights, kind) in encoders.items()
        }
    for part, stored in ((vae, dtype), (unet, unet_dtype), *((text, dtype) for text in texts.values())):
        for parameter in part.parameters():
            parameter.data = parameter.data.to(stored)
    return Parts(
        encoders={
            name: TextEncoder(CLIPTokenizer.from_pretrained(str(folder / encoders[name][0])), text)
            for name, text in texts.items()
        },
        vae=vae,
        unet=unet,
        noise=DDPMScheduler.from_pretrained(str(folder / "scheduler")),
        index=json.loads((folder / "model_index.json").read_text()),
    )
