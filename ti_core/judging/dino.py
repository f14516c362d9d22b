"""The second opinion on likeness: a vision transformer, pictures to unit features. It owns its resizing.

The feature is the last layer's class token, as in DreamBooth's DINO score (arXiv 2208.12242, section 4.2: ViT-S/16).
Same contract as `ti_core.judging.clip` for pictures; it reads no texts.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from ti_core.backbone.resident import Resident
from ti_core.errors import InputError
from ti_core.records import OpinionInfo

BATCH = 64


class Dino:
    """A loaded vision transformer, fp32."""

    def __init__(self, info: OpinionInfo, device: torch.device) -> None:
        self.device = device
        self.kept: dict[tuple[str, ...], NDArray[np.float32]] = {}
        """Features of reference pictures by their blobs: they serve every checkpoint of a concept."""
        try:
            self.processor = AutoImageProcessor.from_pretrained(info.folder)
            self.model = AutoModel.from_pretrained(info.folder, dtype=torch.float32).eval().to(device)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise InputError(
                f"The second opinion in {info.folder} does not load: {str(error).splitlines()[0]}"
            ) from None
        self.model.requires_grad_(False)

    @torch.no_grad()
    def image_features(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """[N, E], each row of length one."""
        parts = []
        for first in range(0, len(pictures), BATCH):
            batch = [picture.convert("RGB") for picture in pictures[first : first + BATCH]]
            seen = self.processor(images=batch, return_tensors="pt").to(self.device)
            token_NE = self.model(**seen).last_hidden_state[:, 0].float()
            parts.append(torch.nn.functional.normalize(token_NE, dim=-1).cpu().numpy())
        return np.concatenate(parts)


resident_dino: Resident[OpinionInfo, Dino] = Resident(Dino)
"""The second opinion of this process."""
