"""Sums, differences and norms of float64 tensors, rounded in a known direction.

A float64 sum of D numbers is off by at most (D − 1)u Σ|xᵢ| in any order of summation, u = 2⁻⁵³. The
factors below are about twice that, which covers the rounding of the factors themselves.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF, up


def sum_up(x: Tensor) -> Tensor:
    """Upper bound of Σ xᵢ over the last axis, for xᵢ ≥ 0; NaN gives infinity."""
    total = x.sum(-1) * (1.0 + 2.0 * (x.shape[-1] + 2) * UNIT_ROUNDOFF)
    return up(torch.nan_to_num(total, nan=math.inf, posinf=math.inf))


def norm2_up(x: Tensor) -> Tensor:
    """Upper bound of ‖x‖₂ over the last axis; NaN gives infinity.

    Rows are divided by their largest entry, so that no square overflows; the squares that underflow
    after that are covered by an absolute term.
    """
    squared = x.square().sum(-1)
    slack = 1.0 + 2.0 * (x.shape[-1] + 8) * UNIT_ROUNDOFF
    if bool(((squared > 1e-250) & (squared < math.inf)).all()):
        return up(squared.sqrt() * slack)
    largest = x.abs().amax(-1)
    safe = torch.where((largest > 0) & torch.isfinite(largest), largest, 1.0)
    total = (x / safe[..., None]).square().sum(-1) + 1e-300 * x.shape[-1]
    norm = safe * (total.sqrt() * slack)
    norm = up(torch.nan_to_num(norm, nan=math.inf, posinf=math.inf))
    return torch.where(largest == 0, 0.0, norm)


def add_down(a: Tensor, b: Tensor) -> Tensor:
    """The largest float64 that is at most a + b (Knuth's two-sum says how a + b was rounded)."""
    total = a + b
    part = total - a
    rest = (a - (total - part)) + (b - part)
    return torch.where(rest >= 0, total, torch.nextafter(total, torch.full_like(total, -math.inf)))


def add_up(a: Tensor, b: Tensor) -> Tensor:
    """The smallest float64 that is at least a + b."""
    return -add_down(-a, -b)


def distance_up(a: Tensor, b: Tensor) -> Tensor:
    """The smallest float64 that is at least |a − b|, entry by entry."""
    return torch.maximum(add_up(a, -b), add_up(b, -a))


def divide_up(a: Tensor, divisor: Tensor) -> Tensor:
    """Upper bound of a / divisor for a divisor > 0; exact quotients by powers of two stay exact."""
    quotient = a / divisor
    exact = (quotient * divisor == a) & (torch.frexp(divisor).mantissa == 0.5)
    exact |= a == 0
    return torch.where(exact, quotient, torch.nextafter(quotient, torch.full_like(a, math.inf)))


def divide_down(a: Tensor, divisor: Tensor) -> Tensor:
    """Lower bound of a / divisor for a divisor > 0; exact quotients by powers of two stay exact."""
    return -divide_up(-a, divisor)


def scale_down(x: Tensor, unit: Tensor) -> Tensor:
    """x times a power of two, rounded down where that under- or overflows."""
    product = x * unit
    below = torch.nextafter(product, torch.full_like(x, -math.inf))
    return torch.where(product / unit == x, product, below)


def row_unit(x: Tensor) -> Tensor:
    """The largest power of two that is at most max |xᵢ|, row by row; 1 where there is none."""
    largest = x.abs().amax(-1)
    usable = (largest > 0) & torch.isfinite(largest)
    exponent = torch.frexp(torch.where(usable, largest, 1.0)).exponent - 1
    # 2^exponent is made in two factors: ldexp would round the smallest ones to zero.
    half = exponent // 2
    one = torch.ones_like(largest)
    return torch.ldexp(one, half) * torch.ldexp(one, exponent - half)
