"""The nearest adversarial point that gradient descent finds: no certificate can exceed it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points (P, D) ↦ f (P,) and ∇f (P, D)."""


def pgd_distance(
    function: Function, x0: Tensor, *, steps: int = 200, polish: int = 20, starts: int = 2
) -> Tensor:
    """Distance of the nearest visited point with f ≤ 0, shape (P,).

    Projected gradient descent whose ball shrinks by a few per cent whenever the last point is
    adversarial and grows otherwise (Rony et al., CVPR 2019), from x₀ and from random points; then
    steps to the nearest zero of the linearisation from the nearest point found.
    """
    generator = torch.Generator().manual_seed(0)
    f, g = function(x0)
    first = (f / g.norm(dim=1).clamp(min=1e-12))[:, None]
    best = torch.full_like(f, torch.inf)
    point = torch.zeros_like(x0)
    for start in range(starts):
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        v = noise / noise.norm(dim=1, keepdim=True) * first * float(start > 0)
        radius = first.clone()
        for step in range(steps):
            f, g = function(x0 + v)
            best, point = _nearer(f, v, best, point)
            share = 0.5 * (1.0 + torch.cos(torch.tensor(torch.pi * step / steps)))
            rate = 0.2 * float(share) + 1e-3
            radius = torch.where(
                f[:, None] <= 0.0,
                torch.minimum(radius, v.norm(dim=1)[:, None]) * (1.0 - 0.25 * rate),
                radius * (1.0 + 0.25 * rate),
            )
            v = v - 5.0 * rate * radius * g / g.norm(dim=1, keepdim=True).clamp(min=1e-12)
            v = v / v.norm(dim=1, keepdim=True).clamp(min=1e-12) * radius
    v = point
    for _ in range(polish):
        f, g = function(x0 + v)
        best, point = _nearer(f, v, best, point)
        eta = (f - (g * v).sum(1)) / (g * g).sum(1)
        v = -(1.0 + 1e-5) * eta[:, None] * g
    return best


def _nearer(f: Tensor, v: Tensor, best: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    length = v.norm(dim=1)
    nearer = (f <= 0.0) & (length < best)
    return torch.where(nearer, length, best), torch.where(nearer[:, None], v, point)
