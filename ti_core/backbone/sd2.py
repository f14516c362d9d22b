"""Stable Diffusion 2.x: one OpenCLIP text encoder; noise or v prediction as its scheduler says; 512 or 768 pixels.

The network reads the second-to-last layer of OpenCLIP ViT-H/14 through the final layer norm. Folders of diffusers hold
the encoder without its last layer (23 of 24), so that the last hidden states are those; single files are cut the same
way as they load. What differs otherwise (prediction type, upcast attention, padding with `!`) is configuration.
"""

from typing import ClassVar

from transformers import CLIPTextModel

from ti_core.backbone.sd1 import StableDiffusion1

ENCODER = "clip_h"
"""Name of the one text encoder, OpenCLIP ViT-H/14, in checkpoints. Published files of one encoder name none."""


class StableDiffusion2(StableDiffusion1):
    """As Stable Diffusion 1.x, with another text encoder."""

    ENCODERS: ClassVar = {ENCODER: ("tokenizer", "text_encoder", CLIPTextModel)}
