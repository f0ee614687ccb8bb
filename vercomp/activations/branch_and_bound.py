"""Proved enclosures of the range of a smooth function on an interval that may be infinite.

Best-first branch and bound: a box's bound is the interval evaluation, sharpened by the mean-value
form and by monotonicity; an infinite box is bounded by :mod:`vercomp.activations.tails`. It ends
when the supremum is known to 1e-10, and refuses when that takes too many boxes.
"""

from __future__ import annotations

import heapq
import math
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import sympy

from vercomp.activations.branches import Branch
from vercomp.activations.evaluation import Program
from vercomp.activations.functions import shortest
from vercomp.activations.intervals import INTERVAL, IntervalArithmetic, SingularIntervalError
from vercomp.activations.tails import UnknownTailError, number_enclosure, tail
from vercomp.ir.activation import X

_EVERYTHING = INTERVAL.mpf([-INTERVAL.inf, INTERVAL.inf])
_TOLERANCE = 1e-10
_BOXES = 3000
_FARTHEST = 2.0**64
_FIRST_TAIL = 4.0
_HUGE = 1e100
_LARGE = 1e6
"""A derivative that reaches this is called unbounded when no bound of it is found."""


class UnprovedError(Exception):
    """No bound was proved; the message completes "the first derivative of f …"."""


@dataclass(order=True)
class _Box:
    """An interval, at sign · x for infinite ones, with an upper bound of the function on it."""

    priority: float
    serial: int
    lower: Any = field(compare=False)
    upper: Any = field(compare=False)
    bound: Any = field(compare=False)
    direction: int = field(compare=False, default=0)


def enclosed_range(branch: Branch, tolerance: float = _TOLERANCE) -> tuple[float, float]:
    """Lower and upper bound of a branch, each within the tolerance (relative to the range).

    Raises:
        UnprovedError: With the reason.
        UnsupportedError: The formula holds a function without interval evaluation.
    """
    searched = one_period(branch)
    formula = shortest(branch.formula)
    upper = _Maximiser(formula, searched, tolerance).supremum()
    lower = _Maximiser(-formula, searched, tolerance).supremum()
    return 0.0 - lower, upper


def one_period(branch: Branch) -> Branch:
    """One period, where a branch that is all of ℝ has x in sines and cosines only."""
    waves = [w for w in branch.formula.atoms(sympy.sin, sympy.cos) if w.has(X)]
    rest = branch.formula.xreplace({wave: sympy.Dummy() for wave in waves})
    rates = [wave.args[0].diff(X) for wave in waves]
    if rest.has(X) or not rates or (branch.lower, branch.upper) != (-sympy.oo, sympy.oo):
        return branch
    ratios = [sympy.cancel(rate / rates[0]) for rate in rates if not rate.has(X)]
    if len(ratios) < len(rates) or not all(ratio.is_Rational for ratio in ratios):
        return branch
    period = 2 * sympy.pi / abs(rates[0] * sympy.gcd_list(ratios))
    return Branch(sympy.Integer(0), period, branch.formula)


def lower_bound(branch: Branch) -> float:
    """A lower bound of a branch that is within 1e-10 of its infimum.

    Raises:
        UnprovedError: With the reason.
        UnsupportedError: The formula holds a function without interval evaluation.
    """
    return 0.0 - _Maximiser(-shortest(branch.formula), branch).supremum()


class _Maximiser:
    """Best-first search for the supremum of a formula on a branch's interval."""

    def __init__(self, formula: sympy.Expr, branch: Branch, tolerance: float = _TOLERANCE) -> None:
        arithmetic = IntervalArithmetic()
        self._tolerance = tolerance
        self._formula = formula
        self._value = Program((formula,), arithmetic)
        self._with_slope = Program((formula, shortest(sympy.diff(formula, X))), arithmetic)
        self._heap: list[_Box] = []
        self._serial = 0
        self._best: Any = None
        self._scale = 0.0
        left = None if branch.lower == -sympy.oo else number_enclosure(branch.lower)
        right = None if branch.upper == sympy.oo else number_enclosure(branch.upper)
        start = -INTERVAL.mpf(_FIRST_TAIL) if left is None else left.a
        end = INTERVAL.mpf(_FIRST_TAIL) if right is None else right.b
        if left is None and right is not None:
            start = INTERVAL.mpf(min(-_FIRST_TAIL, 2 * float(right.a) - _FIRST_TAIL))
        if right is None and left is not None:
            end = INTERVAL.mpf(max(_FIRST_TAIL, 2 * float(left.b) + _FIRST_TAIL))
        self._push(start, end)
        if left is None:
            self._push_tail(-start, -1)
        if right is None:
            self._push_tail(end, 1)

    def supremum(self) -> float:
        """An upper bound that is within the tolerance of the supremum, rounded up."""
        for _ in range(_BOXES):
            box = self._heap[0]
            if self._best is None:
                raise UnprovedError("has no value where it was looked for")
            if self._scale > _HUGE:
                raise UnprovedError("is unbounded")
            tolerance = self._tolerance * max(abs(float(self._best.b)), 1e-3 * self._scale, 1e-30)
            if box.bound.b <= self._best.a + tolerance:
                # The heap is ordered by float64: no bound exceeds the next one after the largest.
                return math.nextafter(max(-box.priority, float(self._best.b)), math.inf)
            heapq.heappop(self._heap)
            if box.direction:
                self._split_tail(box)
            else:
                middle = (box.lower + box.upper).b / 2
                middle = INTERVAL.mpf(middle.b)
                self._push(box.lower, middle)
                self._push(middle, box.upper)
        if self._scale > _LARGE:
            raise UnprovedError("is unbounded")
        raise UnprovedError(
            f"could not be enclosed to 1e-10 near x = {float(self._heap[0].lower):.6g}"
        )

    def _push(self, lower: Any, upper: Any) -> None:
        box = INTERVAL.mpf([lower.a, upper.b])
        middle = INTERVAL.mpf(((lower + upper) / 2).b)
        try:
            self._sample(middle)
            value, slope = self._with_slope(box)
        except SingularIntervalError:
            self._add(lower, upper, _EVERYTHING, 0)
            return
        if slope.a >= 0 or slope.b <= 0:
            end = INTERVAL.mpf(upper.b) if slope.a >= 0 else INTERVAL.mpf(lower.a)
            bound = self._sample(end)
        else:
            mean_value = self._value(middle)[0] + slope * (box - middle)
            bound = mean_value if mean_value.b < value.b else value
        self._add(lower, upper, bound, 0)

    def _push_tail(self, start: Any, direction: int) -> None:
        """The box from start to ∞ in direction ±1; ``start`` > 0 either way."""
        distance = float(start)
        with suppress(SingularIntervalError):
            self._sample(INTERVAL.mpf(direction * start))
        formula = self._formula if direction > 0 else self._formula.subs(X, -X)
        bound = _EVERYTHING
        try:
            found, arithmetic = tail(formula, distance)
            if arithmetic.grows(found):
                raise UnprovedError("is unbounded")
            bound = arithmetic.enclosure(found)
        except UnknownTailError:
            if distance >= _FARTHEST:
                side = "∞" if direction > 0 else "−∞"
                raise UnprovedError(
                    "is unbounded"
                    if self._scale > _LARGE
                    else f"could not be bounded as x → {side}"
                ) from None
        self._add(start, start, bound, direction)

    def _split_tail(self, box: _Box) -> None:
        far = INTERVAL.mpf((2 * box.lower).b)
        if float(far) > 1e300:
            raise UnprovedError("could not be enclosed to 1e-10 far from zero")
        near_end, far_end = (box.lower, far) if box.direction > 0 else (-far, -box.lower)
        self._push_tail(far, box.direction)
        self._push(near_end, far_end)

    def _sample(self, point: Any) -> Any:
        value = self._value(point)[0]
        if value.a == value.a and (self._best is None or value.a > self._best.a):
            self._best = value
        self._scale = max(self._scale, float(value.a), -float(value.b))
        return value

    def _add(self, lower: Any, upper: Any, bound: Any, direction: int) -> None:
        self._serial += 1
        priority = -float(bound.b)
        if math.isnan(priority):
            bound, priority = _EVERYTHING, -math.inf
        heapq.heappush(self._heap, _Box(priority, self._serial, lower, upper, bound, direction))
