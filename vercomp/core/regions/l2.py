"""The l2 ball, Σ yᵢ² ≤ r²."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from .ball_kind import BallKind, downhill
from .rounding import norm2_up

_LEAST_WIDTH = 3e-8
"""A slab's outer face that meets the ball in a disc smaller than this share of r is treated as if
it met it in one of this size: the multiplier grows beyond what rounding can use."""


class L2(BallKind):
    """Balls of ‖y‖₂, with φ(y) = ½‖y‖₂²; the norm is its own dual."""

    name = "l2"
    aliases = ("2",)
    symmetric = True
    smooth = True

    def norm(self, y: Tensor) -> Tensor:
        """√Σ yᵢ², rounded up."""
        return norm2_up(y)

    def dual_norm(self, g: Tensor) -> Tensor:
        """√Σ gᵢ², rounded up."""
        return norm2_up(g)

    def shrink(
        self, g: Tensor, rho: Tensor, multiplier: Tensor, lower: Tensor, upper: Tensor
    ) -> Tensor:
        """−g / (ρ + μ), clipped to the box."""
        step = torch.where(g == 0.0, 0.0, -g / (rho + multiplier[:, None]))
        return torch.clamp(step, lower, upper)

    def share(self, g: Tensor, y: Tensor, multiplier: Tensor) -> Tensor:
        """−μ y, which is g where the box does not clip."""
        return -multiplier[:, None] * y

    def multiplier_scale(self, g: Tensor, radius: Tensor) -> Tensor:
        """‖g‖ / r."""
        return norm2_up(g) / radius

    def multiplier(
        self, g: Tensor, radius: Tensor, lower: Tensor, upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        """1/λ with Σ clip(λ|gᵢ|, nearᵢ, farᵢ)² = r²: between two breakpoints, A + λ²Q = r².

        A coordinate leaves its near end at λ = nearᵢ/|gᵢ| and meets its far end at farᵢ/|gᵢ|; from
        one to the other its square is part of λ²Q, before and after it is part of A.
        """
        near, far = downhill(g, lower, upper)
        slope = g.abs()
        events = torch.cat([near / slope, far / slope], -1).nan_to_num(nan=torch.inf)
        events, order = events.sort(dim=-1)
        near_squared, far_squared, slope_squared = near.square(), far.square(), slope.square()
        constant = torch.cat([-near_squared, far_squared], -1).gather(-1, order).cumsum(-1)
        constant = constant + near_squared.sum(-1, keepdim=True)
        growing = torch.cat([slope_squared, -slope_squared], -1).gather(-1, order).cumsum(-1)
        events = events.clamp(1e-150, 1e150)
        filled = constant + events.square() * growing.clamp_min(0.0)
        position = (filled < radius[:, None].square()).sum(-1, keepdim=True)
        right = events.gather(-1, position.clamp_max(events.shape[-1] - 1))[:, 0]
        left = torch.where(position > 0, events.gather(-1, (position - 1).clamp_min(0)), 1e-150)[
            :, 0
        ]
        # Between two breakpoints the sums are made anew: the cumulative ones have cancelled.
        reach = 0.5 * (left + right)[:, None] * slope
        free = (reach > near) & (reach < far)
        fixed = torch.where(free, 0.0, torch.clamp(reach, near, far)).square().sum(-1)
        rate = torch.where(free, slope_squared, 0.0).sum(-1)
        root = torch.nan_to_num(((radius.square() - fixed) / rate).sqrt())
        best = torch.clamp(root, left, right)
        return 1.0 / best, 1.0 / best

    def draw(self, count: int, size: int, generator: torch.Generator | None) -> Tensor:
        """Uniform points: a normal direction, and the D-th root of a uniform number as length."""
        device = None if generator is None else generator.device
        normal = torch.randn(count, size, dtype=torch.float64, generator=generator, device=device)
        uniform = torch.rand(count, 1, dtype=torch.float64, generator=generator, device=device)
        return uniform ** (1.0 / size) * torch.nn.functional.normalize(normal, dim=1)

    def reach(self, scales: Tensor) -> Tensor:
        """max sᵢ."""
        return scales.amax(-1)

    def steepest(self, g: Tensor, share: float) -> Tensor:
        """−g / ‖g‖."""
        return -torch.nn.functional.normalize(g, dim=1, eps=torch.finfo(g.dtype).tiny)

    def nearest(self, y: Tensor, radius: Tensor) -> Tensor:
        """y, scaled down to the length r where it is longer."""
        length: Tensor = torch.linalg.vector_norm(y, dim=1)
        return y * (radius / length.clamp_min(torch.finfo(y.dtype).tiny)).clamp_max(1.0)[:, None]

    def slab_multiplier(
        self, g: Tensor, radius: Tensor, direction: Tensor, low: Tensor, high: Tensor
    ) -> Tensor:
        """ν = (γ + ‖g_⊥‖ τ / √(r² − τ²)) / ‖u‖ where the slab's face cuts off the ball's minimiser.

        With û = u/‖u‖, γ = g·û and g_⊥ = g − γû, the least value of g·y on the disc û·y = τ of the
        ball is γτ − ‖g_⊥‖√(r² − τ²). Its minimiser −rγ/‖g‖ is clipped to the slab; ν is the slope
        at the clipped τ, and zero where the slab clips nothing.
        """
        length = direction.norm(dim=-1)
        unit = direction / length[:, None]
        along = (g * unit).sum(-1)
        across = (g - along[:, None] * unit).norm(dim=-1)
        found: Tensor = _slope(along, across, radius, low / length, high / length) / length
        return found

    def cuts(
        self, sign: float, radius: Tensor, direction: Tensor, low: Tensor, high: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The best ν of :meth:`slab_multiplier` for g = ±eᵢ, where γ = ±ûᵢ, ‖g_⊥‖ = √(1 − ûᵢ²).

        ‖±eᵢ − νu‖² = (1 ∓ νuᵢ)² + ν²(‖u‖² − uᵢ²), rounded up.
        """
        squared = direction.square().sum(-1, keepdim=True)
        length = squared.sqrt()
        unit = direction / length
        across = (1.0 - unit.square()).clamp_min(0.0).sqrt()
        ends = low[:, None] / length, high[:, None] / length
        nu = _slope(sign * unit, across, radius[:, None], *ends) / length
        count = 8.0 * (direction.shape[-1] + 8) * UNIT_ROUNDOFF
        rest = (squared - direction.square()).clamp_min(0.0) + count * squared
        product = nu * direction
        norm = ((1.0 - sign * product).square() + nu.square() * rest).sqrt()
        yield nu, norm * (1.0 + 32.0 * UNIT_ROUNDOFF) + 8.0 * UNIT_ROUNDOFF * (1.0 + product.abs())


def _slope(along: Tensor, across: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """γ + ‖g_⊥‖ τ / √(r² − τ²) where τ = −rγ/‖g‖ is clipped to [low, high]; 0 elsewhere."""
    size = torch.hypot(along, across)
    free = torch.where(size > 0.0, -radius * (along / size), 0.0)
    clipped = torch.minimum(torch.maximum(free, low), high)
    clipped = torch.minimum(torch.maximum(clipped, -radius), radius)
    width = ((radius - clipped) * (radius + clipped)).clamp_min(0.0).sqrt()
    slope = along + across * clipped / torch.maximum(width, _LEAST_WIDTH * radius)
    slope = torch.nan_to_num(slope, posinf=0.0, neginf=0.0)
    return torch.where(clipped == free, 0.0, slope)
