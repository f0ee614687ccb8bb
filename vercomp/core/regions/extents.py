"""How far each coordinate reaches in a region that a slab cuts: all D bounds at once.

In the coordinates of :mod:`.geometry`, from a ≤ u·y ≤ b and the box [l, h] follows

    a − Σ_{j≠i} max(uⱼlⱼ, uⱼhⱼ)  ≤  uᵢyᵢ  ≤  b − Σ_{j≠i} min(uⱼlⱼ, uⱼhⱼ),

which is exact for a box, and from the ball, for every multiplier ν,

    ±yᵢ  ≥  −r‖±eᵢ − νu‖_* + min(νa, νb),

which is exact for the best ν.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from .geometry import Geometry

_SMALL = 1e-150
"""Entries of u (whose largest is in [1, 2)) below it bound no coordinate."""

_TINY = 1e-190
"""Covers, for each coordinate, what underflows."""


def extents(region: Geometry) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds (N, D) of every coordinate of y.

    They are those of ball and box where there is no slab, or where it leaves nothing.
    """
    if region.slab is None:
        return region.lower, region.upper
    region = _widened(region)
    lower, upper = _from_box(region)
    if not bool(region.radius.isinf().any()):
        lower = torch.fmax(lower, _from_ball(region, 1.0))
        upper = torch.fmin(upper, -_from_ball(region, -1.0))
    empty = (lower > upper).any(1, keepdim=True)
    return torch.where(empty, region.lower, lower), torch.where(empty, region.upper, upper)


def _widened(region: Geometry) -> Geometry:
    """The region with a slab that holds the real one whatever is rounded in sums of D products.

    In the box |uᵢyᵢ| is at most its value at a corner, and u itself is off by its last bit.
    """
    slab = region.slab
    assert slab is not None  # noqa: S101 - the caller looked
    extent = torch.maximum(region.lower.abs(), region.upper.abs())
    size = (slab.direction.abs() * extent).sum(-1)
    count = region.lower.shape[1]
    slack = 8.0 * (count + 8) * UNIT_ROUNDOFF * size + _TINY * count
    low = slab.low - slack - 4.0 * UNIT_ROUNDOFF * slab.low.abs()
    high = slab.high + slack + 4.0 * UNIT_ROUNDOFF * slab.high.abs()
    return region.with_slab(slab.direction, low, high)


def _from_box(region: Geometry) -> tuple[Tensor, Tensor]:
    """What the slab and the box say."""
    slab = region.slab
    assert slab is not None  # noqa: S101
    ends = slab.direction * region.lower, slab.direction * region.upper
    least, most = torch.minimum(*ends), torch.maximum(*ends)
    low = slab.low[:, None] - (most.sum(-1, keepdim=True) - most)
    high = slab.high[:, None] - (least.sum(-1, keepdim=True) - least)
    turned = slab.direction < 0.0
    low, high = torch.where(turned, -high, low), torch.where(turned, -low, high)
    length = slab.direction.abs()
    usable = length > _SMALL
    divisor = torch.where(usable, length, 1.0)
    low = torch.where(usable, _down(low / divisor), -torch.inf)
    high = torch.where(usable, -_down(-high / divisor), torch.inf)
    return torch.fmax(region.lower, low), torch.fmin(region.upper, high)


def _from_ball(region: Geometry, sign: float) -> Tensor:
    """Lower bounds (N, D) of ±yᵢ: what the slab and the ball say; −∞ where that is nothing."""
    slab = region.slab
    assert slab is not None  # noqa: S101
    best = torch.full_like(region.lower, -torch.inf)
    low, high = slab.low[:, None], slab.high[:, None]
    for nu, norm in region.kind.cuts(sign, region.radius, *slab):
        ball = region.radius[:, None] * norm
        face = torch.where(nu == 0.0, 0.0, nu * torch.where(nu > 0.0, low, high))
        slack = 8.0 * UNIT_ROUNDOFF * (ball + face.abs()) + _TINY
        best = torch.fmax(best, face - ball - slack)
    return best


def _down(x: Tensor) -> Tensor:
    """Below a quotient that was rounded to the nearest."""
    return torch.nextafter(x, torch.full_like(x, -torch.inf))
