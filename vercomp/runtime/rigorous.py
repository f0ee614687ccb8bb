"""Bound programs in float64, rounded outward: every result holds in real arithmetic."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import norms
from .arithmetic import Interval
from .elementwise import Range
from .operators import UNIT_ROUNDOFF, Operator

_SUBNORMAL = 2.0**-1074


class Rigorous:
    """The arithmetic of certificates. Operators and coefficients must be in float64.

    Args:
        device: Where numbers are made.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def norm2(self, operator: Operator, site: str) -> Tensor:
        """Proved upper bound of ‖A‖₂ (:mod:`.norms`)."""
        return self.constant(norms.norm2(operator))

    def weighted_norm2_squared(self, operator: Operator, weights: Tensor, site: str) -> Tensor:
        """Proved upper bounds of λ_max(Aᵀ diag(q) A)."""
        return norms.weighted_norm2_squared(operator, weights)

    def constant(self, value: float) -> Tensor:
        """A float64 number, exactly."""
        return torch.tensor(value, dtype=torch.float64, device=self.device)

    def zeros(self, c: Tensor) -> Tensor:
        """0 for each row of c."""
        return c.new_zeros(len(c))

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """a + b, rounded up."""
        return up(a + b)

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """a · b, rounded up; 0 · ∞ is 0, as a term that vanishes does whatever it is scaled by."""
        product = torch.nextafter(a * b, self.constant(math.inf))
        return torch.where((a == 0) | (b == 0), 0.0, product)

    def square_root(self, a: Tensor) -> Tensor:
        """√a, rounded up."""
        return up(a.sqrt())

    def minimum(self, a: Tensor, b: Tensor) -> Tensor:
        """The smaller of two valid bounds."""
        return torch.minimum(a, b)

    def row_max(self, weights: Tensor) -> Tensor:
        """max_j q_j, exactly."""
        return weights.amax(1)

    def row_norm(self, interval: Interval) -> Tensor:
        """√Σ max(|lower|, |upper|)², rounded up; rows are scaled, so no square under- or overflows.

        A sum of n squares and its root are off by at most (n + 4)u of themselves; the squares that
        underflow after scaling add at most n times the smallest normal number.
        """
        size = torch.maximum(interval.lower.abs(), interval.upper.abs())
        largest = size.amax(1)
        safe = torch.where((largest > 0) & torch.isfinite(largest), largest, 1.0)
        total = (size / safe[:, None]).square().sum(1) + 1e-300 * size.shape[1]
        slack = 1.0 + 2.0 * (size.shape[1] + 8) * UNIT_ROUNDOFF
        norm = up(safe * (total.sqrt() * slack))
        return torch.where(largest == 0, 0.0, torch.nan_to_num(norm, nan=math.inf, posinf=math.inf))

    def exactly(self, c: Tensor) -> Interval:
        """[c, c]."""
        return Interval(c, c)

    def join(self, a: Interval, b: Interval) -> Interval:
        """[a + b], rounded outward."""
        return Interval(down(a.lower + b.lower), up(a.upper + b.upper))

    def adjoint(self, operator: Operator, interval: Interval) -> Interval:
        """Aᵀ mid ± (|A|ᵀ rad + rounding).

        Each entry sums m products: the float64 sum is off by at most 2(m + 2)u |A|ᵀ(|mid| + rad);
        an operator that is itself rounded adds ‖A − Â‖_F · ‖|mid| + rad‖.
        """
        middle = 0.5 * interval.lower + 0.5 * interval.upper
        radius = up(torch.maximum(interval.upper - middle, middle - interval.lower))
        size = up(middle.abs() + radius)
        rounding = 4.0 * (operator.fan_out + 2) * UNIT_ROUNDOFF
        spread = operator.abs_adjoint(radius + rounding * size) * (1.0 + rounding)
        if operator.error > 0.0:
            spread = spread + operator.error * size.norm(dim=1, keepdim=True) * (1.0 + 1e-9)
        # Products may underflow, by less than the smallest subnormal number each; where nothing
        # that is not zero meets, the result is exactly zero.
        meets = operator.abs_adjoint((size > 0).to(size)) > 0
        spread = torch.where(meets, spread + 4.0 * operator.fan_out * _SUBNORMAL, spread)
        center = operator.adjoint(middle)
        return Interval(down(center - up(spread)), up(center + up(spread)))

    def through(self, interval: Interval, slope: Range) -> Interval:
        """The products of the end points, rounded outward."""
        return _products(interval, slope)

    def concavity(self, interval: Interval, second: Range) -> Tensor:
        """max(0, −min F σ″), rounded up; an interval that is not finite gives infinity."""
        depth = (-_products(interval, second).lower).clamp_min(0.0)
        return torch.nan_to_num(depth, nan=math.inf, posinf=math.inf)


def up(x: Tensor) -> Tensor:
    """The next larger float64, except that an exact zero stays zero.

    For sums and roots, which are zero only when they are exactly zero.
    """
    return torch.where(x == 0, x, torch.nextafter(x, torch.full_like(x, math.inf)))


def down(x: Tensor) -> Tensor:
    """The next smaller float64, except that an exact zero stays zero."""
    return -up(-x)


def _products(interval: Interval, other: Range) -> Interval:
    """[F · s] over both ranges, rounded outward; exactly zero only where a factor is zero."""
    lower, upper = [], []
    for end in interval:
        for value in other:
            product = end * value
            zero = (end == 0) | (value == 0.0)
            infinite = torch.full_like(product, math.inf)
            lower.append(torch.where(zero, 0.0, torch.nextafter(product, -infinite)))
            upper.append(torch.where(zero, 0.0, torch.nextafter(product, infinite)))
    return Interval(torch.stack(lower).amin(0), torch.stack(upper).amax(0))
