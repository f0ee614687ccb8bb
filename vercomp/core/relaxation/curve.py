"""An activation less a line, with proved bounds at points and on intervals."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from ..functions import Elementwise
from ..pieces import Range
from .bracket import Bracket
from .stretches import Stretch

_GUARD = 1.0 + 2.0**-40
"""Covers the rounding of the few operations that make up an error bound."""


class Least(NamedTuple):
    """The smallest value of a function on an interval.

    Args:
        value: A lower bound of it.
        place: A point of the interval where the function is nearly as small.
    """

    value: Tensor
    place: Tensor


class Curve:
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
        self, stretch: Stretch, p: Tensor, q: Tensor, hint: Tensor | None, steps: int
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
        self, stretch: Stretch, p: Tensor, q: Tensor, hint: Tensor | None, steps: int
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
        bracket = Bracket(low, high, below, above, slope, middle)
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
