"""Activations that users define."""

from __future__ import annotations

import pytest
import sympy
import torch
from torch import nn

from vercomp.activations import BUILTIN, constants, define_activation, function_source
from vercomp.errors import PluginError
from vercomp.ir.activation import X


def test_five_lines_are_enough():
    logish = define_activation(
        "logish",
        X * sympy.log(1 + 1 / (1 + sympy.exp(-X))),
        lambda x: x * torch.log1p(torch.sigmoid(x)),
    )
    table = BUILTIN.with_family(logish)
    activation = table.match(X * sympy.log(1 + sympy.exp(X) / (1 + sympy.exp(X))))
    assert activation.name == "logish"
    found = constants(activation)
    assert found.g_upper == pytest.approx(0.7463111804, rel=1e-8)
    source = function_source(activation, 0, "logish")
    assert "return z * torch.log1p(torch.sigmoid(z))" in source


def test_modules_and_any_symbol_are_accepted():
    y = sympy.Symbol("y")
    family = define_activation("mine", y / (1 + sympy.exp(-y)), nn.SiLU())
    assert family.formula == X / (1 + sympy.exp(-X))
    assert "F.silu(z" in function_source(family.build(), 0, "mine")


@pytest.mark.parametrize(
    ("formula", "spelling", "message"),
    [
        (
            sympy.tanh(X),
            torch.sigmoid,
            "activation 'mine': the torch function and the formula differ at x = -1e+08: 0 against "
            "-1. Both must compute the same function, to float64 rounding",
        ),
        (
            sympy.log(1 + sympy.exp(X)),
            lambda x: torch.log(1 + torch.exp(x)),
            "activation 'mine': the torch function and the formula differ at x = 749.894: inf "
            "against 749.8942093324",
        ),
        (
            sympy.Symbol("a") * X,
            torch.sigmoid,
            "activation 'mine': the formula has 2 variables: a, x. It must be a function of one "
            "variable alone",
        ),
        (
            sympy.tanh(X),
            lambda x: torch.tanh(x) if x.sum() > 0 else x,
            "activation 'mine': the torch function of mine cannot be traced: ",
        ),
        (
            sympy.tanh(X),
            nn.PReLU(),
            "activation 'mine': the torch function of mine cannot be written down: it holds "
            "parameters (weight). Spell it with torch functions of one tensor and plain numbers",
        ),
        (sympy.tanh(X), lambda x: x.sum(), "activation 'mine': the torch function maps a float64"),
        (sympy.gamma(X), torch.tanh, "activation 'mine': the function gamma is not known here"),
        (sympy.log(X), torch.log, "activation 'mine': the formula is not real at x = -1e+08"),
        (1 / X, lambda x: 1 / x, "activation 'mine': the formula has no value at x = 0"),
        (sympy.true, torch.tanh, "activation 'mine': True is not a formula"),
    ],
)
def test_refusals(formula, spelling, message):
    with pytest.raises(PluginError) as caught:
        define_activation("mine", formula, spelling)
    assert str(caught.value).startswith(message)
