"""What goes into a backbone's text encoders and what comes out: batches that are cut, repeated and joined by prompt.

Callers move whole prompts around and never look inside, so that a kind with more encoders or more conditions changes
nothing for them. This module knows no networks.

Shapes: B prompts, L tokens, D width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

Rows = Tensor | slice
"""Which prompts: a slice, or an index tensor [n] on the CPU or on the batch's device."""


@dataclass(frozen=True)
class Tokens:
    """B tokenised prompts, by encoder. `ids_BL` int64; `slots_BL` is −1, or the row of the prompt's vectors that
    stands there."""

    ids_BL: Mapping[str, Tensor]
    slots_BL: Mapping[str, Tensor]

    def take(self, rows: Rows) -> Self:
        """The prompts `rows`, in that order."""
        return replace(
            self,
            ids_BL={name: ids[rows] for name, ids in self.ids_BL.items()},
            slots_BL={name: slots[rows] for name, slots in self.slots_BL.items()},
        )

    @classmethod
    def cat(cls, batches: Sequence[Self]) -> Self:
        """All prompts of `batches`, one after another."""
        names = batches[0].ids_BL
        return cls(
            ids_BL={name: torch.cat([batch.ids_BL[name] for batch in batches]) for name in names},
            slots_BL={name: torch.cat([batch.slots_BL[name] for batch in batches]) for name in names},
        )


@dataclass(frozen=True)
class Conditioning:
    """What the U-Net is told of B prompts."""

    hidden_BLD: Tensor
    """Hidden states of all text encoders, side by side."""
    pooled_BD: Tensor | None = None
    """The text as one vector, from the encoder that the kind pools."""
    original_B2: Tensor | None = None
    """Height and width in pixels of each training picture before it was scaled; None stands for the latents' own size.
    SDXL alone reads it (arXiv 2307.01952, section 2.2)."""

    def __len__(self) -> int:
        return len(self.hidden_BLD)

    def take(self, rows: Rows) -> Self:
        """The conditions of the prompts `rows`, in that order."""
        return self._each(lambda tensor: tensor[rows])

    def repeat_interleave(self, count: int) -> Self:
        """Each prompt `count` times in a row: 0 0 1 1 2 2 …"""
        return self._each(lambda tensor: tensor.repeat_interleave(count, 0))

    def zeros(self) -> Self:
        """Zeros of the same shapes: no text at all."""
        return self._each(torch.zeros_like)

    @classmethod
    def cat(cls, batches: Sequence[Self]) -> Self:
        """All conditions of `batches`, one after another. A field must be there in all of them or in none."""

        def joined(name: str) -> Tensor | None:
            parts = [getattr(batch, name) for batch in batches]
            return None if all(part is None for part in parts) else torch.cat(parts)

        joint = {field.name: joined(field.name) for field in fields(cls)}
        return cls(**joint)  # type: ignore[arg-type]  # None only where the field itself may be

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        there = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(tensor) for name, tensor in there.items() if tensor is not None})
