"""Stable Diffusion XL (arXiv 2307.01952): two text encoders, the second one's pooled state, and the picture's size.

Every text encoder has its own tokenizer and its own vectors of a word; the hidden states of their second-to-last layers
stand side by side, without a final layer norm. The U-Net is also told the size of the picture before it was scaled, the
corner of its crop and the size it has now. Crops are told as (0, 0), which the paper found to give centred things.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from ti_core.backbone.base import Backbone
from ti_core.backbone.conditioning import Conditioning

FIRST, SECOND = "clip_l", "clip_g"
"""Names of CLIP ViT-L/14 and OpenCLIP ViT-bigG/14, as exported files call them."""


class StableDiffusionXL(Backbone):
    """The base model; the refiner is another network and not supported."""

    ENCODERS: ClassVar = {
        FIRST: ("tokenizer", "text_encoder", CLIPTextModel),
        SECOND: ("tokenizer_2", "text_encoder_2", CLIPTextModelWithProjection),
    }
    HIDDEN_STATES = True

    def condition(self, outputs: Mapping[str, Any]) -> Conditioning:
        hidden_BLD = torch.cat([outputs[name].hidden_states[-2] for name in (FIRST, SECOND)], dim=-1)
        return Conditioning(hidden_BLD, outputs[SECOND].text_embeds)

    def unconditional(self) -> Conditioning:
        """Zeros, where the model's index says that an empty prompt is that (as the stock pipeline does)."""
        empty = super().unconditional()
        return empty.zeros() if self.index.get("force_zeros_for_empty_prompt", True) else empty

    def added(self, conditioning: Conditioning, height: int, width: int) -> dict[str, Tensor]:
        """The pooled state, and (original height, width, crop top, left, height, width) of each picture, fp32."""

        def column(value: int) -> Tensor:
            return torch.full((len(conditioning), 1), float(value), device=conditioning.hidden_BLD.device)

        target_B2 = torch.cat([column(height), column(width)], dim=1)
        original_B2 = target_B2 if conditioning.original_B2 is None else conditioning.original_B2.to(target_B2)
        assert conditioning.pooled_BD is not None  # noqa: S101  # for the type checker: `condition` always pools
        return {
            "text_embeds": conditioning.pooled_BD.to(self.unet_dtype),
            "time_ids": torch.cat([original_B2, torch.zeros_like(target_B2), target_B2], dim=1),
        }
