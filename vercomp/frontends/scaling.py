"""Multiples of users' activations: a σ(cX) + b, with a, b and c read off derivatives at zero."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import sympy

from vercomp.activations import ActivationTable
from vercomp.ir.activation import Activation, X

_HIGHEST = 6
"""Derivatives beyond this are not looked at."""


@dataclass(frozen=True)
class Scaled:
    """outer · function(inner · X) + offset."""

    outer: sympy.Expr
    function: Activation
    inner: sympy.Expr
    offset: sympy.Expr


def scaled(expression: sympy.Expr, table: ActivationTable) -> Scaled | None:
    """An expression as a multiple of an activation that was added to the table, or None.

    Where F⁽ʲ⁾(0) and F⁽ᵏ⁾(0) are the first derivatives of F that are not zero, e = a F(cX) + b has
    e⁽ʲ⁾(0) = a cʲ F⁽ʲ⁾(0) and e⁽ᵏ⁾(0) = a cᵏ F⁽ᵏ⁾(0). What follows is checked by value, like
    everything that is recognised. A scale that the formula shows is found without this.
    """
    for family in table:
        if family.owner == "vercomp" or family.parameters:
            continue
        for outer, inner, offset in _candidates(expression, family.formula):
            bare = ((expression - offset) / outer).subs(X, X / inner)
            found = table.match(bare)
            if found is not None and found.name == family.name:
                return Scaled(outer, found, inner, offset)
    return None


def _candidates(
    expression: sympy.Expr, formula: sympy.Expr
) -> Iterator[tuple[sympy.Expr, sympy.Expr, sympy.Expr]]:
    """(a, c, b) with both signs of c where either may be meant."""
    first = list(islice(_derivatives(formula), 2))
    if len(first) < 2:
        return
    (j, f_j), (k, f_k) = first
    e_j, e_k = (_at_zero(sympy.diff(expression, X, order)) for order in (j, k))
    if e_j is None or e_k is None or e_j == 0 or e_k == 0:
        return
    power = sympy.simplify(e_k * f_j / (e_j * f_k))
    if power.is_negative and (k - j) % 2 == 0:
        return
    size = sympy.sign(power) * sympy.Abs(power) ** sympy.Rational(1, k - j)
    for inner in (size, -size) if (k - j) % 2 == 0 else (size,):
        outer = sympy.simplify(e_j / (inner**j * f_j))
        ends = _at_zero(expression), _at_zero(formula)
        if ends[0] is not None and ends[1] is not None and outer.is_real and outer != 0:
            yield outer, inner, sympy.simplify(ends[0] - outer * ends[1])


def _derivatives(formula: sympy.Expr) -> Iterator[tuple[int, sympy.Expr]]:
    """The orders in which a formula has a derivative at zero that is not zero, and those."""
    for order in range(1, _HIGHEST + 1):
        value = _at_zero(sympy.diff(formula, X, order))
        if value is None:
            return
        if value != 0:
            yield order, value


def _at_zero(formula: sympy.Expr) -> sympy.Expr | None:
    """The value at zero, exactly, where there is one."""
    value = formula.subs(X, 0)
    return sympy.simplify(value) if value.is_real and value.is_finite else None
