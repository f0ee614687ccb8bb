"""Lines below and above an activation that support its convex and its concave envelope."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..functions import Elementwise
from .bracket import SETTLED
from .minimum import least

_REFINED = 3
"""Steps of that search while the slope itself is still moving."""

_TANGENTS = 16
"""Steps of the search for the line that touches a function twice, at most."""


class Line(NamedTuple):
    """z ↦ s z + t for each entry.

    Args:
        slope: s.
        intercept: t.
    """

    slope: Tensor
    intercept: Tensor


def lower_line(function: Elementwise, lower: Tensor, upper: Tensor) -> Line:
    """A proved line below σ on [lower, upper]: a support of its convex envelope.

    It supports the envelope at the middle of the interval: of all lines below σ it leaves the least
    area between. These are the lines of CROWN: the adaptive slope 0 or 1 for ReLU, chords and
    tangents for S-shaped functions (Zhang et al., *Efficient Neural Network Robustness
    Certification with General Activation Functions*, 2018, table 2 and section 3.2). Where an end
    is infinite the line is constant.

    Args:
        function: σ, with proved pieces.
        lower: The lower ends, float64.
        upper: The upper ends, of the same shape.
    """
    return _line(function, lower, upper, 1.0)


def upper_line(function: Elementwise, lower: Tensor, upper: Tensor) -> Line:
    """A proved line above σ on [lower, upper]; see :func:`lower_line`."""
    slope, intercept = _line(function, lower, upper, -1.0)
    return Line(-slope, -intercept)


def slope_range(
    function: Elementwise, lower: Tensor, upper: Tensor, *, sign: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The slopes of lines below σ (above, for ``sign`` −1) that are worth trying; proves nothing.

    They are the slopes of the convex (concave) envelope at the two ends of an interval: a line with
    any other slope touches at one end, and lies below a line from there with a slope in the range.
    Where an end is infinite both are zero.
    """
    finite = lower.isfinite() & upper.isfinite() & (lower <= upper)
    low, high = torch.where(finite, lower, 0.0), torch.where(finite, upper, 0.0)
    first, _ = _support(function, low, high, low, sign)
    last, _ = _support(function, low, high, high, sign)
    ends = (torch.where(finite & end.isfinite(), sign * end, 0.0) for end in (first, last))
    one, other = ends
    return torch.minimum(one, other), torch.maximum(one, other)


def _line(function: Elementwise, lower: Tensor, upper: Tensor, sign: float) -> Line:
    finite = lower.isfinite() & upper.isfinite() & (lower <= upper)
    bounds = function.range(0, lower, upper)
    constant = bounds[0] if sign > 0.0 else -bounds[1]
    low, high = torch.where(finite, lower, 0.0), torch.where(finite, upper, 0.0)
    slope, place = _support(function, low, high, 0.5 * low + 0.5 * high, sign)
    slope = torch.where(finite & slope.isfinite(), slope, 0.0)
    found = least(function, slope, low, high, sign=sign, hint=place)
    return Line(slope, torch.where(finite, found.value, constant))


def _support(
    function: Elementwise, lower: Tensor, upper: Tensor, place: Tensor, sign: float
) -> tuple[Tensor, Tensor]:
    """The slope of a support of the convex envelope of ±σ, and where it touches; proves nothing.

    It supports the envelope at a given place. If the tangent there lies below the graph, that is
    it; otherwise the support touches the graph on both sides of the place.
    """
    slope = sign * function.first(place)
    found = least(function, slope, lower, upper, sign=sign, hint=place, steps=1)
    open_entries = ~_supports(function, sign, slope, place, found.value)
    if bool(open_entries.any()):
        place, slope = place.clone(), slope.clone()
        low, high = lower[open_entries], upper[open_entries]
        slope[open_entries], place[open_entries] = _bridge(
            function, low, high, place[open_entries], sign
        )
    return slope, place


def _bridge(
    function: Elementwise, lower: Tensor, upper: Tensor, anchor: Tensor, sign: float
) -> tuple[Tensor, Tensor]:
    """The slope of the line that touches ±σ from below on both sides of an anchor, and where.

    From the chord between a point on the left and one on the right, one of them moves to where the
    graph lies furthest below that chord, as far as a few steps of Newton's method find that place:
    for a tangent from the other point the whole is Newton's method too.
    """
    left, right, place = lower, upper, anchor
    slope = torch.zeros_like(anchor)
    touches = torch.zeros_like(anchor, dtype=torch.bool)
    for _ in range(_TANGENTS):
        rise = sign * (function.value(right) - function.value(left))
        slope = torch.where(touches | (right <= left), slope, rise / (right - left))
        found = least(function, slope, lower, upper, sign=sign, hint=place, steps=_REFINED)
        here, there = (sign * function.value(z) - slope * z for z in (left, found.place))
        touches |= _supports(function, sign, slope, left, found.value)
        if bool(touches.all()):
            break
        place = torch.where(touches, place, found.place)
        moves, before = ~touches & (there < here), place <= anchor
        left = torch.where(moves & before, place, left)
        right = torch.where(moves & ~before, place, right)
    return slope, place


def _supports(
    function: Elementwise, sign: float, slope: Tensor, point: Tensor, least_value: Tensor
) -> Tensor:
    """Whether the line through a point of the graph of ±σ lies below it, but for rounding."""
    here = sign * function.value(point) - slope * point
    slack = SETTLED * (1.0 + here.abs() + least_value.abs()) + 4.0 * function.deviation
    return here - slack <= least_value
