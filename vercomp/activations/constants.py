"""Activation constants: g and h, the ranges of σ′ and σ″ over ℝ, derived and rounded outward.

σ is differentiated branch by branch. σ must be continuous at the breakpoints; where σ′ jumps there
is no σ″ and no bound of curvature; where σ″ jumps, its range takes both one-sided limits. Ranges
are closed forms where they are found (:mod:`vercomp.activations.closed_form`), and proved
enclosures elsewhere (:mod:`vercomp.activations.branch_and_bound`). What is not proved is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import sympy

from vercomp.activations.branch_and_bound import UnprovedError, enclosed_range
from vercomp.activations.branches import Branch, branches
from vercomp.activations.closed_form import exact_range, numeric
from vercomp.activations.formula_text import formula_text
from vercomp.activations.functions import in_terms_of_exp
from vercomp.activations.singularities import check_smooth
from vercomp.errors import UnboundedCurvatureError, UnsupportedError
from vercomp.ir.activation import Activation, ActivationConstants, X

SMOOTH = "Use a smooth activation instead: softplus, GELU, SiLU, tanh or sigmoid"

_LONGEST_TEXT = 40
_ORDINAL = {0: "value", 1: "first derivative", 2: "second derivative"}


@dataclass(frozen=True)
class _Bound:
    """One end of a range: a float64 on the outer side, and the closed form where there is one."""

    value: float
    exact: sympy.Expr | None


@lru_cache(maxsize=1024)
def constants(activation: Activation) -> ActivationConstants:
    """g_L ≤ σ′ ≤ g_U and h_L ≤ σ″ ≤ h_U over ℝ, each within 1e-9 of the truth, outward.

    Where σ′ jumps there is no range of σ″ (see :func:`curvature_constants`).

    Raises:
        UnboundedCurvatureError: σ jumps, σ′ or σ″ is unbounded, or no bound can be proved.
    """
    try:
        parts = smooth_branches(activation)
        jump = jump_of(activation, parts, 0)
        if jump:
            raise UnboundedCurvatureError(jump, remedy=SMOOTH)
        jump = jump_of(activation, parts, 1)
        ranges = [_range(activation, parts, order) for order in ((1,) if jump else (1, 2))]
    except UnsupportedError as error:
        if isinstance(error, UnboundedCurvatureError):
            raise
        raise UnboundedCurvatureError(
            f"the derivatives of {activation} could not be bounded: {error.message}",
            remedy=error.remedy or SMOOTH,
        ) from error
    first, *second = [(lower.value, upper.value) for lower, upper in ranges]
    return ActivationConstants(first, second[0] if second else None, _origin(ranges), jump)


def curvature_constants(activation: Activation) -> ActivationConstants:
    """The constants of an activation that has curvature: σ″ exists and is bounded.

    Raises:
        UnboundedCurvatureError: σ′ or σ″ is unbounded or σ′ jumps, or no bound can be proved.
    """
    found = constants(activation)
    if found.second_range is None:
        raise UnboundedCurvatureError(found.jump, remedy=SMOOTH)
    return found


def smooth_branches(activation: Activation) -> tuple[Branch, ...]:
    """The branches of an activation's formula, each proved to be smooth.

    Raises:
        UnsupportedError: There is no proof, or the breakpoints cannot be found.
    """
    parts = branches(activation.formula)
    for part in parts:
        check_smooth(part)
    return parts


def jump_of(activation: Activation, parts: Sequence[Branch], order: int) -> str:
    """Where the derivative of that order jumps first, as a sentence; empty if it does not."""
    pieces = [part.derivative(order) for part in parts]
    for left, right in pairwise(pieces):
        at = left.upper
        jump = right.formula.subs(X, at) - left.formula.subs(X, at)
        jump = sympy.simplify(in_terms_of_exp(jump))
        if jump == 0:
            continue
        what = f"the {_ORDINAL[order]} of {activation}"
        return (
            f"{what} jumps at x = {formula_text(at)}, so curvature does not exist there"
            if jump.is_finite
            else f"{what} has no finite value at x = {formula_text(at)}"
        )
    return ""


def _range(activation: Activation, parts: Sequence[Branch], order: int) -> tuple[_Bound, _Bound]:
    lower: list[_Bound] = []
    upper: list[_Bound] = []
    for part in parts:
        derivative = part.derivative(order)
        exact = exact_range(derivative)
        if exact is not None:
            lower.append(_Bound(rounded_down(exact[0]), exact[0]))
            upper.append(_Bound(0.0 - rounded_down(-exact[1]), exact[1]))
            continue
        try:
            proved = enclosed_range(derivative)
        except UnprovedError as error:
            raise UnboundedCurvatureError(
                f"the {_ORDINAL[order]} of {activation} {error}", remedy=SMOOTH
            ) from error
        lower.append(_Bound(proved[0], None))
        upper.append(_Bound(proved[1], None))
    return (
        min(lower, key=lambda bound: bound.value),
        max(upper, key=lambda bound: bound.value),
    )


def rounded_down(value: sympy.Expr) -> float:
    """The largest float64 that is not above an exact number."""
    if isinstance(value, sympy.Rational):
        nearest = float(value)
        return (
            nearest + 0.0
            if sympy.Rational(nearest) <= value
            else math.nextafter(nearest, -math.inf)
        )
    digits = sympy.Rational(numeric(value))
    safe = digits - max(abs(digits), sympy.Rational(1, 10**15)) * sympy.Rational(1, 10**45)
    nearest = float(safe)
    return nearest if sympy.Rational(nearest) <= safe else math.nextafter(nearest, -math.inf)


def _origin(ranges: Sequence[tuple[_Bound, _Bound]]) -> str:
    exact: list[str] = []
    enclosed: list[str] = []
    for symbol, (lower, upper) in zip(("σ′", "σ″")[: len(ranges)], ranges, strict=True):
        if lower.exact is None or upper.exact is None:
            enclosed.append(symbol)
        else:
            exact.append(f"{symbol} ∈ [{_written(lower)}, {_written(upper)}]")
    parts = [f"exact: {', '.join(exact)}"] if exact else []
    if enclosed:
        parts.append(f"enclosed by interval branch and bound: {', '.join(enclosed)}")
    return "; ".join(parts)


def _written(bound: _Bound) -> str:
    """The closed form, or the number where that is no help to a reader."""
    text = formula_text(bound.exact)
    return text if len(text) <= _LONGEST_TEXT else f"{bound.value:.10g}"
