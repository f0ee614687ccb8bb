"""The l∞ ball, max |yᵢ| ≤ r: a box."""

from __future__ import annotations

import torch
from torch import Tensor

from .ball_kind import BallKind
from .rounding import sum_up


class Linf(BallKind):
    """Balls of ‖y‖_∞; the box carries all of a linear function, so no multiplier is needed."""

    name = "linf"
    aliases = ("inf", "∞")
    symmetric = True
    is_box = True

    def norm(self, y: Tensor) -> Tensor:
        """max |yᵢ|, exactly."""
        return y.abs().amax(-1)

    def dual_norm(self, g: Tensor) -> Tensor:
        """Σ |gᵢ|, rounded up."""
        return sum_up(g.abs())

    def shrink(
        self, g: Tensor, rho: Tensor, multiplier: Tensor, lower: Tensor, upper: Tensor
    ) -> Tensor:
        """−g / ρ, clipped to the box, which lies in the ball already."""
        return torch.clamp(torch.where(g == 0.0, 0.0, -g / rho), lower, upper)

    def share(self, g: Tensor, y: Tensor, multiplier: Tensor) -> Tensor:
        """Zero: the box holds all of the ball."""
        return torch.zeros_like(g)

    def multiplier_scale(self, g: Tensor, radius: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(radius)

    def steepest(self, g: Tensor, share: float) -> Tensor:
        """−sign(g)."""
        return -torch.sign(g)

    def nearest(self, y: Tensor, radius: Tensor) -> Tensor:
        """y, clipped."""
        return torch.clamp(y, -radius[:, None], radius[:, None])

    def draw(self, count: int, size: int, generator: torch.Generator | None) -> Tensor:
        """Uniform points."""
        device = None if generator is None else generator.device
        shape = (count, size)
        return 2.0 * torch.rand(shape, dtype=torch.float64, generator=generator, device=device) - 1
