"""Interval evaluation and behaviour at infinity, against 50-digit values."""

from __future__ import annotations

import random

import mpmath
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import atan, cos, erf, exp, log, sin, sqrt, tanh

from vercomp.activations.evaluation import REAL, Program, real_function
from vercomp.activations.functions import Sigmoid, Softplus, stabilise
from vercomp.activations.intervals import IntervalArithmetic, interval
from vercomp.activations.tails import UnknownTailError, limit, tail
from vercomp.ir.activation import X

FORMULAS = [
    X * Sigmoid(X),
    X**2 * tanh(X) - erf(X / 2),
    exp(-(X**2)) * (1 - X**3),
    Softplus(X) * atan(X) + sin(X) * cos(3 * X),
    (1 + X**2) ** sympy.Rational(-3, 2) * X,
    log(2 + X**2) + sqrt(1 + X**2) + sympy.pi,
    1 / (1 + X**2) ** 2,
]


@pytest.mark.parametrize("formula", FORMULAS, ids=str)
@settings(max_examples=30)
@given(st.floats(-30, 30), st.floats(0, 3), st.floats(0, 1))
def test_intervals_contain_every_value(formula, lower, width, share):
    upper = lower + width
    enclosure = Program((formula,), IntervalArithmetic())(interval(lower, upper))[0]
    point = min(max(lower + share * width, lower), upper)
    value = real_function(formula)(point)
    slack = abs(value) * 1e-40
    low, high = enclosure._mpi_
    assert real_function(X)(_exact(low)) <= value + slack
    assert value - slack <= real_function(X)(_exact(high))


def _exact(number):
    return REAL.make_mpf(number)


@pytest.mark.parametrize("kind", list(IntervalArithmetic.functions), ids=lambda kind: kind.__name__)
def test_points_are_enclosed_to_80_bits(kind):
    """mpmath's interval functions alone fail this for about one point in 50,000."""
    over = IntervalArithmetic.functions[kind]
    draw = random.Random(5)  # noqa: S311
    fine = mpmath.MPContext()
    fine.prec = 300
    true = {Sigmoid: lambda u: 1 / (1 + fine.exp(-u)), Softplus: lambda u: fine.log1p(fine.exp(u))}
    function = true.get(kind) or getattr(fine, kind.__name__)
    for _ in range(3000):
        x = draw.uniform(0, 30) if kind is log else draw.uniform(-30, 30)
        low, high = over(interval(x, x))._mpi_
        value = function(fine.mpf(x))
        assert fine.make_mpf(low) <= value <= fine.make_mpf(high)
        assert fine.make_mpf(high) - fine.make_mpf(low) <= abs(value) * fine.mpf(2) ** -66


TAILS = [
    X * Sigmoid(X) - X,
    X**3 * Sigmoid(X) * (1 - Sigmoid(X)),
    X**2 * exp(-(X**2) / 2) + erf(X / sqrt(2)),
    tanh(Softplus(X)) + X * (1 - tanh(Softplus(X)) ** 2) * Sigmoid(X),
    tanh(X + X**3 / 10) ** 2,
    X * tanh(X) / (1 + X**2),
    atan(X) + X / (1 + X**2),
    (1 + X**2) ** sympy.Rational(-1, 2) - 3,
    exp(-X) * sin(X) + exp(tanh(X)),
    log(2 + tanh(X)),
    log(1 + X**2) / X,
    Softplus(-X) + cos(1 / X),
]


@pytest.mark.parametrize("formula", TAILS, ids=str)
@pytest.mark.parametrize("start", [4.0, 9.0])
def test_tails_contain_every_value(formula, start):
    found, arithmetic = tail(formula, start)
    enclosure = arithmetic.enclosure(found)
    function = real_function(formula)
    for factor in (1, 1.01, 1.3, 2, 3.7, 10, 100, 1e4):
        assert enclosure.a <= float(function(start * factor)) + 1e-15
        assert float(function(start * factor)) - 1e-15 <= enclosure.b


@pytest.mark.parametrize(
    ("formula", "right", "left"),
    [
        (tanh(X), 1, -1),
        (X * Sigmoid(X) * (1 - Sigmoid(X)) + Sigmoid(X), 1, 0),
        (erf(X) + atan(X), 1 + sympy.pi / 2, -1 - sympy.pi / 2),
        (X**2 / (1 + X**2), None, None),
        (sin(X), None, None),
        (X, None, None),
        (exp(X), None, 0),
    ],
)
def test_limits(formula, right, left):
    assert limit(formula, 1) == right
    assert limit(formula, -1) == left


@pytest.mark.parametrize("formula", [exp(X), X * sin(X), sympy.gamma(X), sqrt(sin(X))])
def test_nothing_is_claimed_about_what_is_not_known(formula):
    def enclosed():
        found, arithmetic = tail(formula, 5.0)
        return arithmetic.enclosure(found)

    with pytest.raises(UnknownTailError):
        enclosed()


@pytest.mark.parametrize(
    "formula",
    [
        log(1 + exp(2 * X)) / 2,
        exp(X) / (1 + exp(X)) ** 3,
        exp(-X) / (1 + exp(-X)) ** 2,
        log(sympy.cosh(X)),
        sympy.sinh(X) / sympy.cosh(X),
        sympy.sech(X) ** 2,
        2 ** (-(X**2)),
        0.25 * X / (1 + exp(-1.702 * X)),
    ],
    ids=str,
)
def test_stabilised_formulas_are_the_same_functions(formula):
    before, after = real_function(formula), real_function(stabilise(formula))
    for point in (-7.5, -1.25, -0.125, 0.0, 0.375, 2.0, 11.0):
        assert abs(before(point) - after(point)) <= 1e-45 * (1 + abs(before(point)))
