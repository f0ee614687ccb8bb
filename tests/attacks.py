"""Attacks that certificates must survive: strong, in float64, on every target."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Logits = Callable[[Tensor], Tensor]


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """z_y − max over t ≠ y of z_t."""
    others = logits.scatter(1, y[:, None], -torch.inf)
    return logits.gather(1, y[:, None])[:, 0] - others.amax(1)


def least_margin(
    logits: Logits, x: Tensor, y: Tensor, radius: Tensor, *, starts: int = 12, steps: int = 40
) -> Tensor:
    """The smallest margin that projected gradient descent finds in each ball, all targets at once.

    Starts: the centre, random directions on the sphere, and (after the first step) the steepest
    descent. Steps shrink from the radius to a hundredth of it, ascending no margin but the least.
    """
    generator = torch.Generator().manual_seed(0)
    best = margin(logits(x), y)
    shape = x.shape
    center = x.flatten(1)
    limit = torch.nan_to_num(radius, posinf=1e3)[:, None] * (1.0 - 1e-9)
    for start in range(starts):
        w = torch.randn(center.shape, generator=generator, dtype=x.dtype)
        w = w / w.norm(dim=1, keepdim=True) * limit * (0.0 if start == 0 else 1.0)
        for step in range(steps):
            point = (center + w).detach().requires_grad_()
            value = margin(logits(point.reshape(shape)), y)
            (gradient,) = torch.autograd.grad(value.sum(), point)
            best = torch.minimum(best, value.detach())
            size = gradient.norm(dim=1, keepdim=True).clamp_min(1e-300)
            w = w - limit * 2.0 * 0.005 ** (step / steps) * gradient / size
            length = w.norm(dim=1, keepdim=True).clamp_min(1e-300)
            w = w * (limit / length).clamp_max(1.0)
        best = torch.minimum(best, margin(logits((center + w).reshape(shape)), y).detach())
    return best


def least_margin_on_grid(
    logits: Logits, x: Tensor, y: Tensor, radius: Tensor, *, rings: int = 60, rays: int = 180
) -> Tensor:
    """The smallest margin on a dense polar grid of each ball in two dimensions."""
    angle = torch.linspace(0.0, 2.0 * torch.pi, rays + 1, dtype=x.dtype)[:-1]
    direction = torch.stack([angle.cos(), angle.sin()], 1)
    fraction = torch.linspace(0.0, 1.0 - 1e-9, rings, dtype=x.dtype)
    unit = (fraction[:, None, None] * direction).reshape(-1, 2)
    least = []
    for center, label, r in zip(x, y, torch.nan_to_num(radius, posinf=1e3), strict=True):
        points = center + r * unit
        least.append(margin(logits(points), label.expand(len(points))).min())
    return torch.stack(least)


def slope(gradient: Tensor, norm: str) -> Tensor:
    """The steepest descent of length 1."""
    if norm == "linf":
        return -gradient.sign()
    if norm == "l2":
        return -gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-300)
    largest = gradient.abs().argmax(1, keepdim=True)
    return torch.zeros_like(gradient).scatter(1, largest, -gradient.gather(1, largest).sign())
