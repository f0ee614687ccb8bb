"""Whether two formulas compute the same function, as far as values tell.

A function that leaves another one at a breakpoint (a clip at 1000, a step between two points of
comparison) has the same values wherever nobody looks. So every breakpoint of either formula is
found exactly and looked at from both sides; between breakpoints both must be proved smooth, and are
compared near and far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import sympy

from vercomp.activations.branches import branches
from vercomp.activations.evaluation import REAL
from vercomp.activations.singularities import check_smooth
from vercomp.errors import UnsupportedError

_CLOSEST, _FARTHEST = -9, 6
"""Points of comparison lie 10ᵏ from the end of a piece, for k from −9 to 6."""

_MULTIPLES = ("0.00137", "0.37", "1.37", "13.7", "1370", "1.37e6")
"""Points of comparison lie as many times as far from a breakpoint as that is from zero: a clip at
1e20 is seen only there."""

_OUT_OF_SIGHT = ("1.37e12", "1.37e20")
"""Distances from zero at which a slope of 1e-20 beside a bounded function shows."""

_SPREAD = 1.37
"""A factor that keeps points of comparison off round numbers."""

_STEPS = 24
"""Points spread evenly over a bounded piece, or over [−15, 15] of an unbounded one."""


def agree_everywhere(
    formula: sympy.Expr,
    other: sympy.Expr,
    agree: Callable[[Any], bool],
    valued: Callable[[Any], bool],
) -> bool:
    """Whether two formulas agree on every piece of either, and at the breakpoints themselves.

    Args:
        formula: A formula in ``X``.
        other: Another one.
        agree: Whether the two agree at a point, a number of 50 digits.
        valued: Whether either has a value there: out of sight, exponentials may have no exponent.
    """
    edges: set[Any] = set()
    try:
        for side in (formula, other):
            for branch in branches(side):
                check_smooth(branch)
                ends = (branch.lower, branch.upper)
                edges.update(_number(end) for end in ends if end not in (-sympy.oo, sympy.oo))
    except (UnsupportedError, ArithmeticError, ValueError, TypeError):
        return False
    points = list(_points(sorted(edges)))
    if not any(_grows_doubly(side) for side in (formula, other)):
        far = (sign * REAL.mpf(x) for x in _OUT_OF_SIGHT for sign in (-1, 1))
        points += filter(valued, far)
    return all(agree(point) for point in points)


def _grows_doubly(formula: sympy.Expr) -> bool:
    """Whether an exponential stands inside a function: far out its values have no exponent."""
    growing = (sympy.exp, sympy.sinh, sympy.cosh)
    return any(
        argument.has(*growing)
        for function in formula.atoms(sympy.Function)
        for argument in function.args
        if not isinstance(function, sympy.Piecewise)
    )


def _points(edges: Sequence[Any]) -> Iterator[Any]:
    yield from edges
    ends = [-REAL.inf, *edges, REAL.inf]
    for lower, upper in pairwise(ends):
        bounded = (
            (lower if REAL.isfinite(lower) else REAL.mpf(-15)),
            (upper if REAL.isfinite(upper) else REAL.mpf(15)),
        )
        step = (bounded[1] - bounded[0]) / _STEPS
        candidates = [bounded[0] + (k + REAL.mpf("0.47")) * step for k in range(_STEPS)]
        for k in range(_CLOSEST, _FARTHEST + 1):
            distance = _SPREAD * REAL.mpf(10) ** k
            left = lower if REAL.isfinite(lower) else min(upper, REAL.mpf(0)) - 2 * distance
            right = upper if REAL.isfinite(upper) else max(lower, REAL.mpf(0)) + 2 * distance
            candidates += [left + distance, right - distance]
        for multiple in map(REAL.mpf, _MULTIPLES):
            candidates += [lower + multiple * abs(lower)] if REAL.isfinite(lower) else []
            candidates += [upper - multiple * abs(upper)] if REAL.isfinite(upper) else []
        yield from (point for point in candidates if lower < point < upper)


def _number(value: sympy.Expr) -> Any:
    return REAL.mpf(str(sympy.N(value, REAL.dps + 5)))
