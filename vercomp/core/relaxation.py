"""Lines below and above an activation on intervals: any slope, with a proved intercept.

For a slope s the tightest line below σ on [l, u] is s z + t with

    t = min over [l, u] of σ(z) − s z,

and :func:`least` bounds t from below. On a piece where σ′ falls (σ is concave) or is constant, the
minimum lies at the piece's ends. On a piece [p, q] where σ′ rises (σ is convex), every point a of
it gives a bound, because the graph lies above its tangent,

    σ(z) − s z ≥ σ(a) − s a − max(0, s − σ′(a)) (q − a) − max(0, σ′(a) − s) (a − p),

and at the root of σ′(a) = s nothing is lost. The pieces are those of :mod:`.pieces`; the same
function applied to −σ gives the lines above.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .arithmetic.outward import UNIT_ROUNDOFF
from .functions import Elementwise
from .pieces import EDGE, Pieces, Range, Turn

_PERIODS = 6
"""Intervals that reach over more periods get a constant line."""

_NEWTON = 40
"""Steps of the search for a root of σ′(a) = s, at most."""

_REFINED = 3
"""Steps of that search while the slope itself is still moving."""

_TANGENTS = 16
"""Steps of the search for the line that touches a function twice, at most."""

_SETTLED = 1e-12
"""A search ends where another step can gain no more than this, relatively."""

_GUARD = 1.0 + 2.0**-40
"""Covers the rounding of the few operations that make up an error bound."""


class Line(NamedTuple):
    """z ↦ s z + t for each entry.

    Args:
        slope: s.
        intercept: t.
    """

    slope: Tensor
    intercept: Tensor


class Least(NamedTuple):
    """The smallest value of a function on an interval.

    Args:
        value: A lower bound of it.
        place: A point of the interval where the function is nearly as small.
    """

    value: Tensor
    place: Tensor


class _Stretch(NamedTuple):
    """A part of the real line on which σ′ is monotone, and the zone in which that ends.

    Args:
        sign: + where σ′ rises, - where it falls, 0 where it is constant; for −σ after turning.
        start: Where the part begins.
        end: Where it ends.
        limits: Bounds of the limits of ±σ′ at both ends, from inside; None where σ′ is continuous.
        zone: Bounds of the position of the turn at its end, which is not in the part; None at ∞.
    """

    sign: str
    start: Tensor
    end: Tensor
    limits: tuple[Range | None, Range | None]
    zone: tuple[Tensor, Tensor] | None


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


def least(
    function: Elementwise,
    slope: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    sign: float = 1.0,
    hint: Tensor | None = None,
    steps: int = _NEWTON,
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
    curve = _Curve(function, sign, slope)
    best = _smaller(curve.at(lower), curve.at(upper))
    for stretch in _stretches(curve.pieces, sign, lower, upper):
        if stretch.zone is not None:
            start, end = stretch.zone
            inside = (lower <= end) & (start <= upper)
            best = _smaller(best, _where(inside, curve.within(start, end)))
        if stretch.sign == "+":
            p, q = torch.maximum(lower, stretch.start), torch.minimum(upper, stretch.end)
            inside = p <= q
            if bool(inside.any()):
                p = torch.minimum(p, q)
                best = _smaller(best, _where(inside, curve.convex(stretch, p, q, hint, steps)))
    value = torch.where(best.value.isnan() | ~slope.isfinite(), -math.inf, best.value)
    if _too_long(curve.pieces, lower, upper) is not None:
        value = torch.minimum(value, _coarse(function, slope, lower, upper, sign))
    place = torch.minimum(torch.maximum(best.place, lower), upper)
    return Least(value, place)


class _Curve:
    """z ↦ ±σ(z) − s z with what float64 loses of it.

    Args:
        function: σ.
        sign: ±1.
        slope: s.
    """

    def __init__(self, function: Elementwise, sign: float, slope: Tensor) -> None:
        if function.pieces is None:
            raise ValueError("the monotone pieces of this activation are not proved")
        self.function = function
        self.sign = sign
        self.slope = slope
        self.pieces = function.pieces[1]
        self.slack = 2.0 * function.deviation
        self.steepest = function.pieces[0].steepest

    def at(self, z: Tensor) -> Least:
        """The value at points, rounded down."""
        value = self.function.value(z)
        lost = self.function.rounding(0, z, value) + self.slack
        product = self.slope * z
        found = self.sign * value - product
        lost = lost + 2.0 * UNIT_ROUNDOFF * (product.abs() + found.abs())
        return Least(found - lost * _GUARD, z.expand_as(found))

    def within(self, start: Tensor, end: Tensor) -> Least:
        """A bound on intervals that are a few float64 numbers long."""
        value, place = self.at(start)
        reach = (self.steepest + self.slope.abs()) * (end - start) * _GUARD
        return Least(value - reach, place)

    def convex(
        self, stretch: _Stretch, p: Tensor, q: Tensor, hint: Tensor | None, steps: int
    ) -> Least:
        """A bound on intervals [p, q] of a stretch on which ±σ′ rises, by the tangent at a."""
        a = self._root(stretch, p, q, hint, steps)
        slope = self.function.first(a)
        lost = self.function.rounding(1, a, slope)
        lost = lost + 2.0 * UNIT_ROUNDOFF * (slope.abs() + self.slope.abs())
        excess = self.sign * slope - self.slope
        least_excess, most_excess = excess - lost, excess + lost
        # At a jump of σ′ its value is either limit; the tangent takes the one from inside.
        for end, limit in zip((stretch.start, stretch.end), stretch.limits, strict=True):
            if limit is not None:
                low, high = limit[0] - self.slope, limit[1] - self.slope
                lost = 2.0 * UNIT_ROUNDOFF * (low.abs() + high.abs())
                least_excess = torch.where(a == end, low - lost, least_excess)
                most_excess = torch.where(a == end, high + lost, most_excess)
        value, _ = self.at(a)
        falls = (-least_excess).clamp_min(0.0) * (q - a)
        rises = most_excess.clamp_min(0.0) * (a - p)
        return Least(value - (falls + rises) * _GUARD - UNIT_ROUNDOFF * value.abs(), a)

    def _root(
        self, stretch: _Stretch, p: Tensor, q: Tensor, hint: Tensor | None, steps: int
    ) -> Tensor:
        """Where ±σ′ is nearly s in [p, q]: Newton's method, or the secant where σ″ is missing.

        A step that leaves the bracket bisects it instead. Entries that are found are set aside.
        """
        shape = (p + self.slope).shape
        low, high, slope = (t.expand(shape).reshape(-1) for t in (p, q, self.slope))
        ends = (end.expand(shape).reshape(-1) for end in (stretch.start, stretch.end))
        below, above = (
            self._inner_slope(z, end, limit) - slope
            for z, end, limit in zip((low, high), ends, stretch.limits, strict=True)
        )
        found = torch.where(below >= 0.0, low, high)
        rows = torch.nonzero((below < 0.0) & (above > 0.0))[:, 0]
        low, high, below, above, slope = (t[rows] for t in (low, high, below, above, slope))
        middle = 0.5 * low + 0.5 * high
        if hint is not None:
            start = hint.expand(shape).reshape(-1)[rows]
            middle = torch.where((low < start) & (start < high), start, middle)
        bracket = _Bracket(low, high, below, above, slope, middle)
        for step in range(steps):
            open_rows = bracket.narrow(self.function, self.sign, step)
            left = int(open_rows.sum())
            if left == 0 or step + 1 == steps or 2 * left < len(rows):
                found[rows] = bracket.point
                if left == 0:
                    break
                rows, bracket = rows[open_rows], bracket.rows(open_rows)
        return found.reshape(shape)

    def _inner_slope(self, z: Tensor, end: Tensor, limit: Range | None) -> Tensor:
        """±σ′ at points of a stretch; at an end where it jumps, the limit from inside."""
        slope = self.sign * self.function.first(z)
        if limit is None:
            return slope
        return torch.where(z == end, 0.5 * (limit[0] + limit[1]), slope)


class _Bracket:
    """Intervals in which ±σ′ − s changes its sign, rising, with the point that is tried next.

    Args:
        low: Where ±σ′ ≤ s.
        high: Where ±σ′ ≥ s.
        below: ±σ′ − s at ``low``.
        above: ±σ′ − s at ``high``.
        slope: s.
        point: The point to try first.
    """

    def __init__(
        self, low: Tensor, high: Tensor, below: Tensor, above: Tensor, slope: Tensor, point: Tensor
    ) -> None:
        self.low, self.high, self.below, self.above = low, high, below, above
        self.slope, self.point = slope, point

    def rows(self, index: Tensor) -> _Bracket:
        """Some of the intervals."""
        fields = (self.low, self.high, self.below, self.above, self.slope, self.point)
        return _Bracket(*(t[index] for t in fields))

    def narrow(self, function: Elementwise, sign: float, step: int) -> Tensor:
        """One step; returns which intervals are still open."""
        point = self.point
        excess = sign * function.first(point) - self.slope
        left, right = excess <= 0.0, excess >= 0.0
        self.low, self.below = (
            torch.where(left, point, self.low),
            torch.where(left, excess, self.below),
        )
        self.high, self.above = (
            torch.where(right, point, self.high),
            torch.where(right, excess, self.above),
        )
        if function.second is not None:
            aim = point - excess / (sign * function.second(point))
        else:
            share = self.below / (self.above - self.below)
            aim = self.low - share * (self.high - self.low)
            if step % 2:  # one end may stay where it is for many secants
                aim = torch.full_like(aim, math.nan)
        inside = (self.low < aim) & (aim < self.high)
        aim = torch.where(inside, aim, 0.5 * self.low + 0.5 * self.high)
        still_open = ~(excess.abs() * (self.high - self.low) <= _SETTLED * (1.0 + point.abs()))
        self.point = torch.where(still_open, aim, point)
        return still_open


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
    slack = _SETTLED * (1.0 + here.abs() + least_value.abs()) + 4.0 * function.deviation
    return here - slack <= least_value


def _stretches(pieces: Pieces, sign: float, lower: Tensor, upper: Tensor) -> Iterator[_Stretch]:
    """The parts of the real line on which ±σ′ is monotone, as far as the intervals reach."""
    turned = {"+": "-", "-": "+", "0": "0"}
    signs = [s if sign > 0.0 else turned[s] for s in pieces.signs]
    turns = list(pieces.turns)
    if pieces.period is None:
        zones = [(lower.new_tensor(turn.at[0]), lower.new_tensor(turn.at[1])) for turn in turns]
    else:
        first = torch.floor((lower - turns[0].at[1]) / pieces.period) - 1.0
        reach = ((upper - lower) / pieces.period).nan_to_num(nan=0.0, posinf=_PERIODS)
        count = min(_PERIODS, int(reach.max().ceil()) if reach.numel() else 0) + 3
        zones = []
        for k in range(count):
            number = first + k
            shift, doubt = number * pieces.period, EDGE * (1.0 + number.abs()) * pieces.period
            zones += [(shift + turn.at[0] - doubt, shift + turn.at[1] + doubt) for turn in turns]
        turns, signs = turns * count, signs * count
    for k, (start, end) in enumerate(pairwise(zones)):
        limits = _limit(turns[k], sign, behind=True), _limit(turns[k + 1], sign, behind=False)
        last = pieces.period is None and k + 2 == len(zones)
        yield _Stretch(signs[k], start[1], end[0], limits, None if last else end)


def _limit(turn: Turn, sign: float, *, behind: bool) -> Range | None:
    """Bounds of the limit of ±σ′ behind a jump, or before it; None if there is no jump."""
    if turn.right is None:
        return None
    low, high = turn.behind if behind else turn.left
    return (low, high) if sign > 0.0 else (-high, -low)


def _too_long(pieces: Pieces, lower: Tensor, upper: Tensor) -> Tensor | None:
    """Which intervals reach over more periods than are looked at; None if the function has none."""
    if pieces.period is None:
        return None
    return ~(upper - lower <= _PERIODS * pieces.period)


def _coarse(
    function: Elementwise, slope: Tensor, lower: Tensor, upper: Tensor, sign: float
) -> Tensor:
    """min ±σ − max s z over intervals that reach over many periods; ∞ elsewhere."""
    assert function.pieces is not None  # noqa: S101 - the caller has looked
    long = _too_long(function.pieces[1], lower, upper)
    assert long is not None  # noqa: S101
    low, high = function.range(0, lower, upper)
    least_value = low if sign > 0.0 else -high
    steepest = torch.maximum(slope * lower, slope * upper)
    bound = least_value - steepest
    bound = bound - 4.0 * UNIT_ROUNDOFF * (least_value.abs() + steepest.abs())
    return torch.where(long, bound, math.inf)


def _smaller(one: Least, other: Least) -> Least:
    """The smaller of two bounds; a NaN stays one, and proves nothing in the end."""
    value = torch.minimum(one.value, other.value)
    return Least(value, torch.where(one.value <= other.value, one.place, other.place))


def _where(inside: Tensor, found: Least) -> Least:
    return Least(torch.where(inside, found.value, math.inf), found.place)
