"""Constants: exact values, enclosures against grids, refusals."""

from __future__ import annotations

import mpmath
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Abs, Heaviside, Max, Piecewise, Rational, cosh, erf, exp, log, sin, sqrt, tanh

from vercomp.activations import BUILTIN, branch_and_bound, constants, curvature_constants
from vercomp.errors import UnboundedCurvatureError
from vercomp.ir.activation import Activation, X

SMOOTH = (
    *("identity", "sigmoid", "tanh", "softplus", "gelu", "gelu_tanh", "silu", "mish", "elu"),
    *("celu", "arctan", "erf", "sin", "cos", "softsign"),
)
ROUGH = (
    *("relu", "abs", "relu6", "leaky_relu", "hardtanh", "selu", "hardsigmoid", "hardswish"),
    *("clamp_min", "clamp_max"),
)
REMEDY = "Use a smooth activation instead: softplus, GELU, SiLU, tanh or sigmoid"


def user(formula, name="mine"):
    return Activation(name, sympy.sympify(formula), torch.tanh)


def exactly(value):
    """A float64 as the number it is, and a closed form to 40 digits."""
    return mpmath.mpf(value)


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("identity", {}, (1, 1, 0, 0)),
        ("sigmoid", {}, (0, Rational(1, 4), -sqrt(3) / 18, sqrt(3) / 18)),
        ("tanh", {}, (0, 1, -4 * sqrt(3) / 9, 4 * sqrt(3) / 9)),
        ("softplus", {}, (0, 1, 0, Rational(1, 4))),
        ("softplus", {"beta": 10.0}, (0, 1, 0, Rational(5, 2))),
        ("softplus", {"beta": 0.1}, (0, 1, 0, Rational(0.1) / 4)),
        (
            "gelu",
            {},
            (
                (1 - erf(1)) / 2 - exp(-1) / sqrt(sympy.pi),
                (1 + erf(1)) / 2 + exp(-1) / sqrt(sympy.pi),
                -sqrt(2 / sympy.pi) * exp(-2),
                sqrt(2 / sympy.pi),
            ),
        ),
        ("elu", {}, (0, 1, 0, 1)),
        ("celu", {"alpha": 2.5}, (0, 1, 0, Rational(2, 5))),
        ("arctan", {}, (0, 1, -3 * sqrt(3) / 8, 3 * sqrt(3) / 8)),
        ("sin", {}, (-1, 1, -1, 1)),
        ("softsign", {}, (0, 1, -2, 2)),
        (
            "erf",
            {},
            (
                0,
                2 / sqrt(sympy.pi),
                -2 * sqrt(2) * exp(-Rational(1, 2)) / sqrt(sympy.pi),
                2 * sqrt(2) * exp(-Rational(1, 2)) / sqrt(sympy.pi),
            ),
        ),
    ],
)
def test_closed_forms_rounded_outward(name, parameters, expected):
    found = constants(BUILTIN.build(name, **parameters))
    values = (found.g_lower, found.g_upper, found.h_lower, found.h_upper)
    for value, closed, sign in zip(values, expected, (-1, 1, -1, 1), strict=True):
        with mpmath.workdps(40):
            true = mpmath.mpf(str(sympy.N(closed, 40)))
            excess = sign * (mpmath.mpf(value) - true)
            if sympy.sympify(closed).is_Rational:
                assert value == float(closed)
            else:
                assert 0 < excess <= abs(true) * 2.3e-16
    assert found.origin.startswith("exact: ")


def test_the_origin_shows_the_closed_form():
    assert (
        constants(BUILTIN.build("sigmoid")).origin == "exact: σ′ ∈ [0, 1/4], σ″ ∈ [−√3/18, √3/18]"
    )
    assert (
        constants(BUILTIN.build("silu")).origin == "enclosed by interval branch and bound: σ′, σ″"
    )


def sampled(activation):
    """Ranges of σ′ and σ″ by finite differences of 60-digit values: independent of derivatives."""
    function = sympy.lambdify(X, activation.formula, "mpmath")
    first, second = [], []
    grid = torch.cat((torch.linspace(-9, 9, 2401), torch.linspace(-1e-5, 1e-5, 21)))
    with mpmath.workdps(60):
        step = mpmath.mpf(10) ** -15
        for point in grid.double().tolist():
            x = mpmath.mpf(point) + mpmath.mpf(10) ** -9  # off the breakpoints
            below, at, above = function(x - step), function(x), function(x + step)
            first.append((above - below) / (2 * step))
            second.append((above - 2 * at + below) / step**2)
    return min(first), max(first), min(second), max(second)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [(name, {}) for name in SMOOTH]
    + [
        ("silu", {"beta": 1.702}),
        ("gelu", {"scale": 0.7071067690849304}),
        ("gelu_tanh", {"a": 0.7978845834732056, "b": 0.044714998453855515}),
    ],
)
def test_bounds_hold_on_a_grid_and_are_tight(name, parameters):
    activation = BUILTIN.build(name, **parameters)
    found = constants(activation)
    g_lower, g_upper, h_lower, h_upper = sampled(activation)
    for bound, sample, sign in (
        (found.g_lower, g_lower, -1),
        (found.g_upper, g_upper, 1),
        (found.h_lower, h_lower, -1),
        (found.h_upper, h_upper, 1),
    ):
        gap = sign * (mpmath.mpf(bound) - sample)
        assert gap >= -1e-14  # the finite difference's own error
        # Limits at infinity are not reached on the grid.
        slack = 2e-2 if name in ("arctan", "softsign") and bound == 0 else 1.3e-4
        assert gap <= slack


@pytest.mark.parametrize(
    ("name", "order", "start"),
    [
        ("silu", 1, 2.4), ("silu", 1, -2.4), ("silu", 2, 0.1), ("silu", 2, 3.4),
        ("mish", 1, 1.5), ("mish", 1, -1.9), ("mish", 2, -0.2), ("mish", 2, 2.2),
        ("gelu_tanh", 1, 1.4), ("gelu_tanh", 1, -1.4), ("gelu_tanh", 2, 0.1), ("gelu_tanh", 2, 2.0),
    ],
)  # fmt: skip
def test_enclosures_contain_the_extremum_and_are_tight(name, order, start):
    """The extremum by mpmath's own differentiation and root finding."""
    activation = BUILTIN.build(name)
    function = sympy.lambdify(X, activation.formula, "mpmath")
    with mpmath.workdps(40):
        at = mpmath.findroot(lambda x: mpmath.diff(function, x, order + 1), start)
        extremum = mpmath.diff(function, at, order)
        found = constants(activation)
        lower, upper = (
            (found.g_lower, found.g_upper) if order == 1 else (found.h_lower, found.h_upper)
        )
        bound = upper if extremum > 0 else lower
        assert 0 <= abs(mpmath.mpf(bound)) - abs(extremum) <= 1e-9 * abs(extremum)


@settings(max_examples=8)
@given(st.floats(0.1, 10))
def test_softplus_and_gelu_scale_as_they_must(value):
    softplus = constants(BUILTIN.build("softplus", beta=value))
    assert (softplus.g_lower, softplus.g_upper, softplus.h_lower) == (0, 1, 0)
    assert softplus.h_upper == value / 4
    reference = constants(BUILTIN.build("gelu"))
    gelu = constants(BUILTIN.build("gelu", scale=value))
    factor = value * 2**0.5
    assert gelu.g_upper == pytest.approx(reference.g_upper, rel=1e-9)
    assert gelu.g_lower == pytest.approx(reference.g_lower, rel=1e-9)
    assert gelu.h_upper == pytest.approx(reference.h_upper * factor, rel=1e-9)
    assert gelu.h_lower == pytest.approx(reference.h_lower * factor, rel=1e-9)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (log(cosh(X)), (-1, 1, 0, 1)),
        (exp(X) / (1 + exp(X)), (0, 0.25, -(3**0.5) / 18, 3**0.5 / 18)),
        (Max(X, 0) + log(1 + exp(-Abs(X))), (0, 1, 0, 0.25)),
        (sqrt(1 + X**2), (-1, 1, 0, 1)),
        ((X + sqrt(X**2 + 4)) / 2, (0, 1, 0, 0.25)),
        (X / sqrt(1 + X**2), (0, 1, -0.8586501033599193, 0.8586501033599193)),
        (X + sin(X) ** 2, (0, 2, -2, 2)),
        (Piecewise((0, X < 0), (3 * X**2 - 2 * X**3, X < 1), (1, True)), (0, 1.5, -6, 6)),
        (X - tanh(X), (0, 1, -4 * 3**0.5 / 9, 4 * 3**0.5 / 9)),
    ],
)
def test_formulas_of_users(formula, expected):
    found = constants(user(formula))
    values = (found.g_lower, found.g_upper, found.h_lower, found.h_upper)
    assert values == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert found.g_lower <= expected[0]
    assert found.g_upper >= expected[1]
    assert found.h_lower <= expected[2] + 1e-15
    assert found.h_upper >= expected[3] - 1e-15


@pytest.mark.parametrize("name", ROUGH)
def test_jumps_of_the_first_derivative_are_refused(name):
    breaks = {"hardtanh": "−1", "hardsigmoid": "−3", "hardswish": "−3", "clamp_min": "−1"}
    where = {**breaks, "clamp_max": "1"}.get(name, "0")
    with pytest.raises(UnboundedCurvatureError) as caught:
        curvature_constants(BUILTIN.build(name))
    assert str(caught.value) == (
        f"the first derivative of {name} jumps at x = {where}, so curvature does not exist there. "
        f"{REMEDY}"
    )


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (exp(X), "the first derivative of mine is unbounded"),
        (X**2, "the first derivative of mine is unbounded"),
        (Abs(exp(X) - 2), "the first derivative of mine is unbounded"),
        (X * sin(X), "the first derivative of mine is unbounded"),
        (sin(X**2), "the first derivative of mine is unbounded"),
        (sympy.sech(X), "the derivatives of mine could not be bounded: the function cosh is not"),
        (X**2 * Heaviside(X), "the first derivative of mine is unbounded"),
        (
            sympy.atan(1 / X),
            "the derivatives of mine could not be bounded: it is not proved that x is not zero for "
            "every x, so that the formula is smooth",
        ),
        (
            log(1 - tanh(X)),
            "the derivatives of mine could not be bounded: it is not proved that 1 - tanh(x) is "
            "positive for every x",
        ),
        (
            Piecewise((X, X > 2), (X / 2, True)),
            "the value of mine jumps at x = 2, so curvature does not exist there",
        ),
        (
            2 * Piecewise((X, X > 0), (exp(X) - 1, True)) + Abs(X - 1),
            "the first derivative of mine jumps at x = 1, so curvature does not exist there",
        ),
        (
            sympy.gamma(X),
            "the derivatives of mine could not be bounded: the function gamma is not known here",
        ),
        (
            Max(X, log(2)),
            "the first derivative of mine jumps at x = log(2), so curvature does not exist there.",
        ),
        (
            Abs(X + 2 - exp(X)),
            "the derivatives of mine could not be bounded: the breakpoints of a formula cannot be "
            "found: the zeros of x - exp(x) + 2",
        ),
    ],
)
def test_what_is_not_proved_is_refused(formula, message):
    with pytest.raises(UnboundedCurvatureError) as caught:
        curvature_constants(user(formula))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", (0, 1)),
        ("abs", (-1, 1)),
        ("relu6", (0, 1)),
        ("leaky_relu", (0.01, 1)),
        ("hardtanh", (0, 1)),
        ("clamp_min", (0, 1)),
        ("clamp_max", (0, 1)),
        ("hardsigmoid", (0, 1 / 6)),
        ("hardswish", (-0.5, 1.5)),
    ],
)
def test_where_the_first_derivative_jumps_there_is_a_range_of_it_alone(name, expected):
    found = constants(BUILTIN.build(name))
    assert found.first_range == pytest.approx(expected, rel=1e-15)
    assert found.first_range[0] <= expected[0]
    assert found.first_range[1] >= expected[1]
    assert found.second_range is None
    assert found.h == float("inf")


def test_a_function_that_jumps_itself_has_no_constants():
    with pytest.raises(UnboundedCurvatureError, match="the value of mine jumps at x = 0"):
        constants(user(sympy.sign(X)))


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_elu_is_smooth_for_one_alpha_only(alpha):
    with pytest.raises(UnboundedCurvatureError, match=f"elu.alpha={alpha:g}. jumps at x = 0"):
        curvature_constants(BUILTIN.build("elu", alpha=alpha))


def test_all_constants_are_quick(monkeypatch):
    """A closed form, or a search of few boxes: work, which is the same on every machine."""
    monkeypatch.setattr(branch_and_bound, "_BOXES", 400)
    constants.cache_clear()
    for name in SMOOTH:
        constants(BUILTIN.build(name))
