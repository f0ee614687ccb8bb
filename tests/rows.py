"""Activations as emitted packages know them, made from their formulas."""

from __future__ import annotations

import random
from typing import Any

import sympy
from sympy import Piecewise, Rational, exp, log, sin, tanh

from vercomp.activations import BUILTIN, constants, function_source, pieces
from vercomp.activations.functions import stabilise
from vercomp.activations.torch_printer import code
from vercomp.core.functions import Elementwise
from vercomp.ir.activation import Activation, X

_HEADER = "import torch\nfrom torch import Tensor\nfrom torch.nn import functional as F\n"


def compiled(activation: Activation, order: int) -> Any:
    """σ, σ′ or σ″ as packages compute it."""
    namespace: dict[str, Any] = {}
    exec(_HEADER + function_source(activation, order, "f"), namespace)  # noqa: S102
    return namespace["f"]


def row(activation: Activation) -> Elementwise:
    """The constant of a package."""
    found = constants(activation)
    return Elementwise(
        compiled(activation, 0),
        compiled(activation, 1),
        None if found.second_range is None else compiled(activation, 2),
        found.first_range,
        found.second_range,
        activation.deviation,
        pieces(activation),
    )


def user(formula: sympy.Expr, name: str = "mine") -> Activation:
    """A user's activation, spelled as its formula."""
    text = code(stabilise(formula))
    namespace: dict[str, Any] = {}
    exec(f"{_HEADER}f = lambda x: {text}", namespace)  # noqa: S102
    return Activation(name, formula, namespace["f"])


def random_user(seed: int) -> Activation:
    """A parabola of a tanh, a polynomial times a Gaussian, a sum of waves, or a spline."""
    choose = random.Random(seed)  # noqa: S311 - a test's own randomness
    a, b, c = (Rational(choose.randint(1, 9) * choose.choice((-1, 1)), 4) for _ in range(3))
    kind = seed % 4
    t = tanh(abs(a) * X)
    formulas = {
        0: t + b * t**2,
        1: (a + b * X) * exp(-(abs(c) + 1) * X**2),
        2: sin(3 * X) + a * sin(X) + b,
        3: Piecewise((a, X > 1), (a * X**2 * (3 - 2 * X), X > 0), (0, True)) + b * X,
    }
    return user(formulas[kind], f"user{seed}")


def everyone() -> list[Activation]:
    """Every row of the table, rows with other parameters, and activations of users."""
    return [
        *(family.build() for family in BUILTIN),
        BUILTIN.build("softplus", beta=10.0),
        BUILTIN.build("silu", beta=1.702),
        BUILTIN.build("gelu_tanh", a=0.7978845834732056, b=0.044714998453855515),
        BUILTIN.build("leaky_relu", slope=-0.5),
        BUILTIN.build("hardtanh", lower=-0.1, upper=2.5),
        BUILTIN.build("clamp_min", lower=0.5),
        BUILTIN.build("clamp_max", upper=-0.25),
        BUILTIN.build("elu", alpha=1.7),
        user(1000 * tanh(X), "steep"),
        user(sin(100 * X), "fast"),
        user(log(1 + exp(X)) - X / 2, "even"),
        user(X / sympy.sqrt(1 + X**2), "algebraic"),
        *(random_user(seed) for seed in range(4)),
    ]
