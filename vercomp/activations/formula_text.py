"""Formulas as a person writes them on one line: √3/18, log(1 + exp(2·z))/2, z³."""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from vercomp.activations.functions import Sigmoid, SigmoidComplement, Softplus
from vercomp.activations.torch_printer import positive_first
from vercomp.ir.activation import X

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_LONGEST_FRACTION = 1000

_NAMES: Mapping[type, str] = {
    Sigmoid: "sigmoid",
    Softplus: "softplus",
    sympy.atan: "arctan",
    sympy.Max: "max",
    sympy.Min: "min",
}

_ADD, _MUL, _UNARY, _POWER, _ATOM = range(5)
Text = tuple[str, int]
"""A formula and how tightly its outermost operator binds."""


def formula_text(formula: sympy.Basic) -> str:
    """The formula on one line; its variable is called z."""
    return _text(formula)[0]


def _inside(formula: sympy.Basic, binding: int) -> str:
    text, found = _text(formula)
    return text if found >= binding else f"({text})"


def _text(formula: sympy.Basic) -> Text:
    if formula == X:
        return "z", _ATOM
    if formula in (sympy.pi, sympy.E):
        return "π" if formula == sympy.pi else "e", _ATOM
    if isinstance(formula, sympy.Rational | sympy.Mul):
        return _product(formula)
    if isinstance(formula, sympy.Add):
        return _sum(formula)
    if isinstance(formula, sympy.Pow):
        return _power(formula)
    if isinstance(formula, sympy.Piecewise):
        return ", ".join(_piece(*piece.args) for piece in formula.args), -1
    if isinstance(formula, sympy.Abs):
        return f"|{formula_text(formula.args[0])}|", _ATOM
    if isinstance(formula, sympy.core.relational.Relational):
        return f"{formula_text(formula.lhs)} {formula.rel_op} {formula_text(formula.rhs)}", -1
    if isinstance(formula, SigmoidComplement):
        return f"sigmoid({formula_text(-formula.args[0])})", _ATOM
    if not formula.args:
        return str(formula), _ATOM
    arguments = sorted(formula.args, key=lambda argument: not argument.has(X))
    name = _NAMES.get(formula.func, formula.func.__name__)
    return f"{name}({', '.join(map(formula_text, arguments))})", _ATOM


def _piece(value: sympy.Expr, condition: sympy.Basic) -> str:
    where = "otherwise" if condition == sympy.true else f"where {formula_text(condition)}"
    return f"{formula_text(value)} {where}"


def _sum(formula: sympy.Add) -> Text:
    terms = [(_inside(t, _MUL), t.has(X)) for t in formula.as_ordered_terms()]
    ordered = [text for text, _ in sorted(terms, key=lambda t: (t[0].startswith("−"), t[1]))]
    joined = "".join(f" − {t[1:]}" if t.startswith("−") else f" + {t}" for t in ordered[1:])
    return ordered[0] + joined, _ADD


def _product(formula: sympy.Expr) -> Text:
    coefficient, rest = formula.as_coeff_Mul()
    if rest.free_symbols:
        coefficient, rest = positive_first(coefficient, rest)
    above: list[str] = []
    below: list[str] = []
    for factor in sympy.Mul.make_args(rest):
        base, exponent = factor.as_base_exp()
        if factor.is_Pow and exponent.is_Rational and exponent.is_negative:
            below.append(_inside(base**-exponent, _UNARY))
        elif factor != 1:
            above.append(_inside(factor, _UNARY))
    size = abs(coefficient)
    if size.q > _LONGEST_FRACTION:
        above.insert(0, f"{float(size):.6g}")
    else:
        if size.p != 1 or not above:
            above.insert(0, str(size.p))
        if size.q != 1:
            below.insert(0, str(size.q))
    divisor = "·".join(below)
    text = ("−" if coefficient.is_negative else "") + "·".join(above)
    if below:
        text += f"/({divisor})" if len(below) > 1 else f"/{divisor}"
    single = len(above) + len(below) == 1
    return text, _UNARY if coefficient.is_negative and single else _ATOM if single else _MUL


def _power(formula: sympy.Pow) -> Text:
    base, exponent = formula.base, formula.exp
    if exponent.is_Rational and exponent.is_negative:
        return _product(formula)
    if exponent == sympy.Rational(1, 2):
        return f"√{_inside(base, _ATOM)}", _POWER
    if exponent.is_Integer:
        return _inside(base, _ATOM) + str(exponent.p).translate(_SUPERSCRIPTS), _POWER
    return f"{_inside(base, _ATOM)}^({formula_text(exponent)})", _POWER
