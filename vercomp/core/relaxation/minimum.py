"""The smallest value of an activation less a line on an interval, bounded from below."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from ..functions import Elementwise
from .curve import Curve, Least
from .stretches import stretches, too_long

NEWTON = 40
"""Steps of the search for a root of σ′(a) = s, at most."""


def least(
    function: Elementwise,
    slope: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    sign: float = 1.0,
    hint: Tensor | None = None,
    steps: int = NEWTON,
) -> Least:
    """min of ±σ(z) − s z over finite intervals, rounded down; −∞ where it is not a number.

    The bound is proved for float64. On float32 it is the same computation without any promise.

    Args:
        function: σ, with proved pieces.
        slope: s.
        lower: The lower ends; they broadcast with the slope.
        upper: The upper ends.
        sign: 1 for σ, −1 for −σ.
        hint: Points near which σ′ = ±s may hold, to start the search there.
        steps: Newton steps of that search, at most; fewer cost tightness alone.

    Raises:
        ValueError: The pieces are not proved.
    """
    curve = Curve(function, sign, slope)
    best = smaller(curve.at(lower), curve.at(upper))
    for stretch in stretches(curve.pieces, sign, lower, upper):
        if stretch.zone is not None:
            start, end = stretch.zone
            inside = (lower <= end) & (start <= upper)
            best = smaller(best, _where(inside, curve.within(start, end)))
        if stretch.sign == "+":
            p, q = torch.maximum(lower, stretch.start), torch.minimum(upper, stretch.end)
            inside = p <= q
            if bool(inside.any()):
                p = torch.minimum(p, q)
                best = smaller(best, _where(inside, curve.convex(stretch, p, q, hint, steps)))
    value = torch.where(best.value.isnan() | ~slope.isfinite(), -math.inf, best.value)
    if too_long(curve.pieces, lower, upper) is not None:
        value = torch.minimum(value, _coarse(function, slope, lower, upper, sign))
    place = torch.minimum(torch.maximum(best.place, lower), upper)
    return Least(value, place)


def _coarse(
    function: Elementwise, slope: Tensor, lower: Tensor, upper: Tensor, sign: float
) -> Tensor:
    """min ±σ − max s z over intervals that reach over many periods; ∞ elsewhere."""
    assert function.pieces is not None  # noqa: S101 - the caller has looked
    long = too_long(function.pieces[1], lower, upper)
    assert long is not None  # noqa: S101
    low, high = function.range(0, lower, upper)
    least_value = low if sign > 0.0 else -high
    steepest = torch.maximum(slope * lower, slope * upper)
    bound = least_value - steepest
    bound = bound - 4.0 * UNIT_ROUNDOFF * (least_value.abs() + steepest.abs())
    return torch.where(long, bound, math.inf)


def smaller(one: Least, other: Least) -> Least:
    """The smaller of two bounds; a NaN stays one, and proves nothing in the end."""
    value = torch.minimum(one.value, other.value)
    return Least(value, torch.where(one.value <= other.value, one.place, other.place))


def _where(inside: Tensor, found: Least) -> Least:
    return Least(torch.where(inside, found.value, math.inf), found.place)
