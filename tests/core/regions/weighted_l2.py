"""A fourth kind of ball in one file: Σ (wᵢ yᵢ)² ≤ r² with wᵢ = 1, 2, 4, 1, 2, 4, …"""

from __future__ import annotations

import torch
from torch import Tensor

from vercomp.core.regions import BallKind, register_ball
from vercomp.core.regions.rounding import norm2_up


def weights(size: int) -> Tensor:
    return 2.0 ** (torch.arange(size, dtype=torch.float64) % 3)


class WeightedL2(BallKind):
    name = "weighted-l2"
    smooth = True

    def norm(self, y: Tensor) -> Tensor:
        return norm2_up(weights(y.shape[-1]) * y)  # powers of two: the product is exact

    def dual_norm(self, g: Tensor) -> Tensor:
        return norm2_up(g / weights(g.shape[-1]))

    def shrink(
        self, g: Tensor, rho: Tensor, multiplier: Tensor, lower: Tensor, upper: Tensor
    ) -> Tensor:
        curvature = rho + multiplier[:, None] * weights(g.shape[-1]).square()
        return torch.clamp(torch.where(g == 0.0, 0.0, -g / curvature), lower, upper)

    def share(self, g: Tensor, y: Tensor, multiplier: Tensor) -> Tensor:
        return -multiplier[:, None] * weights(g.shape[-1]).square() * y

    def multiplier_scale(self, g: Tensor, radius: Tensor) -> Tensor:
        return self.dual_norm(g) / radius

    def draw(self, count: int, size: int, generator: torch.Generator | None) -> Tensor:
        normal = torch.randn(count, size, dtype=torch.float64, generator=generator)
        return torch.nn.functional.normalize(normal, dim=1) / weights(size)

    def extents(self, size: int) -> Tensor:
        return 1.0 / weights(size)


register_ball(WeightedL2())
