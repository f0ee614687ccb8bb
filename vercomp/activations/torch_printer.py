"""sympy expressions as torch expressions, spaced as a formatter spaces them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import sympy

from vercomp.activations.functions import Sigmoid, SigmoidComplement, Softplus
from vercomp.errors import UnsupportedError

_FUNCTIONS: Mapping[type, str] = {
    sympy.exp: "torch.exp",
    sympy.log: "torch.log",
    sympy.sin: "torch.sin",
    sympy.cos: "torch.cos",
    sympy.tan: "torch.tan",
    sympy.sinh: "torch.sinh",
    sympy.cosh: "torch.cosh",
    sympy.tanh: "torch.tanh",
    sympy.asinh: "torch.arcsinh",
    sympy.atan: "torch.arctan",
    sympy.asin: "torch.arcsin",
    sympy.acos: "torch.arccos",
    sympy.erf: "torch.erf",
    sympy.erfc: "torch.erfc",
    sympy.Abs: "torch.abs",
    sympy.sign: "torch.sign",
    Sigmoid: "torch.sigmoid",
}

_ADD, _MUL, _UNARY, _POWER, _ATOM = range(5)
Text = tuple[str, int]
"""An expression and how tightly its outermost operator binds."""


def code(expression: sympy.Basic) -> str:
    """The expression as Python over torch; symbols are variables, numbers are float64.

    Raises:
        UnsupportedError: A function that torch does not have.
    """
    return _text(expression)[0]


def needs_care(expression: sympy.Expr) -> bool:
    """Whether an expression may overflow or divide by zero away from where it is meant."""
    return any(
        isinstance(part, sympy.Function)
        or (isinstance(part, sympy.Pow) and not part.exp.is_positive)
        for part in sympy.preorder_traversal(expression)
        if part.free_symbols
    )


def _text(expression: sympy.Basic) -> Text:
    if isinstance(expression, sympy.Symbol):
        return expression.name, _ATOM
    if not expression.free_symbols and isinstance(expression, sympy.Expr):
        return _number(expression)
    if isinstance(expression, sympy.Add):
        return _sum(expression)
    if isinstance(expression, sympy.Mul):
        return _product(expression)
    if isinstance(expression, sympy.Pow):
        return _power(expression)
    if isinstance(expression, sympy.Piecewise):
        return _where(expression)
    if isinstance(expression, sympy.Gt):
        return f"{_inside(expression.lhs, _ADD)} > {_inside(expression.rhs, _ADD)}", -1
    if isinstance(expression, Softplus):
        # torch's own threshold, 20, is seen in float64.
        return f"F.softplus({code(expression.args[0])}, threshold=50)", _ATOM
    if isinstance(expression, SigmoidComplement):
        return f"torch.sigmoid({code(-expression.args[0])})", _ATOM
    function = _FUNCTIONS.get(expression.func)
    if function is None or len(expression.args) != 1:
        raise UnsupportedError(f"torch has no function for {expression.func.__name__}")
    return f"{function}({code(expression.args[0])})", _ATOM


def _inside(expression: sympy.Expr, binding: int) -> str:
    text, found = _text(expression)
    return text if found >= binding else f"({text})"


def _number(value: sympy.Expr) -> Text:
    number = float(value if value.is_Rational else sympy.N(value, 30))
    integer = number.is_integer() and abs(number) < 1e15
    text = str(int(number)) if integer else repr(number).replace("e+", "e")
    return text, _UNARY if text.startswith("-") else _ATOM


def _sum(expression: sympy.Add) -> Text:
    terms = [(_inside(t, _MUL), bool(t.free_symbols)) for t in expression.as_ordered_terms()]
    if any(not text.startswith("-") for text, _ in terms):  # no term is led by its minus then
        terms = [(re.sub(r"^-\((\w+\*\*\d+)\)$", r"-\1", text), x) for text, x in terms]
    ordered = [text for text, _ in sorted(terms, key=lambda t: (t[0].startswith("-"), t[1]))]
    joined = "".join(f" - {t[1:]}" if t.startswith("-") else f" + {t}" for t in ordered[1:])
    return ordered[0] + joined, _ADD


def _product(expression: sympy.Mul) -> Text:
    coefficient, rest = expression.as_independent(*expression.free_symbols, as_Add=False)
    coefficient, rest = positive_first(coefficient, rest)
    above: list[str] = []
    below: list[str] = []
    for factor in sympy.Mul.make_args(rest):
        base, exponent = factor.as_base_exp()
        if exponent.is_Rational and exponent.is_negative:
            below.append(_inside(base**-exponent, _POWER))
        else:
            above.append(_inside(factor, _UNARY))
    sign = "-" if coefficient.is_negative else ""
    if abs(coefficient) != 1 or not above:
        above.insert(0, _number(abs(coefficient))[0])
    if sign and re.fullmatch(r"\w+\*\*\d+", above[0]):
        above[0] = f"({above[0]})"
    text = sign + " * ".join(above) + "".join(f" / {divisor}" for divisor in below)
    return text, _MUL if len(above) + len(below) > 1 else _UNARY


def positive_first(coefficient: sympy.Expr, rest: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
    """A product with its factors s − 1 turned into 1 − s, and the sign in the coefficient."""
    factors = []
    for factor in sympy.Mul.make_args(rest):
        base, exponent = factor.as_base_exp()
        turned = (
            isinstance(base, sympy.Add)
            and exponent.is_Integer
            and base.as_independent(*base.free_symbols, as_Add=True)[0].is_negative
        )
        factors.append((-base) ** exponent if turned else factor)
        if turned and exponent.is_odd:
            coefficient = -coefficient
    return coefficient, sympy.Mul(*factors, evaluate=False) if len(factors) > 1 else factors[0]


def _power(expression: sympy.Pow) -> Text:
    base, exponent = expression.base, expression.exp
    if not exponent.is_Rational:
        raise UnsupportedError(f"the power {expression} cannot be written with torch")
    if exponent.is_negative:
        return f"1 / {_inside(base**-exponent, _POWER)}", _MUL
    if exponent == sympy.Rational(1, 2):
        return f"torch.sqrt({code(base)})", _ATOM
    if exponent.is_Integer:
        text, binding = _text(base)
        if isinstance(base, sympy.Symbol):
            return f"{text}**{exponent.p}", _POWER
        return f"{text if binding == _ATOM else f'({text})'} ** {exponent.p}", _POWER
    return f"torch.pow({code(base)}, {_number(exponent)[0]})", _ATOM


def _where(expression: sympy.Piecewise) -> Text:
    *others, (last, _) = expression.args
    text = code(last)
    if not any(value.free_symbols for value, _ in expression.args):
        text = f"torch.full_like(z, {text})"
    for value, condition in reversed(others):
        text = f"torch.where({code(condition)}, {code(value)}, {text})"
    return text, _ATOM
