"""Formulas as a person writes them on one line: √3/18, log(1 + exp(2z))/2, z³."""

from __future__ import annotations

from typing import Any

import sympy
from sympy.printing.precedence import precedence
from sympy.printing.str import StrPrinter

from vercomp.ir.activation import X

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_LONGEST_FRACTION = 1000


class _TextPrinter(StrPrinter):  # type: ignore[misc]
    """sympy's one-line printer with Unicode powers, roots and products."""

    def _print_Symbol(self, expr: Any) -> str:  # noqa: N802 - names are sympy's
        return "z" if expr == X else str(expr.name)

    def _print_Pi(self, expr: Any) -> str:  # noqa: N802
        return "π"

    def _print_Rational(self, expr: Any) -> str:  # noqa: N802
        if expr.q > _LONGEST_FRACTION:
            return f"{float(expr):.6g}"
        return f"{expr.p}/{expr.q}" if expr.q != 1 else str(expr.p)

    def _print_Integer(self, expr: Any) -> str:  # noqa: N802
        return str(expr.p)

    def _print_Sigmoid(self, expr: Any) -> str:  # noqa: N802
        return f"sigmoid({self._print(expr.args[0])})"

    def _print_Softplus(self, expr: Any) -> str:  # noqa: N802
        return f"softplus({self._print(expr.args[0])})"

    def _print_atan(self, expr: Any) -> str:
        return f"arctan({self._print(expr.args[0])})"

    def _print_Abs(self, expr: Any) -> str:  # noqa: N802
        return f"|{self._print(expr.args[0])}|"

    def _print_Pow(self, expr: Any, rational: bool = False) -> str:  # noqa: N802
        base, exponent = expr.base, expr.exp
        if exponent == sympy.Rational(1, 2):
            inner = self._print(base)
            return (
                f"√{inner}"
                if base.is_Atom and not (base.is_Rational and base.q != 1)
                else f"√({inner})"
            )
        if exponent.is_Rational and exponent.is_negative:
            return f"1/{self.parenthesize(base**-exponent, precedence(sympy.Pow(X, 2)))}"
        written = self.parenthesize(base, precedence(expr), strict=True)
        if isinstance(base, sympy.Function) and not isinstance(base, sympy.Abs):
            written = f"({written})"
        if exponent.is_Integer:
            return written + str(exponent.p).translate(_SUPERSCRIPTS)
        return f"{written}^({self._print(exponent)})"

    def _print_Mul(self, expr: Any) -> str:  # noqa: N802
        if expr.could_extract_minus_sign():
            return f"−{self.parenthesize(-expr, precedence(sympy.Mul(X, 2, evaluate=False)))}"
        numerator, denominator = sympy.fraction(expr)
        if denominator != 1:
            above = self.parenthesize(numerator, precedence(expr))
            below = self.parenthesize(denominator, precedence(expr), strict=False)
            if isinstance(denominator, sympy.Mul):
                below = f"({self._print(denominator)})"
            return f"{above}/{below}"
        factors = [
            self.parenthesize(factor, precedence(expr)) for factor in expr.as_ordered_factors()
        ]
        return "·".join(factors)

    def _print_Add(self, expr: Any, order: Any = None) -> str:  # noqa: N802
        terms = sorted(expr.args, key=lambda term: (term.could_extract_minus_sign(), term.has(X)))
        text = self._print(terms[0])
        for term in terms[1:]:
            negative = term.could_extract_minus_sign()
            text += f" {'−' if negative else '+'} {self._print(-term if negative else term)}"
        return text

    def _print_Piecewise(self, expr: Any) -> str:  # noqa: N802
        parts = []
        for value, condition in expr.args:
            where = "otherwise" if condition == sympy.true else f"where {self._print(condition)}"
            parts.append(f"{self._print(value)} {where}")
        return ", ".join(parts)


def formula_text(expression: sympy.Expr) -> str:
    """The expression on one line; its variable is called z."""
    return str(_TextPrinter().doprint(expression))
