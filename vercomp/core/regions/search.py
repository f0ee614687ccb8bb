"""The search for multipliers: points that minimise a function on a region, and how to bound it.

The function is g·y + ½ Σ ρᵢ yᵢ²: a linear one (ρ = 0), or the distance to a point. On ball ∩ box
one multiplier μ of the ball's constraint remains, on which the norm of the minimiser depends
monotonically; a slab adds a multiplier ν, which turns g into g − νu. Both are found by a fixed
number of steps in their logarithm, halvings of a bracket and, where the minimiser is continuous,
secants in turn. Nothing here is proved: any multipliers give a bound (:mod:`.bound`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .geometry import Geometry

_SMOOTH_STEPS = 18
"""Steps to find a multiplier on which the minimiser depends continuously."""

_STEPS = 44
"""Steps to find a multiplier at which the minimiser may jump."""

_LOG_RANGE = 40.0
"""Multipliers are sought within e^±40 of their natural scale."""

_NEAR = 1e-9
"""A multiplier that is known is bracketed this closely, relative to it."""


class Multipliers(NamedTuple):
    """Multipliers of the slab and of the ball (N,), to the left and to the right of the best."""

    slab: Tensor
    ball: tuple[Tensor, Tensor]


class Solution(NamedTuple):
    """A point (N, D) of the region, up to rounding, and multipliers that prove it is good."""

    point: Tensor
    multipliers: list[Multipliers]


def solve(region: Geometry, g: Tensor, rho: Tensor | None = None) -> Solution:
    """Minimise g·y + ½ Σ ρᵢ yᵢ² over each of N regions.

    Args:
        region: The regions.
        g: The linear functions, (N, D).
        rho: ρ ≥ 0, broadcasting to (N, D); None for a linear function.
    """
    free, ball = _in_ball_and_box(region, g, rho)
    multipliers = [Multipliers(torch.zeros_like(region.radius), ball)]
    if region.slab is None:
        return Solution(free, multipliers)
    direction, low, high = region.slab
    position = (direction * free).sum(-1)
    below, above = position < low, position > high
    sign = below.to(g) - above.to(g)
    face = torch.where(below, low, torch.where(above, high, position))

    def at(nu: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return _in_ball_and_box(region, g - nu[:, None] * direction, rho)

    def excess(log: Tensor) -> Tensor:
        return sign * (face - (direction * at(sign * log.exp())[0]).sum(-1))

    bracket = _slab_bracket(region, g, rho, excess)
    # Where an end of the bracket lies on the wrong side of the face, one that surely does not
    # takes its place: the minimiser without the slab, the point farthest along the slab.
    extreme = _in_ball_and_box(region, -sign[:, None] * direction, None)[0]
    ends = []
    for log, side, substitute in zip(bracket, (-1.0, 1.0), (free, extreme), strict=True):
        nu = sign * log.exp()
        point, ball = at(nu)
        multipliers.append(Multipliers(nu, ball))
        right_side = side * sign * ((direction * point).sum(-1) - face) >= 0.0
        point = torch.where(right_side[:, None], point, substitute)
        ends.append((point, sign * ((direction * point).sum(-1) - face)))
    (short, lacking), (beyond, excess_there) = ends
    weight = torch.nan_to_num(excess_there / (excess_there - lacking)).clamp(0.0, 1.0)
    point = beyond + weight[:, None] * (short - beyond)
    return Solution(torch.where((sign == 0.0)[:, None], free, point), multipliers)


def _slab_bracket(
    region: Geometry, g: Tensor, rho: Tensor | None, excess: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """log |ν| left and right of the best multiplier of the slab."""
    if rho is None and region.slab is not None and not region.clipped:
        nu = region.kind.slab_multiplier(g, region.radius, *region.slab)
        if nu is not None:
            near = nu.abs().log()
            return near - _NEAR, near + _NEAR
    steepest = g.abs()
    if rho is not None:
        steepest = steepest + rho * torch.maximum(region.lower.abs(), region.upper.abs())
    center = steepest.amax(-1).clamp_min(1e-200).log()
    # A linear function's minimiser may jump along a flat face even where the ball is round.
    steps = _STEPS if rho is None else _SMOOTH_STEPS
    smooth = region.kind.smooth or rho is not None
    return _root(excess, center - _LOG_RANGE, center + _LOG_RANGE, steps, smooth)


def _in_ball_and_box(
    region: Geometry, g: Tensor, rho: Tensor | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The minimiser over ball and box, and multipliers μ on both sides of the best."""
    kind, radius = region.kind, region.radius

    def at(multiplier: Tensor) -> Tensor:
        curvature = g.new_zeros(1) if rho is None else rho
        return kind.shrink(g, curvature, multiplier, region.lower, region.upper)

    zero = torch.zeros_like(radius)
    corner = at(zero)
    if kind.is_box:
        return corner, (zero, zero)
    inside = kind.norm(corner) <= radius
    left, right = _ball_bracket(region, g, rho, at)
    left, right = torch.where(inside, 0.0, left), torch.where(inside, 0.0, right)
    outer, inner = at(left), at(right)
    size = kind.norm(inner)
    weight = torch.nan_to_num((radius - size) / (kind.norm(outer) - size)).clamp(0.0, 1.0)
    point = inner + weight[:, None] * (outer - inner)
    return torch.where(inside[:, None], corner, point), (left, right)


def _ball_bracket(
    region: Geometry, g: Tensor, rho: Tensor | None, at: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Multipliers left and right of that for which the minimiser lies on the ball's surface."""
    kind, radius = region.kind, region.radius
    if rho is None:
        known = kind.multiplier(g, radius, region.lower, region.upper)
        if known is not None:
            return known
    scale = torch.nan_to_num(kind.multiplier_scale(g, radius), nan=1.0).clamp(1e-200, 1e200).log()
    centered = ((region.lower <= 0.0) & (region.upper >= 0.0)).all(-1)
    high = torch.where(centered, scale + 1e-9, scale + _LOG_RANGE)

    def excess(log: Tensor) -> Tensor:
        return (kind.norm(at(log.exp())) / radius).log()

    smooth = kind.smooth or rho is not None
    steps = _SMOOTH_STEPS if smooth else _STEPS
    bracket = _root(excess, scale - _LOG_RANGE, high, steps, smooth)
    return bracket[0].exp(), bracket[1].exp()


def _root(
    excess: Callable[[Tensor], Tensor], left: Tensor, right: Tensor, steps: int, secants: bool
) -> tuple[Tensor, Tensor]:
    """A bracket of the root of a falling function, row by row: positive left, negative right."""
    at_left, at_right = torch.full_like(left, torch.nan), torch.full_like(left, torch.nan)
    for step in range(steps):
        middle = 0.5 * (left + right)
        if secants and step % 2:
            secant = left + (right - left) * (at_left / (at_left - at_right))
            middle = torch.where((secant > left) & (secant < right), secant, middle)
        value = excess(middle)
        positive = value > 0.0
        left, at_left = torch.where(positive, middle, left), torch.where(positive, value, at_left)
        right = torch.where(positive, right, middle)
        at_right = torch.where(positive, at_right, value)
    return left, right
