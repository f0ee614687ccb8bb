"""Formulas taken apart into the activations of a table and what is affine around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sympy
import torch

from vercomp.activations import ActivationTable
from vercomp.frontends.elementwise import evaluate
from vercomp.frontends.scaling import Scaled, scaled
from vercomp.ir.activation import Activation, X


class Matcher:
    """Looks formulas up in a table of activations, each once.

    Args:
        table: The activations to recognise.
    """

    def __init__(self, table: ActivationTable) -> None:
        self.table = table
        self._found: dict[sympy.Basic, Activation | None] = {}
        self._scaled: dict[sympy.Basic, Scaled | None] = {}

    def match(self, expression: sympy.Basic) -> Activation | None:
        """The activation that the expression computes, or None.

        What grows faster than a parabola is none (its first derivative is unbounded); values at
        ±50 tell that much sooner than the table would.
        """
        if expression not in self._found:
            wild = isinstance(expression, sympy.Expr) and _grows(expression)
            self._found[expression] = None if wild else self.table.match(expression)
        return self._found[expression]

    def scaled(self, expression: sympy.Expr) -> Scaled | None:
        """a σ(cX) + b for an activation that somebody has added to the table, or None."""
        if expression not in self._scaled:
            self._scaled[expression] = scaled(expression, self.table)
        return self._scaled[expression]


def _grows(expression: sympy.Expr) -> bool:
    values = evaluate(expression, torch.tensor([-50.0, 50.0], dtype=torch.float64))
    return bool((values.abs() > 1e8).any())


@dataclass(frozen=True)
class Leaf:
    """The value that an expression is over."""


@dataclass(frozen=True)
class Applied:
    """σ of a plan."""

    function: Activation
    inner: Plan


@dataclass(frozen=True)
class Combination:
    """offset + Σ coefficient · plan."""

    terms: tuple[tuple[sympy.Expr, Plan], ...]
    offset: sympy.Expr


Plan = Leaf | Applied | Combination
"""An expression taken apart into activations and what is affine around them."""


def affine_parts(expression: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr] | None:
    """(a, b) where the expression is aX + b, else None."""
    offset, rest = expression.as_independent(X, as_Add=True)
    coefficient, core = rest.as_independent(X, as_Add=False)
    return (coefficient, offset) if core == X else None


def simple(expression: sympy.Expr, table: Matcher) -> Plan | None:
    """At most one activation with at most affine arithmetic around it, or None."""
    if not isinstance(expression, sympy.Expr):
        return None
    if expression == X:
        return Leaf()
    affine = affine_parts(expression)
    if affine is not None:
        return Combination(((affine[0], Leaf()),), affine[1])
    activation = table.match(expression)
    return _matched(expression, table) if activation is None else Applied(activation, Leaf())


def decompose(expression: sympy.Expr, table: Matcher) -> Plan | None:
    """Activations of the table and affine arithmetic that compute the expression, or None.

    Tried in this order: affine; one activation; an affine part around something; a sum of things;
    something of an activation (the innermost first); something of an affine part; a multiple of a
    user's activation of a multiple; a maximum or minimum of two things.
    """
    if not isinstance(expression, sympy.Expr) or not expression.has(X):
        return None
    return (
        simple(expression, table)
        or _outer_affine(expression, table)
        or _sum(expression, table)
        or _of_activation(expression, table)
        or _of_affine(expression, table)
        or _of_multiple(expression, table)
        or _hinge(expression, table)
    )


def _outer_affine(expression: sympy.Expr, table: Matcher) -> Plan | None:
    offset, rest = expression.as_independent(X, as_Add=True)
    coefficient, core = rest.as_independent(X, as_Add=False)
    if (coefficient, offset) != (1, 0):
        plan = decompose(core, table)
        if plan is not None:
            return Combination(((coefficient, plan),), offset)
    # A GELU has a factor ½ of its own, which simplification merges with the one around it.
    half = table.match(core / 2)
    if half is None:
        return None
    return Combination(((2 * coefficient, Applied(half, Leaf())),), offset)


def _sum(expression: sympy.Expr, table: Matcher) -> Plan | None:
    if not isinstance(expression, sympy.Add):
        expanded = sympy.expand_mul(expression)
        return _sum(expanded, table) if isinstance(expanded, sympy.Add) else None
    terms: list[tuple[sympy.Expr, Plan]] = []
    offset, rest = expression.as_independent(X, as_Add=True)
    for part in sympy.Add.make_args(rest):
        plan = decompose(part, table)
        if plan is None:
            return None
        if isinstance(plan, Combination) and len(plan.terms) == 1 and plan.offset == 0:
            terms.append(plan.terms[0])
        else:
            terms.append((sympy.Integer(1), plan))
    return Combination(tuple(terms), offset)


def _hinge(expression: sympy.Expr, table: Matcher) -> Plan | None:
    """max(u, v) = v + max(u − v, 0) and min(u, v) = v − max(v − u, 0)."""
    if not isinstance(expression, sympy.Max | sympy.Min):
        return None
    bound, rest = expression.args[0], expression.func(*expression.args[1:])
    sign = 1 if isinstance(expression, sympy.Max) else -1
    relu = table.match(sympy.Max(X, 0))
    if relu is None:
        return None
    inner = decompose(sign * (rest - bound), table)
    if inner is None:
        return None
    if bound.is_number:
        return Combination(((sympy.Integer(sign), Applied(relu, inner)),), bound)
    outer = decompose(bound, table)
    if outer is None:
        return None
    one, other = (sympy.Integer(1), outer), (sympy.Integer(sign), Applied(relu, inner))
    return Combination((one, other), sympy.Integer(0))


def _of_activation(expression: sympy.Expr, table: Matcher) -> Plan | None:
    for part in _subexpressions(expression):
        outer = _over(expression, part)
        activation = table.match(part) if outer is not None else None
        plan = decompose(outer, table) if activation is not None else None
        if activation is not None and plan is not None:
            return _substitute(plan, Applied(activation, Leaf()))
    return None


def _of_affine(expression: sympy.Expr, table: Matcher) -> Plan | None:
    for part in _subexpressions(expression):
        affine = affine_parts(part)
        if affine is None:
            continue
        # A sigmoid of cx shows exp(−cx), an erf-GELU erf(cx/√2): the scale to take out is −1 or √2
        # times the one seen.
        for coefficient in (affine[0], -affine[0], sympy.sqrt(2) * affine[0]):
            offset = affine[1] * coefficient / affine[0]
            if (coefficient, offset) == (1, 0):
                continue
            outer = expression.subs(X, (X - offset) / coefficient)
            plan = _matched(outer, table) or (_of_multiple(outer, table) if offset != 0 else None)
            if plan is not None:
                return _substitute(plan, Combination(((coefficient, Leaf()),), offset))
    return None


def _of_multiple(expression: sympy.Expr, table: Matcher) -> Plan | None:
    """a σ(cX) + b for a user's σ, where no part of the formula shows c: exp(−2x²)."""
    found = table.scaled(expression)
    if found is None:
        return None
    inner = Applied(found.function, Combination(((found.inner, Leaf()),), sympy.Integer(0)))
    return Combination(((found.outer, inner),), found.offset)


def _matched(expression: sympy.Expr, table: Matcher) -> Plan | None:
    """An activation with at most an affine part around it: where taking apart must end."""
    offset, rest = expression.as_independent(X, as_Add=True)
    coefficient, core = rest.as_independent(X, as_Add=False)
    activation = table.match(core)
    if activation is None:
        return None
    plan = Applied(activation, Leaf())
    return plan if (coefficient, offset) == (1, 0) else Combination(((coefficient, plan),), offset)


def _subexpressions(expression: sympy.Expr) -> Iterator[sympy.Expr]:
    """Proper subexpressions that depend on X, the innermost first, each once."""
    seen = {expression, X}
    for part in sympy.postorder_traversal(expression):
        if isinstance(part, sympy.Expr) and part not in seen and part.has(X):
            seen.add(part)
            yield part


def _over(expression: sympy.Expr, part: sympy.Expr) -> sympy.Expr | None:
    """The expression with ``part`` as its variable, or None where X remains beside it."""
    variable = sympy.Symbol("y", real=True)
    outer = expression.subs(part, variable)
    return None if outer.has(X) else outer.subs(variable, X)


def _substitute(plan: Plan, leaf: Plan) -> Plan:
    """The plan over another leaf."""
    if isinstance(plan, Leaf):
        return leaf
    if isinstance(plan, Applied):
        return Applied(plan.function, _substitute(plan.inner, leaf))
    return Combination(
        tuple((coefficient, _substitute(inner, leaf)) for coefficient, inner in plan.terms),
        plan.offset,
    )
