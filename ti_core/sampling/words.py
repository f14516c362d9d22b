"""Prompts with words in them, encoded: the one way for judging and for generating. No gradients."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ti_core.backbone.base import Backbone
from ti_core.backbone.conditioning import Conditioning
from ti_core.formats import Vectors


def encode(model: Backbone, prompts: Sequence[str], words: Mapping[str, Vectors]) -> Conditioning:
    """Encode prompts that may use any of `words` (placeholder → {encoder: [V, D]}). No gradients."""
    counts = {word: len(next(iter(vectors.values()))) for word, vectors in words.items()}
    tokens = model.tokens(prompts, counts)
    rows: dict[str, torch.Tensor] = {}
    for encoder in {name for vectors in words.values() for name in vectors}:
        table_VD = torch.from_numpy(np.concatenate([vectors[encoder] for vectors in words.values()]))
        rows[encoder] = table_VD.to(model.device).expand(len(prompts), -1, -1)
    model.residence.rest(["unet"])  # beside it the encoders may not fit; no picture is being made
    with torch.no_grad():
        return model.encode_prompts(tokens, rows)
