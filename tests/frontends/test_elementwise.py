"""Formulas taken apart into activations and what is affine around them."""

from __future__ import annotations

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vercomp.activations import BUILTIN
from vercomp.frontends import elementwise
from vercomp.frontends.decomposition import (
    Applied,
    Combination,
    Leaf,
    Matcher,
    affine_parts,
    decompose,
)
from vercomp.ir.activation import X

MATCHER = Matcher(BUILTIN)
POINTS = torch.linspace(-6, 6, 41, dtype=torch.float64)


def run(plan, x):
    """A plan by its meaning."""
    if isinstance(plan, Leaf):
        return x
    if isinstance(plan, Applied):
        return plan.function.spelling(run(plan.inner, x))
    return sum((float(c) * run(inner, x) for c, inner in plan.terms), float(plan.offset))


def functions(plan):
    if isinstance(plan, Applied):
        return [plan.function.name, *functions(plan.inner)]
    if isinstance(plan, Combination):
        return [name for _, inner in plan.terms for name in functions(inner)]
    return []


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        (X, []),
        (3 * X - 2, []),
        (elementwise.sigmoid(X), ["sigmoid"]),
        (2 * elementwise.sigmoid(X) + 1, ["sigmoid"]),
        (sympy.tanh(2 * X / 3 + 1), ["tanh"]),
        (X + elementwise.gelu(X), ["gelu"]),
        (X - elementwise.sigmoid(3 * X - 1) + 2, ["sigmoid"]),
        (elementwise.silu(X) - sympy.tanh(X) + 3, ["silu", "tanh"]),
        (5 * elementwise.gelu(X), ["gelu"]),
        (X * (1 + sympy.tanh(X)), ["silu"]),
        (sympy.sin(sympy.erf(X)), ["sin", "erf"]),
    ],
)
def test_plans_compute_the_expression(expression, names):
    plan = decompose(expression, MATCHER)
    assert plan is not None
    expected = elementwise.evaluate(expression, POINTS)
    assert torch.allclose(run(plan, POINTS), expected, atol=1e-9)
    assert sorted(functions(plan)) == sorted(names)


@pytest.mark.parametrize(
    "expression", [X**2, sympy.exp(X), X**3 - X, sympy.exp(X**2), 1 / (1 + X**4)]
)
def test_what_holds_no_activation_has_no_plan(expression):
    assert decompose(expression, MATCHER) is None


@pytest.mark.parametrize(
    "expression",
    [
        sympy.Max(X, sympy.Rational(1, 3)),
        sympy.Min(X, -2),
        sympy.Min(X, 0),
        3 - sympy.Max(2 * X, 5) / 7,
        sympy.Min(sympy.tanh(X), sympy.Rational(1, 2)),
    ],
)
def test_a_bound_from_one_side_is_a_relu(expression):
    plan = decompose(expression, MATCHER)
    assert torch.allclose(run(plan, POINTS), elementwise.evaluate(expression, POINTS))


def test_numbers_are_exact():
    assert elementwise.number(0.1) == sympy.Rational(3602879701896397, 36028797018963968)
    assert elementwise.number(float("-inf")) == -sympy.oo


@settings(max_examples=30)
@given(a=st.floats(-8, 8).filter(lambda v: abs(v) > 1e-3), b=st.floats(-8, 8))
def test_affine_parts(a, b):
    expression = (elementwise.number(a) * X + elementwise.number(b)) / 3 - X / 7
    parts = affine_parts(expression)
    if parts is not None:
        assert sympy.expand(parts[0] * X + parts[1] - expression) == 0


@pytest.mark.parametrize(
    ("formula", "function"),
    [
        (elementwise.softsign(X), torch.nn.functional.softsign),
        (elementwise.celu(X, 2.0), lambda x: torch.nn.functional.celu(x, 2.0)),
        (elementwise.hardswish(X), torch.nn.functional.hardswish),
        (elementwise.elu(X, 1.5), lambda x: torch.nn.functional.elu(x, 1.5)),
        (elementwise.gelu(X, "tanh"), lambda x: torch.nn.functional.gelu(x, approximate="tanh")),
        (elementwise.mish(X), torch.nn.functional.mish),
        (elementwise.leaky_relu(X, 0.2), lambda x: torch.nn.functional.leaky_relu(x, 0.2)),
        (elementwise.clip(X, -1.0, float("inf")), lambda x: x.clamp(min=-1.0)),
        (sympy.cos(X) * sympy.sin(X) / sympy.sqrt(1 + X**2), None),
    ],
)
def test_the_interpreter_of_formulas(formula, function):
    if function is None:
        function = lambda x: x.cos() * x.sin() / (1 + x**2).sqrt()  # noqa: E731
    assert torch.allclose(elementwise.evaluate(formula, POINTS), function(POINTS), atol=1e-12)
