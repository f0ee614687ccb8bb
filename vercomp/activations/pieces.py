"""The monotone pieces of σ, σ′ and σ″, derived from the formula and proved.

Every branch of the formula is smooth. The signs of σ‴ on it, found once, give the pieces of σ″, and
those give the pieces of σ′ and of σ (:mod:`vercomp.activations.signs`). Between branches, a
breakpoint is a turn if the function jumps there or changes its direction (a pause is one). What is
not proved is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import sympy

from vercomp.activations.branch_and_bound import UnprovedError, enclosed_range, one_period
from vercomp.activations.branches import Branch
from vercomp.activations.closed_form import exact_range
from vercomp.activations.constants import constants, rounded_down, smooth_branches
from vercomp.activations.enclosures import Enclosed, rounded
from vercomp.activations.signs import (
    Signs,
    outward,
    signs_by_factors,
    signs_by_monotonicity,
)
from vercomp.activations.tails import UnknownTailError, limit, tail
from vercomp.core.pieces import Pieces, Range, Turn
from vercomp.errors import UnsupportedError
from vercomp.ir.activation import Activation, ActivationConstants, X

_SYMBOLS = ("σ", "σ′", "σ″")
_CHARACTERS = {1: "+", -1: "-", 0: "0"}
_MOST = 64
"""More turns than this are refused: every one costs time wherever intervals are bounded."""

_ROUGHLY = 1e-2
"""The tolerance of bounds of |σ‴|, which only rounding errors are multiplied with."""

_PHASE = sympy.Rational(-3, 16)
"""Where the period begins, in periods: away from zero, where waves like to turn."""

_FAR = 64.0

_REALS = (-math.inf, math.inf)


@lru_cache(maxsize=1024)
def pieces(activation: Activation) -> tuple[Pieces, ...]:
    """The monotone pieces of σ, σ′ and σ″; without those of σ″ where σ′ jumps.

    Raises:
        UnsupportedError: They are not proved, or have no end: the message names the activation.
    """
    found = constants(activation)
    parts = smooth_branches(activation)
    ranges = (_value_range(parts), found.first_range, found.second_range or _REALS)
    derived: list[Pieces] = []
    signs: Sequence[Signs] | None = None
    for order in (2, 1, 0):
        try:
            steepest = _steepest(parts, order, found)
            period = _period(parts, order)
            if period is not None:
                signs = None
                derived.append(
                    _periodic(parts[0].derivative(order), period, ranges[order], steepest)
                )
                continue
            signs = _signs(parts, order, signs, (*ranges, _REALS)[order + 1])
            derived.append(_joined(parts, order, signs, ranges[order], steepest))
        except (UnprovedError, UnsupportedError) as error:
            reason = error.message if isinstance(error, UnsupportedError) else str(error)
            raise UnsupportedError(
                f"the monotone pieces of {activation} are not proved: {_SYMBOLS[order]} {reason}",
                remedy="Bounds on intervals need finitely many turning points, or a period",
            ) from error
    value, first, second = reversed(derived)
    return (value, first) if found.second_range is None else (value, first, second)


def _value_range(parts: Sequence[Branch]) -> Range:
    """Bounds of σ itself, where closed forms give any."""
    found = [exact_range(part) for part in parts]
    lower = [-math.inf if ends is None else rounded_down(ends[0]) for ends in found]
    upper = [math.inf if ends is None else -rounded_down(-ends[1]) for ends in found]
    return min(lower), max(upper)


def _steepest(parts: Sequence[Branch], order: int, found: ActivationConstants) -> float:
    """A bound of the next derivative, wherever it exists."""
    if order == 0 or (order == 1 and found.second_range is not None):
        return found.h if order else found.g
    sizes: list[float] = []
    for part in parts:
        derivative = part.derivative(order + 1)
        exact = exact_range(derivative)
        ends = (
            enclosed_range(derivative, _ROUGHLY)
            if exact is None
            else (rounded_down(exact[0]), -rounded_down(-exact[1]))
        )
        sizes += map(abs, ends)
    return max(sizes)


def _period(parts: Sequence[Branch], order: int) -> sympy.Expr | None:
    """The period of the derivative of that order, if it is a formula of sines and cosines."""
    derivative = parts[0].derivative(order)
    searched = one_period(derivative)
    return None if searched == derivative else searched.upper - searched.lower


def _signs(
    parts: Sequence[Branch], order: int, monotone: Sequence[Signs] | None, bounds: Range
) -> list[Signs]:
    """The signs of the next derivative on every branch, from those of the one after it."""
    derivatives = [part.derivative(order + 1) for part in parts]
    if order == 2:
        return [signs_by_factors(derivative) for derivative in derivatives]
    known = [None] * len(parts) if monotone is None else monotone
    return [
        signs_by_monotonicity(derivative, signs, bounds)
        for derivative, signs in zip(derivatives, known, strict=True)
    ]


def _joined(
    parts: Sequence[Branch], order: int, signs: Sequence[Signs], bounds: Range, steepest: float
) -> Pieces:
    """The pieces of all branches, from −∞ to ∞."""
    functions = [Enclosed(part.derivative(order)) for part in parts]
    turns = [_at_infinity(functions[0], -1, signs[0], bounds)]
    directions: list[int] = []
    for index, (f, found) in enumerate(zip(functions, signs, strict=True)):
        first = found.signs[0]
        turn = _between(functions[index - 1], f) if index else None
        if turn is None:
            directions.append(first)
        elif turn.right is not None or directions[-1] != first:
            turns.append(turn)
            directions.append(first)
        for zero, direction in zip(found.zeros, found.signs[1:], strict=True):
            turns.append(Turn(zero, _value(f, *zero, bounds)))
            directions.append(direction)
    turns.append(_at_infinity(functions[-1], 1, signs[-1], bounds))
    return _few(turns, directions, steepest)


def _periodic(branch: Branch, period: sympy.Expr, bounds: Range, steepest: float) -> Pieces:
    """The pieces of one period of a function."""
    start = _PHASE * period
    signs = signs_by_factors(Branch(start, start + period, branch.derivative(1).formula))
    f = Enclosed(branch)
    turns = [Turn(zero, _value(f, *zero, bounds)) for zero in signs.zeros]
    return _few(turns, signs.signs[1:], steepest, float(sympy.N(period, 30)))


def _few(
    turns: Sequence[Turn], directions: Sequence[int], steepest: float, period: float | None = None
) -> Pieces:
    if len(turns) > _MOST:
        raise UnprovedError(f"has more than {_MOST} turning points")
    return Pieces(tuple(turns), "".join(_CHARACTERS[d] for d in directions), steepest, period)


def _between(left: Enclosed, right: Enclosed) -> Turn:
    """The breakpoint between two branches."""
    point = right.branch.lower
    at = outward(point, -1), outward(point, 1)
    jump = sympy.simplify(right.branch.formula.subs(X, point) - left.branch.formula.subs(X, point))
    return Turn(at, _value(left, *at), None if jump == 0 else _value(right, *at))


def _at_infinity(f: Enclosed, direction: int, signs: Signs, bounds: Range) -> Turn:
    """The limit at ±∞: a number, an infinity, or what monotonicity and bounds leave of them."""
    at = (direction * math.inf,) * 2
    formula = f.branch.formula
    value = _rational_limit(formula) if formula.is_rational_function(X) else None
    value = limit(formula, direction) if value is None else value
    if value is not None:
        return Turn(at, (outward(value, -1), outward(value, 1)))
    try:
        found, arithmetic = tail(formula if direction > 0 else formula.subs(X, -X), _FAR)
        if arithmetic.grows(found):
            return Turn(at, (arithmetic.sign(found) * math.inf,) * 2)
    except UnknownTailError:
        pass
    outermost = [signs.zeros[-1][1] if direction > 0 else signs.zeros[0][0]] if signs.zeros else []
    far = direction * max((_FAR, *(2 * abs(zero) for zero in outermost)))
    low, high = _value(f, far, far)
    rises = direction * (signs.signs[-1] if direction > 0 else signs.signs[0]) > 0
    return Turn(at, (low, bounds[1]) if rises else (bounds[0], high))


def _rational_limit(formula: sympy.Expr) -> sympy.Expr | None:
    """The limit of a rational function at −∞ and at ∞, if it is finite."""
    above, below = (sympy.Poly(part, X) for part in sympy.fraction(sympy.together(formula)))
    if above.degree() > below.degree():
        return None
    same = above.degree() == below.degree()
    return sympy.simplify(above.LC() / below.LC()) if same else sympy.Integer(0)


def _value(f: Enclosed, lower: float, upper: float, bounds: Range = _REALS) -> Range:
    """Float64 bounds of f on an interval within its branch, exact at points where f is rational.

    ``bounds`` are proved bounds of f everywhere.
    """
    if lower == upper:
        exact = f.branch.formula.subs(X, sympy.Rational(lower))
        if exact.is_Rational:
            return outward(exact, -1), outward(exact, 1)
    low, high = rounded(f.over(lower, upper))
    return max(low, bounds[0]), min(high, bounds[1])
