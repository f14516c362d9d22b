"""Control of the vectors' norm, which otherwise grows far beyond any word's and makes complex prompts fail.

`clamp` bounds the norm after every step. `direction` fixes it and learns only the direction, as Directional Textual
Inversion does (arXiv 2512.13672): the gradient is projected onto the tangent space of the sphere and the step is
retracted onto it. The paper takes plain gradient steps there and adds a prior on the direction; here Adam takes the
steps, and there is no prior. This module knows no training loop.

Shapes: rows and gradients [V, D]; norms are per row.
"""

from torch import Tensor

_TINY = 1e-12


def clamp_(rows_VD: Tensor, limit: float) -> None:
    """Scale rows that are longer than `limit` back to it, in place."""
    norm_V1 = rows_VD.norm(dim=-1, keepdim=True)
    rows_VD.mul_((limit / norm_V1.clamp(min=_TINY)).clamp(max=1.0))


def to_sphere_(rows_VD: Tensor, radius: float) -> None:
    """Scale every row to norm `radius`, in place (the retraction x ↦ r·x/‖x‖)."""
    rows_VD.mul_(radius / rows_VD.norm(dim=-1, keepdim=True).clamp(min=_TINY))


def to_tangent_(gradient_VD: Tensor, rows_VD: Tensor) -> None:
    """Remove from each gradient its part along its row, in place: g − (g·v)v with v = x/‖x‖."""
    unit_VD = rows_VD / rows_VD.norm(dim=-1, keepdim=True).clamp(min=_TINY)
    gradient_VD.sub_((gradient_VD * unit_VD).sum(dim=-1, keepdim=True) * unit_VD)
