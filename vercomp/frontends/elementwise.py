"""Elementwise arithmetic as formulas: how front ends recognise activations.

A front end keeps what it computes elementwise as one sympy expression in ``X`` over the value of a
node, however the source spells it (``x * sigmoid(x)``, an erf-GELU in five operators, a softplus
with its threshold). Only where something else reads the value is the expression taken apart:
:mod:`vercomp.frontends.decomposition` finds the activations in it, by value and not by structure,
and what is affine around them.

Numbers enter exactly: a float32 constant stays the rational number that it is.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy
import torch
from torch import Tensor

from vercomp.ir.activation import X


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


def threshold(x: sympy.Expr, limit: float, value: float) -> sympy.Expr:
    """x where x > limit, else a value."""
    return choose(x > number(limit), x, number(value))


def shrink(x: sympy.Expr, limit: float, bias: float) -> sympy.Expr:
    """x − bias where x > limit, x + bias where x < −limit, 0 between."""
    if bias == limit:
        return sympy.Max(x - number(limit), 0) - sympy.Max(-x - number(limit), 0)
    pieces = (x - number(bias), x > number(limit)), (x + number(bias), x < -number(limit))
    return sympy.Piecewise(*pieces, (0, True), evaluate=False)


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


_TORCH: dict[type, Callable[..., Tensor]] = {
    sympy.exp: torch.exp,
    sympy.log: torch.log,
    sympy.tanh: torch.tanh,
    sympy.sinh: torch.sinh,
    sympy.cosh: torch.cosh,
    sympy.asinh: torch.asinh,
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
