"""The nearest adversarial point that gradient descent finds: no certificate can exceed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Function = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points (P, D) ↦ f (P,) and ∇f (P, D)."""


def pgd_distance(
    function: Function, x0: Tensor, *, steps: int = 200, polish: int = 20, starts: int = 2
) -> Tensor:
    """Distance of the nearest visited point with f ≤ 0, shape (P,)."""
    return pgd_step(function, x0, steps=steps, polish=polish, starts=starts)[0]


def pgd_step(
    function: Function,
    x0: Tensor,
    *,
    steps: int = 200,
    polish: int = 20,
    starts: int = 2,
    beyond: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor]:
    """The nearest visited point with f ≤ 0: its distance (P,) and its step from x₀ (P, D).

    Projected gradient descent whose ball shrinks by a few per cent whenever the last point is
    adversarial and grows otherwise (Rony et al., CVPR 2019), from x₀, from random points and from
    the points x₀ + v of ``beyond``; then steps to the nearest zero of the linearisation from the
    nearest point found.
    """
    generator = torch.Generator().manual_seed(0)
    f, g = function(x0)
    first = (f / g.norm(dim=1).clamp(min=1e-12))[:, None]
    found = (torch.full_like(f, torch.inf), torch.zeros_like(x0))
    for start in range(starts):
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        v = noise / noise.norm(dim=1, keepdim=True) * first * float(start > 0)
        found = _descent(function, x0, v, first.clone(), steps, found)
    for v in beyond:
        found = _descent(function, x0, v, v.norm(dim=1, keepdim=True), steps, found)
    return polished(function, x0, found, polish)


def polished(
    function: Function, x0: Tensor, found: tuple[Tensor, Tensor], steps: int
) -> tuple[Tensor, Tensor]:
    """The nearest of a found point and of steps to the nearest zero of the linearisation."""
    v = found[1]
    for _ in range(steps):
        f, g = function(x0 + v)
        found = _nearer(f, v, *found)
        eta = (f - (g * v).sum(1)) / (g * g).sum(1)
        v = -(1.0 + 1e-5) * eta[:, None] * g
    return found


def _descent(
    function: Function,
    x0: Tensor,
    v: Tensor,
    radius: Tensor,
    steps: int,
    found: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """One descent from x₀ + v with balls that begin at ``radius`` (P, 1)."""
    for step in range(steps):
        f, g = function(x0 + v)
        found = _nearer(f, v, *found)
        share = 0.5 * (1.0 + torch.cos(torch.tensor(torch.pi * step / steps)))
        rate = 0.2 * float(share) + 1e-3
        radius = torch.where(
            f[:, None] <= 0.0,
            torch.minimum(radius, v.norm(dim=1)[:, None]) * (1.0 - 0.25 * rate),
            radius * (1.0 + 0.25 * rate),
        )
        v = v - 5.0 * rate * radius * g / g.norm(dim=1, keepdim=True).clamp(min=1e-12)
        v = v / v.norm(dim=1, keepdim=True).clamp(min=1e-12) * radius
    return found


def _nearer(f: Tensor, v: Tensor, best: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    length = v.norm(dim=1)
    nearer = (f <= 0.0) & (length < best)
    return torch.where(nearer, length, best), torch.where(nearer[:, None], v, point)
