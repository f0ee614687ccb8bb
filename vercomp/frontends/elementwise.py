"""Elementwise arithmetic as formulas: how front ends recognise activations.

A front end keeps what it computes elementwise as one sympy expression in ``X`` over the value of a
node, however the source spells it (``x * sigmoid(x)``, an erf-GELU in five operators, a softplus
with its threshold). Only where something else reads the value is the expression taken apart:
:func:`decompose` finds the activations in it, by value and not by structure, and what is affine
around them.

Numbers enter exactly: a float32 constant stays the rational number that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sympy
import torch
from torch import Tensor

from vercomp.activations import ActivationTable
from vercomp.ir.activation import Activation, X


def number(value: float) -> sympy.Expr:
    """A float, exactly: a rational number, or ±∞ (an open end of a clip)."""
    if value in (float("inf"), float("-inf")):
        return sympy.oo if value > 0 else -sympy.oo
    return sympy.Rational(value)


def choose(condition: sympy.Basic, positive: sympy.Expr, negative: sympy.Expr) -> sympy.Expr:
    """``positive`` where the condition holds, else ``negative``."""
    if condition in (sympy.true, sympy.false):
        return positive if condition == sympy.true else negative
    return sympy.Piecewise((positive, condition), (negative, True), evaluate=False)


def of_numbers(formula: Callable[..., sympy.Basic]) -> Callable[..., sympy.Basic]:
    """The formula with 1 and 0 for truth values among its arguments."""

    def converted(*values: sympy.Basic) -> sympy.Basic:
        return formula(*(v if isinstance(v, sympy.Expr) else choose(v, 1, 0) for v in values))

    return converted


def sigmoid(x: sympy.Expr) -> sympy.Expr:
    """1 / (1 + exp(−x))."""
    return 1 / (1 + sympy.exp(-x))


def softplus(x: sympy.Expr, beta: float = 1.0, threshold: float = 20.0) -> sympy.Expr:
    """log(1 + exp(βx)) / β; torch's jump at its usual threshold is the activation's deviation."""
    scaled = number(beta) * x
    smooth = sympy.log(1 + sympy.exp(scaled)) / number(beta)
    return smooth if threshold >= 20.0 else choose(scaled > number(threshold), x, smooth)


def elu(x: sympy.Expr, alpha: float = 1.0, scale: float = 1.0, slope: float = 1.0) -> sympy.Expr:
    """scale · (x where x > 0, else α(exp(slope · x) − 1)); SELU and CELU are of this form."""
    negative = number(alpha) * (sympy.exp(number(slope) * x) - 1)
    return choose(x > 0, number(scale) * x, number(scale) * negative)


def celu(x: sympy.Expr, alpha: float = 1.0) -> sympy.Expr:
    """x where x > 0, else α(exp(x/α) − 1)."""
    return choose(x > 0, x, number(alpha) * (sympy.exp(x / number(alpha)) - 1))


def gelu(x: sympy.Expr, approximate: str = "none") -> sympy.Expr:
    """x Φ(x), or its approximation by tanh."""
    if approximate == "tanh":
        cubic = x + sympy.Rational("0.044715") * x**3
        return x * (1 + sympy.tanh(sympy.sqrt(2 / sympy.pi) * cubic)) / 2
    return x * (1 + sympy.erf(x / sympy.sqrt(2))) / 2


def leaky_relu(x: sympy.Expr, slope: float = 0.01) -> sympy.Expr:
    """x where x > 0, else slope · x."""
    return choose(x > 0, x, number(slope) * x)


def clip(x: sympy.Expr, lower: float, upper: float) -> sympy.Expr:
    """min(max(x, lower), upper)."""
    return sympy.Min(sympy.Max(x, number(lower)), number(upper))


def softsign(x: sympy.Expr) -> sympy.Expr:
    """x / (1 + |x|)."""
    return x / (1 + sympy.Abs(x))


def silu(x: sympy.Expr) -> sympy.Expr:
    """x · sigmoid(x)."""
    return x * sigmoid(x)


def mish(x: sympy.Expr) -> sympy.Expr:
    """x · tanh(softplus(x))."""
    return x * sympy.tanh(softplus(x))


def hardsigmoid(x: sympy.Expr, alpha: float | None = None, beta: float = 0.5) -> sympy.Expr:
    """clip(αx + β, 0, 1) with α = 1/6 unless said otherwise."""
    slope = sympy.Rational(1, 6) if alpha is None else number(alpha)
    return clip(slope * x + number(beta), 0, 1)


def hardswish(x: sympy.Expr) -> sympy.Expr:
    """x · clip(x + 3, 0, 6) / 6."""
    return x * hardsigmoid(x)


class Matcher:
    """Looks formulas up in a table of activations, each once.

    Args:
        table: The activations to recognise.
    """

    def __init__(self, table: ActivationTable) -> None:
        self.table = table
        self._found: dict[sympy.Basic, Activation | None] = {}

    def match(self, expression: sympy.Basic) -> Activation | None:
        """The activation that the expression computes, or None.

        What grows faster than a parabola is none (its first derivative is unbounded); values at
        ±50 tell that much sooner than the table would.
        """
        if expression not in self._found:
            wild = isinstance(expression, sympy.Expr) and _grows(expression)
            self._found[expression] = None if wild else self.table.match(expression)
        return self._found[expression]


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
    something of an activation (the innermost first); something of an affine part; a maximum or
    minimum of two things.
    """
    if not isinstance(expression, sympy.Expr) or not expression.has(X):
        return None
    return (
        simple(expression, table)
        or _outer_affine(expression, table)
        or _sum(expression, table)
        or _of_activation(expression, table)
        or _of_affine(expression, table)
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
            plan = _matched(outer, table)
            if plan is not None:
                return _substitute(plan, Combination(((coefficient, Leaf()),), offset))
    return None


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


_TORCH: dict[type, Callable[..., Tensor]] = {
    sympy.exp: torch.exp,
    sympy.log: torch.log,
    sympy.tanh: torch.tanh,
    sympy.sin: torch.sin,
    sympy.cos: torch.cos,
    sympy.atan: torch.atan,
    sympy.erf: torch.erf,
    sympy.Abs: torch.abs,
    sympy.sign: torch.sign,
    sympy.Gt: torch.gt,
    sympy.Ge: torch.ge,
    sympy.Lt: torch.lt,
    sympy.Le: torch.le,
    sympy.Pow: torch.pow,
    sympy.Add: torch.add,
    sympy.Mul: torch.mul,
    sympy.Max: torch.maximum,
    sympy.Min: torch.minimum,
}


def evaluate(expression: sympy.Basic, x: Tensor) -> Tensor:
    """The value of an expression at a tensor: how the reference interpreter runs what no
    activation matches. Not meant for anything else (no care is taken of overflow).
    """
    if expression == X:
        return x
    if expression in (sympy.true, sympy.false):
        return torch.full_like(x, bool(expression), dtype=torch.bool)
    if expression.is_number:
        return torch.full_like(x, float(expression))
    if isinstance(expression, sympy.Piecewise):
        result = torch.full_like(x, float("nan"))
        for value, condition in reversed(expression.args):
            chosen = evaluate(condition, x).bool()  # a node may hold a truth value as 0 or 1
            result = torch.where(chosen, evaluate(value, x), result)
        return result
    values = [evaluate(part, x) for part in expression.args]
    total = values[0]
    if isinstance(expression, sympy.Add | sympy.Mul | sympy.Max | sympy.Min):
        for value in values[1:]:
            total = _TORCH[type(expression)](total, value)
        return total
    return _TORCH[type(expression)](*values)
