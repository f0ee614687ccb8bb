"""Balls in the 2-norm: perturbations of a batch, each of a shape of its own, kept inside."""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-30
"""Lengths below it have no direction."""


def lengths(perturbation: Tensor) -> Tensor:
    """2-norms of the rows of (B, *shape), with as many axes, so that they broadcast."""
    flat: Tensor = perturbation.flatten(1).norm(dim=1)
    return flat.reshape(-1, *(1,) * (perturbation.ndim - 1))


def dot(v: Tensor, w: Tensor) -> Tensor:
    """v·w, (B,)."""
    return (v * w).flatten(1).sum(1)


def project(perturbation: Tensor, radius: float | Tensor) -> Tensor:
    """The nearest points of the ball around 0: v · min(1, ρ/‖v‖)."""
    return perturbation * (radius / lengths(perturbation).clamp_min(_TINY)).clamp(max=1.0)


def slack(perturbation: Tensor, radius: float) -> Tensor:
    """½(ρ² − ‖v‖²), not below 0, (B,)."""
    return 0.5 * (radius**2 - lengths(perturbation).flatten().square()).clamp_min(0.0)


def directions(v: Tensor) -> Tensor:
    """v/‖v‖; 0 where v is."""
    return v / lengths(v).clamp_min(_TINY)


def random_directions(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Directions drawn uniformly from the unit sphere, typed, shaped and placed like ``like``."""
    device = like.device if generator is None else generator.device
    noise = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=device)
    return directions(noise.to(like.device))


def random_perturbations(like: Tensor, radius: float, generator: torch.Generator | None) -> Tensor:
    """Perturbations drawn uniformly from the ball of dimension D: ρ U^(1/D) times a direction."""
    inside = random_directions(like, generator)
    device = like.device if generator is None else generator.device
    u = torch.rand(len(like), generator=generator, dtype=like.dtype, device=device)
    fraction = u.to(like.device) ** (1.0 / max(like[0].numel() if len(like) else 1, 1))
    return inside * radius * fraction.reshape(-1, *(1,) * (like.ndim - 1))
