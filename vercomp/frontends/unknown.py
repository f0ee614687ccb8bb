"""What a formula is that no activation of the table computes: the reason, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import sympy

from vercomp.activations import ActivationTable, constants, pieces
from vercomp.activations.branches import Branch, branches
from vercomp.activations.formula_text import formula_text
from vercomp.activations.functions import stabilise
from vercomp.activations.torch_printer import code
from vercomp.errors import UnboundedCurvatureError, UnsupportedError
from vercomp.ir.activation import Activation, X

_TINY = 1e-12
"""Jumps below this, relative to the values, are what rounding left of constants."""

_NAME = "the function"


@dataclass(frozen=True)
class Reason:
    """Why a formula cannot be analysed.

    Args:
        text: The reason, a sentence without its full stop.
        remedy: How to make an activation of it; empty where nothing would.
    """

    text: str
    remedy: str = ""


def explained(formula: sympy.Basic, table: ActivationTable) -> Reason:
    """Why a formula in ``X`` that is made of no known activations cannot be analysed.

    One that jumps has no bound between its values, one whose slope is unbounded none at all; any
    other one becomes an activation once somebody defines it, and the remedy says how.
    """
    text = _written(formula)
    if not isinstance(formula, sympy.Expr):
        formula = sympy.Piecewise((1, formula), (0, True), evaluate=False)
    unknown = Reason(f"{text} is not made of activations that vercomp knows")
    try:
        parts = branches(formula)
        jump = _jump(parts, table)
        if jump:
            return Reason(f"{text} jumps {jump}, so no bound holds on both sides")
        activation = Activation(_NAME, formula, lambda x: x)
        found = constants(activation)
        if found.second_range is None:
            pieces(activation)  # without curvature, intervals must do
    except UnboundedCurvatureError as error:
        why = error.message.removeprefix(f"the derivatives of {_NAME} could not be bounded: ")
        return Reason(f"{text} cannot be bounded: {why.replace(f' of {_NAME}', '')}")
    except UnsupportedError:
        return unknown
    kind = "has kinks" if found.second_range is None else "is smooth"
    return Reason(
        f"{text} {kind}, but is none of the activations that vercomp knows", _definition(formula)
    )


def _jump(parts: Sequence[Branch], table: ActivationTable) -> str:
    """Where the first jump is, how large, and between what; empty without one."""
    for left, right in pairwise(parts):
        at = left.upper
        ends = [sympy.N(part.formula.subs(X, at), 30) for part in (left, right)]
        size = abs(ends[1] - ends[0])
        if size > _TINY * (1 + abs(ends[0])):
            sides = [_called(part.formula, table) for part in (left, right)]
            threshold = ", its threshold," if sides[1] == "x" and "softplus" in sides[0] else ""
            place = f"at x = {float(at):.4g}{threshold}"
            return f"by {float(size):.3g} {place} from {sides[0]} to {sides[1]}"
    return ""


def _called(formula: sympy.Expr, table: ActivationTable) -> str:
    """One side of a jump, by its name where it has one."""
    known = None if sympy.diff(formula, X, 2) == 0 else table.match(formula)
    return _written(formula) if known is None else str(known)


def _written(formula: sympy.Basic) -> str:
    """The formula with four digits of each number, as a person writes it."""
    short = formula.replace(
        lambda part: isinstance(part, sympy.Rational) and part.q > 100, _four_digits
    )
    return formula_text(short).replace("z", "x")  # no function that it names has a z


def _four_digits(value: sympy.Rational) -> sympy.Rational:
    return sympy.Rational(f"{float(value):.4g}")


def _definition(formula: sympy.Expr) -> str:
    """The lines that make an activation of it, where torch can spell it."""
    try:
        spelled = code(stabilise(formula))
    except UnsupportedError:
        return ""
    doubles = formula.replace(
        lambda part: isinstance(part, sympy.Rational) and part.q > 1000,
        lambda part: sympy.Symbol(repr(float(part))),
    )
    return (
        "Define it in a script that compiles the model, or in a plugin:\n"
        "    @vercomp.register\n"
        "    def register(registry):\n"
        "        registry.add_activation(\n"
        f'            vercomp.define_activation("mine", "{doubles}", lambda x: {spelled})\n'
        "        )"
    )
