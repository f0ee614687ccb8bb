"""The activations that vercomp knows: one row each.

A row is a name, a formula and the torch function that computes it; parameters have their defaults
and a fit that estimates them from values. Everything else about an activation is derived. Rows
whose first derivative jumps (ReLU and the like) have no second derivative, and no curvature.
"""

from __future__ import annotations

import math
from typing import Any

import sympy
import torch
from sympy import Abs, Max, Min, Piecewise, Rational, cos, erf, exp, log, pi, sin, sqrt, tanh
from torch.nn import functional as F

from vercomp.activations.evaluation import REAL
from vercomp.activations.family import (
    ActivationFamily,
    ActivationTable,
    Parameter,
    Samples,
    Spelling,
)
from vercomp.ir.activation import X

_FAR = -(10**6)
"""Where exp(x/α) is zero for every α that is met in practice."""

_BEYOND = -(10**40)
"""Where every clip at a float32 number is flat."""

BETA = Parameter("beta", sympy.Integer(1))
SCALE = Parameter("scale", 1 / sqrt(2))
A = Parameter("a", sqrt(2 / pi))
B = Parameter("b", Rational("0.044715"))
ALPHA = Parameter("alpha", sympy.Integer(1))
SLOPE = Parameter("slope", Rational("0.01"))
LOWER = Parameter("lower", sympy.Integer(-1), largest=1e39)
UPPER = Parameter("upper", sympy.Integer(1), largest=1e39)
SELU_ALPHA = Parameter("alpha", Rational("1.6732632423543772848170429916717"))
SELU_SCALE = Parameter("scale", Rational("1.0507009873554804934193349852946"))


def _softplus_deviation(beta: float) -> float:
    """torch returns x beyond βx > 20, where log(1 + exp(βx))/β is log1p(exp(−βx))/β larger."""
    return math.nextafter(math.log1p(math.exp(-20.0)) / abs(beta) * (1 + 1e-14), math.inf)


def _fit_softplus(f: Samples) -> tuple[Any, ...]:
    return (REAL.log(2) / f(0),)


def _fit_silu(f: Samples) -> tuple[Any, ...]:
    return (REAL.log(f(1) / (1 - f(1))),)


def _fit_gelu(f: Samples) -> tuple[Any, ...]:
    return (f.second_derivative_at_zero() * REAL.sqrt(REAL.pi) / 2,)


def _fit_gelu_tanh(f: Samples) -> tuple[Any, ...]:
    """atanh(2F(x)/x − 1) = a x + ab x³ at two points."""
    near, far = (REAL.atanh(2 * f(x) / x - 1) / x for x in (REAL.mpf(0.5), REAL.mpf(1)))
    product = (far - near) / REAL.mpf(0.75)
    a = far - product
    return a, product / a


def _fit_alpha(f: Samples) -> tuple[Any, ...]:
    return (-f(_FAR),)


def _fit_selu(f: Samples) -> tuple[Any, ...]:
    if f(_FAR) == 0:
        raise ValueError("a multiple of a ReLU is no SELU")
    return -f(_FAR) / f(1), f(1)


def _fit_slope(f: Samples) -> tuple[Any, ...]:
    return (-f(-1),)


def _fit_hardtanh(f: Samples) -> tuple[Any, ...]:
    return f(_BEYOND), f(-_BEYOND)


def _fit_lower(f: Samples) -> tuple[Any, ...]:
    return (f(_BEYOND),)


def _fit_upper(f: Samples) -> tuple[Any, ...]:
    return (f(-_BEYOND),)


def _softplus(beta: float) -> Spelling:
    return lambda x: F.softplus(x, beta=beta)


def _gelu(scale: float) -> Spelling:
    return lambda x: 0.5 * x * (1 + torch.erf(scale * x))


def _gelu_tanh(a: float, b: float) -> Spelling:
    return lambda x: 0.5 * x * (1 + torch.tanh(a * (x + b * x**3)))


def _silu(beta: float) -> Spelling:
    return lambda x: x * torch.sigmoid(beta * x)


def _elu(alpha: float) -> Spelling:
    return lambda x: F.elu(x, alpha=alpha)


def _celu(alpha: float) -> Spelling:
    return lambda x: F.celu(x, alpha=alpha)


def _selu(alpha: float, scale: float) -> Spelling:
    return lambda x: scale * F.elu(x, alpha=alpha)


def _leaky_relu(slope: float) -> Spelling:
    return lambda x: F.leaky_relu(x, negative_slope=slope)


def _hardtanh(lower: float, upper: float) -> Spelling:
    return lambda x: F.hardtanh(x, min_val=lower, max_val=upper)


def _clamp_min(lower: float) -> Spelling:
    return lambda x: torch.clamp(x, min=lower)


def _clamp_max(upper: float) -> Spelling:
    return lambda x: torch.clamp(x, max=upper)


_sigmoid_of = 1 / (1 + exp(-X))

BUILTIN = ActivationTable(
    (
        ActivationFamily("identity", X, lambda x: x),
        # Before gelu: a GELU with a very large scale is a ReLU to 50 digits.
        ActivationFamily("relu", Max(X, 0), F.relu),
        ActivationFamily("abs", Abs(X), torch.abs),
        # Before gelu: a GELU with a very large scale is a ReLU to 50 digits.
        ActivationFamily("sigmoid", _sigmoid_of, torch.sigmoid),
        ActivationFamily("tanh", tanh(X), torch.tanh),
        ActivationFamily(
            "softplus",
            log(1 + exp(BETA.symbol * X)) / BETA.symbol,
            F.softplus,
            (BETA,),
            _softplus,
            _fit_softplus,
            _softplus_deviation,
        ),
        # Before gelu_tanh, which is a SiLU where b = 0.
        # Before gelu_tanh, which is a SiLU where b = 0.
        ActivationFamily(
            "silu", X / (1 + exp(-BETA.symbol * X)), F.silu, (BETA,), _silu, _fit_silu
        ),
        ActivationFamily(
            "gelu", X / 2 * (1 + erf(SCALE.symbol * X)), F.gelu, (SCALE,), _gelu, _fit_gelu
        ),
        ActivationFamily(
            "gelu_tanh",
            X / 2 * (1 + tanh(A.symbol * (X + B.symbol * X**3))),
            lambda x: F.gelu(x, approximate="tanh"),
            (A, B),
            _gelu_tanh,
            _fit_gelu_tanh,
        ),
        ActivationFamily("mish", X * tanh(log(1 + exp(X))), F.mish),
        ActivationFamily(
            "elu",
            Piecewise((X, X > 0), (ALPHA.symbol * (exp(X) - 1), True)),
            F.elu,
            (ALPHA,),
            _elu,
            _fit_alpha,
        ),
        ActivationFamily(
            "celu",
            Piecewise((X, X > 0), (ALPHA.symbol * (exp(X / ALPHA.symbol) - 1), True)),
            F.celu,
            (ALPHA,),
            _celu,
            _fit_alpha,
        ),
        ActivationFamily("arctan", sympy.atan(X), torch.arctan),
        ActivationFamily("erf", erf(X), torch.erf),
        ActivationFamily("sin", sin(X), torch.sin),
        ActivationFamily("cos", cos(X), torch.cos),
        ActivationFamily("softsign", X / (1 + Abs(X)), F.softsign),
        ActivationFamily("relu6", Min(Max(X, 0), 6), F.relu6),
        ActivationFamily(
            "leaky_relu",
            Piecewise((X, X > 0), (SLOPE.symbol * X, True)),
            F.leaky_relu,
            (SLOPE,),
            _leaky_relu,
            _fit_slope,
        ),
        ActivationFamily(
            "hardtanh",
            Min(Max(X, LOWER.symbol), UPPER.symbol),
            F.hardtanh,
            (LOWER, UPPER),
            _hardtanh,
            _fit_hardtanh,
        ),
        # A clip on one side keeps x as it is: c + relu(x − c) would round it to multiples of c.
        ActivationFamily(
            "clamp_min",
            Max(X, LOWER.symbol),
            _clamp_min(-1.0),
            (LOWER,),
            _clamp_min,
            _fit_lower,
        ),
        ActivationFamily(
            "clamp_max",
            Min(X, UPPER.symbol),
            _clamp_max(1.0),
            (UPPER,),
            _clamp_max,
            _fit_upper,
        ),
        ActivationFamily(
            "selu",
            SELU_SCALE.symbol * Piecewise((X, X > 0), (SELU_ALPHA.symbol * (exp(X) - 1), True)),
            F.selu,
            (SELU_ALPHA, SELU_SCALE),
            _selu,
            _fit_selu,
        ),
        ActivationFamily("hardsigmoid", Min(Max(X + 3, 0), 6) / 6, F.hardsigmoid),
        ActivationFamily("hardswish", X * Min(Max(X + 3, 0), 6) / 6, F.hardswish),
    )
)
"""Every activation that vercomp knows by itself."""
