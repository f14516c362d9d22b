"""Norm control: what the sphere and the clamp do to rows and gradients, by their definitions."""

import torch

from ti_core.training.norms import clamp_, to_sphere_, to_tangent_


def rows(seed: int = 0) -> torch.Tensor:
    return torch.randn((4, 16), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_clamp_shortens_long_rows_and_leaves_short_ones() -> None:
    before = rows() * torch.tensor([[0.1], [0.2], [5.0], [9.0]], dtype=torch.float64)
    after = before.clone()
    clamp_(after, 1.0)
    assert torch.equal(after[:2], before[:2])
    torch.testing.assert_close(after[2:], torch.nn.functional.normalize(before[2:], dim=-1))


def test_retraction_keeps_the_direction_and_sets_the_norm() -> None:
    before, after = rows(), rows()
    to_sphere_(after, 0.4)
    torch.testing.assert_close(after.norm(dim=-1), torch.full((4,), 0.4, dtype=torch.float64))
    torch.testing.assert_close(torch.cosine_similarity(before, after), torch.ones(4, dtype=torch.float64))


def test_the_tangent_gradient_is_the_gradient_on_the_sphere() -> None:
    """For f(x) = a·x/‖x‖ the Riemannian gradient at a point of the unit sphere is autograd's own."""
    point, a = torch.nn.functional.normalize(rows(), dim=-1), rows(1)
    free = point.clone().requires_grad_(True)
    (torch.nn.functional.normalize(free, dim=-1) * a).sum().backward()
    projected = a.clone()
    to_tangent_(projected, point)
    torch.testing.assert_close(projected, free.grad)
    assert (projected * point).sum(dim=-1).abs().max() < 1e-12
