"""Values of a branch over intervals with float64 ends, enclosed."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import sympy

from vercomp.activations.branches import Branch
from vercomp.activations.evaluation import Program
from vercomp.activations.intervals import (
    INTERVAL,
    IntervalArithmetic,
    SingularIntervalError,
    ends,
)
from vercomp.activations.tails import number_enclosure
from vercomp.ir.activation import X

_EIGHTHS = 8.0
"""Zeros at multiples of one eighth are tried for being exact."""


class Enclosed:
    """A branch f with its derivative, evaluated in interval arithmetic.

    Args:
        branch: The formula and its interval; nothing outside the interval is evaluated.
    """

    def __init__(self, branch: Branch) -> None:
        self.branch = branch
        self._value = Program((branch.formula,), IntervalArithmetic())
        infinite = branch.lower == -sympy.oo, branch.upper == sympy.oo
        self._lower = None if infinite[0] else number_enclosure(branch.lower).a
        self._upper = None if infinite[1] else number_enclosure(branch.upper).b

    def over(self, lower: float, upper: float) -> Any:
        """An enclosure of f on the part of [lower, upper] that belongs to the branch.

        Raises:
            SingularIntervalError: None is found.
        """
        box = self._clipped(lower, upper)
        value = self._value(box)[0]
        if box.a == box.b:
            return value
        value, slope = self._with_slope(box)
        middle = INTERVAL.mpf(((box.a + box.b) / 2).b)
        if slope.a >= 0 or slope.b <= 0:
            first, last = (self._value(INTERVAL.mpf(end))[0] for end in (box.a, box.b))
            low, high = (first, last) if slope.a >= 0 else (last, first)
            return INTERVAL.make_mpf((low._mpi_[0], high._mpi_[1]))
        centred = self._value(middle)[0] + slope * (box - middle)
        low = centred if centred.a > value.a else value
        high = centred if centred.b < value.b else value
        return INTERVAL.make_mpf((low._mpi_[0], high._mpi_[1]))

    def sign(self, lower: float, upper: float | None = None) -> int:
        """The sign that f is proved to have on an interval, or at a point; 0 where none is."""
        try:
            found = self._value(self._clipped(lower, lower if upper is None else upper))[0]
            if found.a <= 0 <= found.b and upper is not None:
                found = self.over(lower, upper)
        except SingularIntervalError:
            return 0
        return 1 if found.a > 0 else -1 if found.b < 0 else 0

    def slope(self, lower: float, upper: float) -> int:
        """The sign that f′ is proved to have on an interval; 0 where none is."""
        try:
            found = self._with_slope(self._clipped(lower, upper))[1]
        except SingularIntervalError:
            return 0
        return 1 if found.a > 0 else -1 if found.b < 0 else 0

    def exact_zero(self, place: tuple[float, float]) -> tuple[float, float] | None:
        """An interval that holds the zeros of f in a given interval around a zero.

        It is the point itself where f has one zero there, at a number that sympy finds exactly;
        None if that is an end of the branch.
        """
        lower, upper = place
        near = round(_EIGHTHS * (lower / 2 + upper / 2)) / _EIGHTHS + 0.0
        if not lower <= near <= upper:
            return place
        exact = sympy.Rational(near)
        if not self.slope(lower, upper) or sympy.simplify(self.branch.formula.subs(X, exact)) != 0:
            return place
        return None if exact in (self.branch.lower, self.branch.upper) else (near, near)

    @cached_property
    def _with_slope(self) -> Program[Any]:
        formula = self.branch.formula
        return Program((formula, sympy.diff(formula, X)), IntervalArithmetic())

    def _clipped(self, lower: float, upper: float) -> Any:
        low, high = INTERVAL.mpf(lower), INTERVAL.mpf(upper)
        if self._lower is not None and self._lower > low:
            low = self._lower
        if self._upper is not None and self._upper < high:
            high = self._upper
        return INTERVAL.make_mpf((low._mpi_[0], high._mpi_[1]))


def rounded(enclosure: Any) -> tuple[float, float]:
    """The ends of an interval as float64, rounded outward."""
    lower, upper = ends(enclosure)
    low, high = float(lower) + 0.0, float(upper) + 0.0
    return (
        low if low <= lower else math.nextafter(low, -math.inf),
        high if high >= upper else math.nextafter(high, math.inf),
    )
