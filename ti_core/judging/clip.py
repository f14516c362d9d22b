"""The judge: one CLIP of open_clip, pictures and texts to unit features. It owns its resizing; it knows no protocol.

Shapes: N pictures of any size, M texts, E embedding width.
"""

from collections.abc import Sequence

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image

from ti_core.backbone.resident import Resident
from ti_core.errors import InputError
from ti_core.records import JudgeInfo

BATCH = 64


class Clip:
    """A loaded CLIP, fp32."""

    def __init__(self, info: JudgeInfo, device: torch.device) -> None:
        self.device = device
        self.kept: dict[tuple[str, ...], NDArray[np.float32]] = {}
        """Features of reference pictures by their blobs: they serve every checkpoint of a concept."""
        self.named: dict[tuple[str, ...], NDArray[np.float32]] = {}
        """Features of lists of texts, of nouns: they serve every concept."""
        local = info.location.startswith("local-dir:")
        name, pretrained = (info.location, None) if local else info.location.split("/", 1)
        try:
            model, _, transform = open_clip.create_model_and_transforms(name, pretrained=pretrained, device=device)
            self.tokenizer = open_clip.get_tokenizer(name)
        except (RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"The judge {info.name} does not load: {str(error).splitlines()[0]} Name a folder in PSEUDOWORD_CLIP "
                "where the hub cannot be reached."
            ) from None
        self.model, self.transform = model.eval().requires_grad_(False), transform

    @torch.no_grad()
    def image_features(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """[N, E], each row of length one."""
        parts = []
        for first in range(0, len(pictures), BATCH):
            batch = torch.stack([self.transform(picture) for picture in pictures[first : first + BATCH]])
            parts.append(self.model.encode_image(batch.to(self.device), normalize=True).float().cpu().numpy())
        return np.concatenate(parts)

    def features_of_list(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        """`text_features` of a list that comes again, computed once."""
        if texts not in self.named:
            parts = [self.text_features(texts[first : first + BATCH]) for first in range(0, len(texts), BATCH)]
            self.named[texts] = np.concatenate(parts)
        return self.named[texts]

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[M, E], each row of length one."""
        tokens = self.tokenizer(list(texts)).to(self.device)
        features: NDArray[np.float32] = self.model.encode_text(tokens, normalize=True).float().cpu().numpy()
        return features


resident_clip: Resident[JudgeInfo, Clip] = Resident(Clip)
"""The judge of this process."""
