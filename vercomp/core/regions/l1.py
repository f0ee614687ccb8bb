"""The l1 ball, Σ |yᵢ| ≤ r."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from .ball_kind import BallKind, downhill
from .rounding import sum_up

_LEAST = 1e-100
"""Multipliers of which the inverse is smaller are not tried."""


class L1(BallKind):
    """Balls of ‖y‖₁, with φ(y) = ‖y‖₁; the dual norm is max |gᵢ|."""

    name = "l1"
    aliases = ("1",)
    symmetric = True

    def norm(self, y: Tensor) -> Tensor:
        """Σ |yᵢ|, rounded up."""
        return sum_up(y.abs())

    def dual_norm(self, g: Tensor) -> Tensor:
        """max |gᵢ|, exactly."""
        return g.abs().amax(-1)

    def shrink(
        self, g: Tensor, rho: Tensor, multiplier: Tensor, lower: Tensor, upper: Tensor
    ) -> Tensor:
        """Soft thresholding of −g by μ, divided by ρ and clipped: (|g| − μ)₊ / ρ against g."""
        mu = multiplier[:, None]
        pull = -torch.sign(g) * (g.abs() - mu).clamp_min(0.0)
        return torch.clamp(torch.where(pull == 0.0, 0.0, pull / rho), lower, upper)

    def share(self, g: Tensor, y: Tensor, multiplier: Tensor) -> Tensor:
        """−μ sign(yᵢ) where yᵢ is not zero, gᵢ clipped to [−μ, μ] elsewhere."""
        mu = multiplier[:, None]
        return torch.where(y == 0.0, torch.clamp(g, -mu, mu), -mu * torch.sign(y))

    def multiplier_scale(self, g: Tensor, radius: Tensor) -> Tensor:
        """max |gᵢ|: there the threshold takes all."""
        return self.dual_norm(g)

    def multiplier(
        self, g: Tensor, radius: Tensor, lower: Tensor, upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The |gᵢ| at which the coordinates that reached their far ends, steepest first, fill r."""
        near, far = downhill(g, lower, upper)
        slopes, order = g.abs().sort(dim=-1, descending=True)
        filled = near.sum(-1, keepdim=True) + (far - near).clamp_min(0.0).gather(-1, order).cumsum(
            -1
        )
        position = (filled < radius[:, None]).sum(-1, keepdim=True)
        best = slopes.gather(-1, position.clamp_max(g.shape[-1] - 1))[:, 0]
        return torch.nextafter(best, torch.zeros_like(best)), best

    def cuts(
        self, sign: float, radius: Tensor, direction: Tensor, low: Tensor, high: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The two ν with |1 ∓ νuᵢ| = |ν| max_{j≠i} |uⱼ|: the dual is piecewise linear between them.

        ‖±eᵢ − νu‖_∞ is the larger of the two sides, rounded up.
        """
        size = direction.abs()
        largest = size.topk(min(2, size.shape[-1]), dim=-1).values
        second = largest[:, 1:] if size.shape[-1] > 1 else torch.zeros_like(largest)
        others = torch.where(size == largest[:, :1], second, largest[:, :1])
        for divisor in (sign * direction + others, sign * direction - others):
            usable = divisor.abs() > _LEAST
            nu = torch.where(usable, 1.0 / torch.where(usable, divisor, 1.0), 0.0)
            product = nu * direction
            rounding = 8.0 * UNIT_ROUNDOFF * (1.0 + product.abs())
            own = (1.0 - sign * product).abs() + rounding
            yield nu, torch.maximum(own, nu.abs() * others * (1.0 + 8.0 * UNIT_ROUNDOFF))

    def steepest(self, g: Tensor, share: float) -> Tensor:
        """−sign(gᵢ)/k for the k steepest coordinates: the norm's own direction moves just one.

        k is the share of the coordinates, at least one (Croce and Hein, *Mind the box: l1-APGD for
        sparse adversarial attacks on image classifiers*, 2021).
        """
        count = max(1, round(share * g.shape[1]))
        size = g.abs()
        least = size.topk(count, dim=1).values[:, -1:]
        chosen = torch.where(size >= least, -torch.sign(g), 0.0)
        return torch.nn.functional.normalize(chosen, p=1.0, dim=1)

    def nearest(self, y: Tensor, radius: Tensor) -> Tensor:
        """Soft thresholding by the θ for which Σ (|yᵢ| − θ)₊ = r, where ‖y‖₁ > r.

        With |y| in descending order, θ is the largest of ((Σ_{i ≤ k} |yᵢ|) − r)/k over k (Duchi et
        al., *Efficient projections onto the l1-ball for learning in high dimensions*, 2008).
        """
        size = y.abs()
        ordered = size.sort(dim=1, descending=True).values
        places = torch.arange(1, y.shape[1] + 1, device=y.device)
        theta = ((ordered.cumsum(1) - radius[:, None]) / places).amax(1, keepdim=True)
        return torch.sign(y) * (size - theta.clamp_min(0.0)).clamp_min(0.0)

    def draw(self, count: int, size: int, generator: torch.Generator | None) -> Tensor:
        """Uniform points: exponentials with signs, divided by the sum of size + 1 of them."""
        shape = (count, size + 1)
        device = None if generator is None else generator.device
        uniform = torch.rand(shape, dtype=torch.float64, generator=generator, device=device)
        exponentials = -torch.log1p(-uniform)
        signs = torch.rand(shape, dtype=torch.float64, generator=generator, device=device) - 0.5
        return (torch.sign(signs) * exponentials / exponentials.sum(1, keepdim=True))[:, :size]

    def reach(self, scales: Tensor) -> Tensor:
        """max sᵢ: the farthest points are the corners."""
        return scales.amax(-1)
