"""Piecewise formulas, split into smooth branches.

sympy differentiates Piecewise, Abs and Max as if there were no jump (or with a DiracDelta that
numbers never see). Here a formula is taken apart at its breakpoints first; each branch is smooth,
and what happens at a breakpoint is checked by whoever needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import sympy
from sympy.core.relational import Relational

from vercomp.activations.functions import stabilise
from vercomp.errors import UnsupportedError
from vercomp.ir.activation import X

_JUMPING = (
    sympy.Abs,
    sympy.sign,
    sympy.Heaviside,
    sympy.Max,
    sympy.Min,
    sympy.Piecewise,
)

_LARGEST_EXPONENT = 10**4
"""Values of exp beyond this are not written down in digits."""


@dataclass(frozen=True)
class Branch:
    """A formula without conditions on the interval between two breakpoints (or ±∞)."""

    lower: sympy.Expr
    upper: sympy.Expr
    formula: sympy.Expr

    def derivative(self, order: int) -> Branch:
        """The branch of the derivative of that order."""
        formula = self.formula
        for _ in range(order):  # at once, sympy would simplify, and take its time
            formula = sympy.diff(formula, X)
        return Branch(self.lower, self.upper, formula)


def branches(formula: sympy.Expr) -> tuple[Branch, ...]:
    """The smooth branches of a formula, from left to right.

    Raises:
        UnsupportedError: The breakpoints cannot be found exactly.
    """
    merged: list[Branch] = []
    for branch in _split(formula, -sympy.oo, sympy.oo):
        smooth = stabilise(branch.formula)
        if merged and merged[-1].formula == smooth:
            merged[-1] = Branch(merged[-1].lower, branch.upper, smooth)
        else:
            merged.append(Branch(branch.lower, branch.upper, smooth))
    return tuple(merged)


def _split(formula: sympy.Expr, lower: sympy.Expr, upper: sympy.Expr) -> Iterator[Branch]:
    node = _innermost(formula)
    if node is None:
        yield Branch(lower, upper, formula)
        return
    points = {point for equation in _equations(node) for point in _zeros(equation)}
    inside = sorted(point for point in points if lower < point < upper)
    edges = [lower, *inside, upper]
    for left, right in pairwise(edges):
        chosen = _chosen(node, inner_point(left, right))
        yield from _split(formula.xreplace({node: chosen}), left, right)


def _innermost(formula: sympy.Expr) -> sympy.Expr | None:
    """A node with conditions whose parts have none."""
    for node in sympy.postorder_traversal(formula):
        if isinstance(node, _JUMPING) and node.has(X):
            return node
    return None


def _equations(node: sympy.Expr) -> Iterator[sympy.Expr]:
    """Expressions whose zeros are where the node changes its branch."""
    if isinstance(node, sympy.Abs | sympy.sign | sympy.Heaviside):
        yield node.args[0]
    elif isinstance(node, sympy.Max | sympy.Min):
        for index, first in enumerate(node.args):
            for second in node.args[:index]:
                yield first - second
    else:
        for relation in node.atoms(Relational):
            yield relation.lhs - relation.rhs


def _zeros(expression: sympy.Expr) -> Iterator[sympy.Expr]:
    if not expression.has(X):
        return
    inner = _inverted(expression)
    if inner is not None:
        yield from _zeros(inner)
        return
    try:
        exact = expression.replace(lambda e: isinstance(e, sympy.Float), sympy.Rational)
        if sympy.degree(exact, X) == 1 and exact.is_polynomial(X):
            slope = exact.diff(X)
            yield -exact.subs(X, 0) / slope
            return
        polynomial = sympy.Poly(exact, X)
        yield from (root for root in set(polynomial.real_roots()))
    except (sympy.PolynomialError, NotImplementedError) as error:
        raise UnsupportedError(
            f"the breakpoints of a formula cannot be found: the zeros of {expression}",
            remedy="Write its conditions with polynomials",
        ) from error


def _inverted(expression: sympy.Expr) -> sympy.Expr | None:
    """u − F⁻¹(c), where the expression is a multiple of F(u) − c with F = exp, log; else None.

    0 stands for an expression without zeros.
    """
    offset, rest = expression.as_independent(X, as_Add=True)
    coefficient, core = rest.as_independent(X, as_Add=False)
    value = -offset / coefficient
    if isinstance(core, sympy.exp):
        return core.args[0] - sympy.log(value) if value > 0 else sympy.Integer(0)
    if isinstance(core, sympy.log) and abs(value) < _LARGEST_EXPONENT:
        return core.args[0] - sympy.exp(value)
    return None


def inner_point(lower: sympy.Expr, upper: sympy.Expr) -> sympy.Expr:
    """Some number between two, either of which may be infinite."""
    if lower == -sympy.oo:
        return sympy.Integer(0) if upper == sympy.oo else sympy.floor(upper) - 1
    return sympy.ceiling(lower) + 1 if upper == sympy.oo else (lower + upper) / 2


def _chosen(node: sympy.Expr, sample: sympy.Expr) -> sympy.Expr:
    """What the node is on the interval that holds the sample point."""
    if isinstance(node, sympy.Abs):
        inner = node.args[0]
        return inner if inner.subs(X, sample) > 0 else -inner
    if isinstance(node, sympy.sign):
        return sympy.Integer(1 if node.args[0].subs(X, sample) > 0 else -1)
    if isinstance(node, sympy.Heaviside):
        return sympy.Integer(1 if node.args[0].subs(X, sample) > 0 else 0)
    if isinstance(node, sympy.Max | sympy.Min):
        chosen, *others = node.args
        for other in others:  # of differences, N finds the sign however large both sides are
            above = sympy.N((other - chosen).subs(X, sample), 15) > 0
            chosen = other if above == isinstance(node, sympy.Max) else chosen
        return chosen
    for value, condition in node.args:
        if condition == sympy.true or condition.subs(X, sample) == sympy.true:
            return value
    raise UnsupportedError(
        f"the formula has no branch at x = {sample}",
        remedy="End the Piecewise with (value, True)",
    )
