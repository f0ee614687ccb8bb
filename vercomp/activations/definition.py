"""Activations that users define: a formula, a torch spelling, and a check that they agree."""

from __future__ import annotations

import sys

import sympy
import torch

from vercomp.activations.evaluation import REAL, real_function
from vercomp.activations.family import ActivationFamily, Spelling
from vercomp.activations.trace import traced
from vercomp.errors import PluginError, UnsupportedError
from vercomp.ir.activation import X

_ROUNDING = 8 * 2.0**-53
"""Error of an activation in float64 that certificates allow for, times 1 + |σ| + |x|."""


def define_activation(name: str, formula: sympy.Expr, spelling: Spelling) -> ActivationFamily:
    """A new activation without parameters.

    Args:
        name: Its name; any string.
        formula: σ in ``X`` (or in one other symbol, which is taken for it).
        spelling: The torch function that computes it, elementwise, from torch's functions.

    Raises:
        PluginError: The formula is none, the spelling cannot be traced, or they differ: the first
            point where they do is named.
    """
    formula = _formula(name, formula)
    caller = sys._getframe(1).f_globals.get("__name__", "a script")
    family = ActivationFamily(name, formula, spelling, owner=str(caller))
    activation = family.build()
    try:
        traced(activation)
        function = real_function(formula)
    except UnsupportedError as error:
        raise PluginError(f"activation {name!r}: {error.message}", remedy=error.remedy) from error
    points = _grid()
    computed = spelling(points)
    if computed.shape != points.shape or computed.dtype != points.dtype:
        raise PluginError(
            f"activation {name!r}: the torch function maps a float64 tensor of shape "
            f"{tuple(points.shape)} to {computed.dtype} {tuple(computed.shape)}",
            remedy="It must be elementwise",
        )
    for x, value in zip(points.tolist(), computed.tolist(), strict=True):
        try:
            true = REAL.convert(function(x))
        except (ArithmeticError, ValueError, TypeError) as error:
            raise PluginError(
                f"activation {name!r}: the formula has no value at x = {x:g}"
            ) from error
        if not isinstance(true, REAL.mpf):
            raise PluginError(f"activation {name!r}: the formula is not real at x = {x:g}")
        if not abs(true - REAL.mpf(value)) <= _ROUNDING * (1 + abs(true) + abs(x)):
            raise PluginError(
                f"activation {name!r}: the torch function and the formula differ at x = {x:g}: "
                f"{value:.17g} against {float(true):.17g}",
                remedy="Both must compute the same function, to float64 rounding",
            )
    return family


def _formula(name: str, formula: sympy.Expr) -> sympy.Expr:
    expression = sympy.sympify(formula)
    if not isinstance(expression, sympy.Expr):
        raise PluginError(f"activation {name!r}: {formula!r} is not a formula")
    symbols = expression.free_symbols
    if len(symbols) > 1:
        listed = ", ".join(sorted(map(str, symbols)))
        raise PluginError(
            f"activation {name!r}: the formula has {len(symbols)} variables: {listed}",
            remedy="It must be a function of one variable alone",
        )
    return expression.subs(dict.fromkeys(symbols, X))


def _grid() -> torch.Tensor:
    near = torch.linspace(-12.0, 12.0, 385, dtype=torch.float64)
    far = torch.logspace(1, 8, 57, dtype=torch.float64)
    return torch.cat((-far.flip(0), near, far))
