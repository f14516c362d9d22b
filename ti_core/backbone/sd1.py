"""Stable Diffusion 1.x, and the miniature, which is built like it: one CLIP text encoder, its last hidden states."""

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import CLIPTextModel

from ti_core.backbone.base import Backbone
from ti_core.backbone.conditioning import Conditioning

ENCODER = "clip_l"
"""Name of the one text encoder, CLIP ViT-L/14, as exported files call it."""


class StableDiffusion1(Backbone):
    """The U-Net reads the last hidden states, after the final layer norm. The pooled state goes unused."""

    ENCODERS: ClassVar = {ENCODER: ("tokenizer", "text_encoder", CLIPTextModel)}

    def condition(self, outputs: Mapping[str, Any]) -> Conditioning:
        (out,) = outputs.values()
        return Conditioning(out.last_hidden_state, out.pooler_output)
