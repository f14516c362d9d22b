"""What a model does where its device is small: parts that are idle wait on the CPU, and the VAE works in tiles.

It knows modules and devices, and nothing of what they compute.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

SHORT = 0.5
"""A device is small for a model whose weights take more than this part of its memory: SDXL's 8.8 GB on less than 18."""
LEAST_TILE = 64
"""Pixels of a tile's side, at least."""
SPENT = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""How MPS, cuBLAS and cuDNN say that memory is spent, as a RuntimeError like any other."""

Made = TypeVar("Made")


class Residence:
    """Where the parts of a model are. On a small device those that `rest` are on the CPU until something needs them; on
    any other all are on the device."""

    def __init__(self, parts: Mapping[str, nn.Module], device: torch.device) -> None:
        self._parts, self._device = parts, device
        self.short = bytes_of(parts.values()) > SHORT * _memory(device)
        self._away = set(parts)
        if not self.short:
            self.need(parts)

    def need(self, names: Iterable[str]) -> None:
        """Have these parts on the device."""
        for name in self._away.intersection(names):
            self._parts[name].to(self._device)
            self._away.discard(name)

    def rest(self, names: Iterable[str]) -> None:
        """These parts are idle for a while."""
        if not self.short:
            return
        for name in set(names) - self._away:
            self._parts[name].to("cpu")
            self._away.add(name)
        torch.cuda.empty_cache()


def in_tiles_if_needed(vae: Any, work: Callable[[Tensor], Made], given: Tensor, side: int) -> Made:
    """`work(given)`, of pictures `side` pixels wide; in tiles of half that where the device's memory does not hold it,
    and from then on. Tiles overlap by a quarter and are blended (diffusers' own), which changes pictures a little.

    Raises torch.OutOfMemoryError where tiles do not help.
    """
    try:
        with naming_spent_memory():
            return work(given)
    except torch.OutOfMemoryError:
        if vae.use_tiling or side < 2 * LEAST_TILE:
            raise
    torch.cuda.empty_cache()
    log.warning(
        "The memory of the device does not hold the VAE's work on a whole picture: it works in tiles from here."
    )
    vae.enable_tiling()
    vae.tile_sample_min_size = side // 2
    vae.tile_latent_min_size = side // 2 ** len(vae.config.block_out_channels)
    with naming_spent_memory():
        return work(given)


@contextmanager
def naming_spent_memory() -> Iterator[None]:
    """Within it spent memory is torch.OutOfMemoryError, whoever says so."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or not any(sign in str(error) for sign in SPENT):
            raise
        raise torch.OutOfMemoryError(str(error)) from None


def bytes_of(parts: Iterable[nn.Module]) -> int:
    """Of all weights of these modules."""
    return sum(one.numel() * one.element_size() for part in parts for one in part.parameters())


def _memory(device: torch.device) -> float:
    """Bytes of a card; the CPU has no other place for idle parts."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else float("inf")
