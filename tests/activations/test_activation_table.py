"""Building and recognising activations."""

from __future__ import annotations

import math

import mpmath
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Abs, Max, Min, Piecewise, Rational, cos, erf, exp, log, sin, tanh
from torch.nn import functional as F

from vercomp.activations import BUILTIN, ActivationFamily, define_activation
from vercomp.errors import PluginError, UsageError
from vercomp.ir.activation import X

SQRT2_FLOAT32 = Rational(float(torch.tensor(2.0).sqrt()))
A_FLOAT32 = Rational(float(torch.tensor(math.sqrt(2 / math.pi))))
B_FLOAT32 = Rational(float(torch.tensor(0.044715)))
sigmoid = 1 / (1 + exp(-X))


@pytest.mark.parametrize("family", BUILTIN.families, ids=lambda family: family.name)
def test_every_row_matches_itself(family):
    activation = family.build()
    found = BUILTIN.match(activation.formula)
    assert found.formula == activation.formula
    assert found.name == {"celu": "elu"}.get(family.name, family.name)  # the same for α = 1


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (exp(X) / (1 + exp(X)), "sigmoid"),
        ((1 + tanh(X / 2)) / 2, "sigmoid"),
        (2 / (1 + exp(-2 * X)) - 1, "tanh"),
        (Max(X, 0) + log(1 + exp(-Abs(X))), "softplus"),
        (Piecewise((X, X > 20), (log(1 + exp(X)), True)), "softplus"),
        (log(1 + exp(3 * X)) / 3, "softplus(beta=3)"),
        (Piecewise((X, 3 * X > 20), (log(1 + exp(3 * X)) / 3, True)), "softplus(beta=3)"),
        (X * erf(X / sympy.sqrt(2)) / 2 + X / 2, "gelu"),
        (0.5 * X * (1 + erf(X / math.sqrt(2))), "gelu"),
        (X / 2 * (1 + tanh(sympy.sqrt(2 / sympy.pi) * (X + 0.044715 * X**3))), "gelu_tanh"),
        (X * sigmoid, "silu"),
        (X / (1 + exp(-2 * X)), "silu(beta=2)"),
        (X - 2 * X / ((1 + exp(X)) ** 2 + 1), "mish"),
        (Max(X, 0) + Min(exp(X) - 1, 0), "elu"),
        (Max(X, 0) + Min(2 * (exp(X / 2) - 1), 0), "celu(alpha=2)"),
        (Max(X, 0) + Min(2 * (exp(X) - 1), 0), "elu(alpha=2)"),
        (X / (1 + Max(X, -X)), "softsign"),
        (X * (1 + sympy.sign(X)) / 2, "relu"),
        (Piecewise((X, X >= 0), (0, True)), "relu"),
        (Max(X, X / 10), "leaky_relu(slope=0.1)"),
        (Max(-2, Min(X, 3)), "hardtanh(lower=-2, upper=3)"),
        (Max(0, Min(1, X / 6 + Rational(1, 2))), "hardsigmoid"),
        (sin(X + sympy.pi / 2), "cos"),
        (cos(X - sympy.pi / 2), "sin"),
    ],
)
def test_other_spellings(expression, expected):
    assert str(BUILTIN.match(expression)) == expected


@pytest.mark.parametrize(
    "expression",
    [
        tanh(X) / 2,
        tanh(2 * X),
        sigmoid + Rational(1, 10**6),
        X * sigmoid**2,
        X * X,
        log(X),
        1 / X,
        sympy.gamma(X),
        sympy.Integer(3),
        sympy.Symbol("y") * X,
        X + 1,
        X * (1 + tanh(X**3)) / 2,
        Piecewise((X, X > 5), (log(1 + exp(X)), True)),
        sympy.true,
        exp(exp(X)),
        exp(-exp(-X)),
        X * exp(exp(-X)),
    ],
)
def test_near_misses(expression):
    assert BUILTIN.match(expression) is None


WINDOW = Piecewise((0, X <= 5), (1, Rational(50001, 10000) > X), (0, True))


@pytest.mark.parametrize(
    "expression",
    [
        Min(Max(X, -1000), 1000) / (1 + exp(-X)),
        Piecewise((-X * sigmoid, X > 1000), (X * sigmoid, True)),
        sigmoid - 9 * WINDOW,
        X * sigmoid.subs(X, Min(X, 25)),
        Min(log(1 + exp(X)), 2000),
        tanh(X) + Max(X - 10**5, 0),
        Piecewise((X, X > 500), (100 * log(1 + exp(X / 100)), True)),  # softplus's jump is 0.7
        Piecewise((X, X > 18), (log(1 + exp(X)), True)),
        sigmoid + Rational(1, 10**30) / (X - Rational(3017, 1000)),
        sigmoid + Rational(1, 10**22) * X**8,
    ],
)
def test_what_leaves_a_known_function_far_out_or_on_a_short_interval_is_not_that_function(
    expression,
):
    assert BUILTIN.match(expression) is None


@pytest.mark.parametrize("slope", [Rational(1, 10**k) for k in (14, 20, 25)])
def test_a_slope_beside_a_bounded_function_is_not_dropped(slope):
    for function in (tanh(X), 1 / (1 + exp(-X)), sympy.atan(X)):
        assert BUILTIN.match(function + slope * X) is None


LARGEST = int(torch.finfo(torch.float32).max)


@pytest.mark.parametrize("end", [10**9, 10**20, 10**25, 10**30, LARGEST])
def test_a_clip_that_is_out_of_sight_is_not_the_identity(end):
    """Beyond it, the two differ by little of their size until some multiple of it."""
    for expression in (Min(X, end), Max(X, -end), Max(-end, Min(X, end)) + tanh(X)):
        found = BUILTIN.match(expression)
        assert found is None or str(found) != "identity"


def test_a_clip_that_is_far_out_is_not_the_identity():
    assert str(BUILTIN.match(Min(Max(X, -1000), 1000))) == "hardtanh(lower=-1000, upper=1000)"


@pytest.mark.parametrize("end", [1000, 10**4, 10**20, LARGEST])
def test_clips_on_one_side_are_rows_wherever_they_end(end):
    """Up to the largest float32, where both ends of it are a clip of their own."""
    assert BUILTIN.match(Max(X, -end)) == BUILTIN.build("clamp_min", lower=float(-end))
    assert BUILTIN.match(Min(X, end)) == BUILTIN.build("clamp_max", upper=float(end))
    both = BUILTIN.build("hardtanh", lower=float(-end), upper=float(end))
    assert BUILTIN.match(Min(Max(X, -end), end)) == both


def test_the_constants_that_the_model_has_are_kept():
    rounded = BUILTIN.match(X / 2 * (1 + erf(X / SQRT2_FLOAT32)))
    assert rounded is not None
    ((name, scale),) = rounded.parameters
    assert name == "scale"
    assert scale == pytest.approx(1 / float(SQRT2_FLOAT32), rel=2e-16)
    assert scale != pytest.approx(math.sqrt(0.5), rel=1e-9)

    inner = A_FLOAT32 * (X + B_FLOAT32 * X**3)
    approximate = BUILTIN.match(X / 2 * (1 + tanh(inner)))
    assert approximate is not None
    assert dict(approximate.parameters) == pytest.approx(
        {"a": float(A_FLOAT32), "b": float(B_FLOAT32)}, rel=4e-16
    )


def test_the_two_gelus_are_kept_apart():
    assert BUILTIN.match(BUILTIN.build("gelu").formula).name == "gelu"
    assert BUILTIN.match(BUILTIN.build("gelu_tanh").formula).name == "gelu_tanh"


@settings(max_examples=40)
@given(
    st.sampled_from(["softplus", "silu", "gelu", "celu", "elu"]),
    st.floats(0.1, 10),
)
def test_parameters_are_recovered(name, value):
    parameter = {"gelu": "scale", "celu": "alpha", "elu": "alpha"}.get(name, "beta")
    activation = BUILTIN.build(name, **{parameter: value})
    found = BUILTIN.match(activation.formula)
    assert found is not None
    assert found.name == name or value == 1.0
    assert dict(found.parameters).get(parameter, 1.0) == pytest.approx(value, rel=3e-16)


@pytest.mark.parametrize("family", BUILTIN.families, ids=lambda family: family.name)
def test_the_spelling_computes_the_formula(family):
    define_activation(
        f"{family.name} again", family.formula.subs(_defaults(family)), _exact(family)
    )


def _defaults(family):
    return {parameter.symbol: parameter.default for parameter in family.parameters}


def _exact(family):
    """torch's softplus leaves the smooth function at its threshold by more than rounding."""
    if family.name == "softplus":
        return lambda x: F.softplus(x, threshold=60)
    return family.spelling


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("softplus", {"beta": 0.3}),
        ("gelu", {"scale": 0.7071}),
        ("gelu_tanh", {"a": 0.8, "b": 0.04}),
        ("silu", {"beta": 1.702}),
        ("celu", {"alpha": 0.4}),
        ("elu", {"alpha": 1.7}),
        ("selu", {"alpha": 1.6, "scale": 1.1}),
        ("leaky_relu", {"slope": 0.2}),
        ("hardtanh", {"lower": -0.5, "upper": 2.0}),
        ("clamp_min", {"lower": -0.5}),
        ("clamp_max", {"upper": 3.5}),
    ],
)
def test_spellings_with_parameters(name, parameters):
    activation = BUILTIN.build(name, **parameters)
    x = torch.linspace(-9, 9, 301, dtype=torch.float64)
    mpmath_function = sympy.lambdify(X, activation.formula, "mpmath")
    expected = torch.tensor([float(mpmath_function(mpmath.mpf(v))) for v in x.tolist()]).double()
    assert torch.allclose(
        activation.spelling(x), expected, rtol=1e-6, atol=1e-6 + activation.deviation
    )
    assert activation.parameters == tuple(parameters.items())


@pytest.mark.parametrize("beta", [0.1, 1.0, 7.0])
def test_the_deviation_of_softplus_holds_and_is_tight(beta):
    activation = BUILTIN.build("softplus", beta=beta)
    edge = 20 / beta
    x = torch.linspace(edge - 1e-9, edge + 0.2, 4001, dtype=torch.float64)
    with mpmath.workdps(40):
        worst = max(
            abs(mpmath.log1p(mpmath.exp(mpmath.mpf(beta) * v)) / beta - (v if beta * v > 20 else w))
            for v, w in zip(x.tolist(), activation.spelling(x).tolist(), strict=True)
            if beta * v > 20
        )
        assert worst <= activation.deviation <= worst * (1 + 1e-3)
        assert mpmath.log1p(mpmath.exp(-20)) / mpmath.mpf(beta) <= activation.deviation


def test_no_other_activation_deviates():
    assert {family.name for family in BUILTIN if family.build().deviation} == {"softplus"}


def test_a_value_that_is_the_default_up_to_rounding_is_the_default():
    assert BUILTIN.build("gelu", scale=math.sqrt(0.5)) == BUILTIN.build("gelu")
    assert BUILTIN.build("gelu").spelling is F.gelu
    assert BUILTIN.build("silu", beta=1.0).parameters == ()


def test_unknown_names_and_parameters():
    with pytest.raises(
        UsageError, match=r"there is no activation 'swish'. Known are abs, arctan, celu"
    ):
        BUILTIN.build("swish")
    with pytest.raises(UsageError, match=r"tanh has no parameter 'beta' .its parameters: none."):
        BUILTIN.build("tanh", beta=2.0)
    with pytest.raises(UsageError, match=r"softplus: beta = nan is not finite"):
        BUILTIN.build("softplus", beta=math.nan)
    with pytest.raises(UsageError, match="softplus is no function of x for beta = 0"):
        BUILTIN.build("softplus", beta=0.0)


def test_a_table_grows_and_refuses_duplicates():
    table = BUILTIN.with_family(ActivationFamily("cubic", X**3, lambda x: x**3, owner="me"))
    assert table.build("cubic").formula == X**3
    assert table.match(X * X * X).name == "cubic"
    assert BUILTIN.match(X**3) is None
    with pytest.raises(PluginError, match=r"'cubic' is defined twice: by me and by you. Give one"):
        table.with_family(ActivationFamily("cubic", X**3, lambda x: x**3, owner="you"))
