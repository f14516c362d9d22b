"""What a base model needs of a device's memory, counted on the meta device: no weights are read, no card is needed.

A pass is run without numbers, and the bytes of all tensors that are alive are summed up after every operation; their
most is what an allocator without waste would need. Attention is counted as the fused kernels do it (of its scores only
one number a row is kept), which is what torch takes on CUDA from compute capability 5.0 on, and on a CPU. What kernels
need for themselves, fragments and the CUDA context come on top: `SLACK` and `CONTEXT`.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ti_core.backbone.base import Backbone
from ti_core.backbone.conditioning import Conditioning
from ti_core.backbone.room import bytes_of

SLACK = 1.15
"""Memory of a pass over what is counted."""
CONTEXT = 0.8e9
"""Bytes that CUDA's context and libraries take of a card before anything is computed."""


@dataclass(frozen=True)
class Weights:
    """Bytes of a model's parts."""

    texts: int
    vae: int
    unet: int

    @property
    def all(self) -> int:
        """Bytes of all of them."""
        return self.texts + self.vae + self.unet


def weights(model: Backbone) -> Weights:
    """Bytes of the weights of `model`, in the types that it has."""
    return Weights(
        bytes_of(encoder.module for encoder in model.encoders.values()), bytes_of([model.vae]), bytes_of([model.unet])
    )


def training_bytes(model: Backbone, resolution: int, samples: int = 1, recompute: bool = False) -> int:
    """Most bytes alive in a training pass of `samples` pictures of `resolution` pixels a side, over the weights.

    `model` must be on the meta device. `recompute` is gradient checkpointing (`Backbone.recompute`).
    """
    model.recompute(recompute)
    try:
        with _Alive(model.parts.values()) as alive, _fused_attention():
            told = _prompts(model, samples)
            noise_BChw = torch.zeros((samples, *model.latent_shape(resolution)), device="meta")
            noisy_BChw = noise_BChw + 1
            predicted_BChw = model.denoise(noisy_BChw, _timesteps(samples), told)
            (predicted_BChw - noise_BChw).square().mean().backward()
        return alive.most
    finally:
        model.recompute(False)


def sampling_bytes(model: Backbone, resolution: int, pictures: int = 1) -> int:
    """Most bytes alive while the U-Net makes `pictures` pictures with guidance, over the weights."""
    with torch.no_grad(), _Alive(model.parts.values()) as alive, _fused_attention():
        told = _prompts(model, 2 * pictures)
        latents_BChw = torch.zeros((2 * pictures, *model.latent_shape(resolution)), device="meta")
        model.denoise(latents_BChw, _timesteps(2 * pictures), told)
    return alive.most


def encoding_bytes(model: Backbone, resolution: int) -> int:
    """Most bytes alive while the VAE encodes a picture, over the weights."""
    return _of_vae(model, lambda: model.vae.encode(torch.zeros((1, 3, resolution, resolution), device="meta")))


def decoding_bytes(model: Backbone, resolution: int) -> int:
    """Most bytes alive while the VAE decodes a picture, over the weights."""
    return _of_vae(model, lambda: model.vae.decode(torch.zeros((1, *model.latent_shape(resolution)), device="meta")))


def _of_vae(model: Backbone, work: Callable[[], Any]) -> int:
    with torch.no_grad(), _Alive(model.parts.values()) as alive, _fused_attention():
        work()
    return alive.most


def _prompts(model: Backbone, count: int) -> Conditioning:
    """Prompts with a word of one vector, its rows as leaves: gradients reach them as they do in training."""
    rows = {
        name: torch.zeros((1, encoder.table_ND.shape[1]), device="meta", dtype=encoder.table_ND.dtype)
        for name, encoder in model.encoders.items()
    }
    leaves = {name: row.requires_grad_(torch.is_grad_enabled()) for name, row in rows.items()}
    tokens = model.tokens(["a photo of a <word>"] * count, {"<word>": 1})
    return model.encode_prompts(tokens, {name: row.expand(count, 1, -1) for name, row in leaves.items()})


def _timesteps(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.long, device="meta")


class _Alive(TorchDispatchMode):
    """Counts the bytes of the storages that operations make and that are alive; `most` is their most at a time."""

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        super().__init__()
        self.most = self._now = 0
        kept = [tensor.untyped_storage() for part in parts for tensor in (*part.parameters(), *part.buffers())]
        self._weights = {id(storage): storage for storage in kept}
        self._seen = dict[int, weakref.ref[Any]]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(one, Tensor):
                self._see(one.untyped_storage())
        return made

    def _see(self, storage: Any) -> None:
        place, size = id(storage), storage.nbytes()
        if place in self._seen or place in self._weights:
            return

        def gone(_: object) -> None:
            self._now -= size
            del self._seen[place]

        self._seen[place] = weakref.ref(storage, gone)
        self._now += size
        self.most = max(self.most, self._now)


@contextmanager
def _fused_attention() -> Iterator[None]:
    """On the meta device torch would take attention apart and keep all its scores, which no card does."""
    # A mode of our own would be forgotten in a forward pass that autograd computes again.
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def attention(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **how: Any
    ) -> Any:
        return fused(query, key, value, 0.0, bool(how.get("is_causal")), attn_mask=attn_mask)[0]

    functional = torch.nn.functional
    stock = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = stock
