"""Logistic functions as functions: formulas rewritten so that derivatives stay short and stable.

1/(1 + exp(−x)), differentiated as it stands, overflows and says nothing about its own range. As
``Sigmoid`` its derivative is s(1 − s), a polynomial on [0, 1]: extrema are roots of polynomials,
and emitted code is one call of ``torch.sigmoid``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import sympy

from vercomp.ir.activation import X


class Sigmoid(sympy.Function):  # type: ignore[misc]
    """s(u) = 1 / (1 + exp(−u)), with s′ = s(1 − s) and s(−u) = 1 − s(u)."""

    nargs: ClassVar[Any] = 1
    is_real = True
    is_finite = True
    is_positive = True

    @classmethod
    def eval(cls, argument: sympy.Expr) -> sympy.Expr | None:
        """The value at zero, and one sign of the argument."""
        if argument.is_zero:
            return sympy.Rational(1, 2)
        if argument.could_extract_minus_sign():
            return 1 - cls(-argument)
        return None

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """s(1 − s)."""
        return self * (1 - self)

    def rewrite(self, *args: Any, **hints: Any) -> sympy.Expr:
        """In terms of exp, whatever is asked for."""
        return 1 / (1 + sympy.exp(-self.args[0]))

    def _eval_evalf(self, prec: int) -> sympy.Expr:
        return (1 / (1 + sympy.exp(-self.args[0])))._eval_evalf(prec)


class Softplus(sympy.Function):  # type: ignore[misc]
    """log(1 + exp(u)), with derivative s(u)."""

    nargs: ClassVar[Any] = 1
    is_real = True
    is_finite = True
    is_positive = True

    @classmethod
    def eval(cls, argument: sympy.Expr) -> sympy.Expr | None:
        """The value at zero."""
        return sympy.log(2) if argument.is_zero else None

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """s(u)."""
        return Sigmoid(self.args[0])

    def _eval_evalf(self, prec: int) -> sympy.Expr:
        return sympy.log(1 + sympy.exp(self.args[0]))._eval_evalf(prec)


class SigmoidComplement(sympy.Function):  # type: ignore[misc]
    """1 − s(u), kept as it is so that emitted code computes s(−u): for large u nothing cancels."""

    nargs: ClassVar[Any] = 1
    is_real = True
    is_finite = True
    is_positive = True


def in_terms_of_exp(expression: sympy.Expr) -> sympy.Expr:
    """The same with every s and softplus spelled out, which sympy can simplify."""
    spelled = expression.replace(Softplus, lambda u: sympy.log(1 + sympy.exp(u)))
    return spelled.replace(Sigmoid, lambda u: 1 / (1 + sympy.exp(-u)))


def without_cancellation(expression: sympy.Expr) -> sympy.Expr:
    """1 − s(u) and 1 − tanh²(u) replaced by forms that are accurate far out.

    Only where x multiplies them, and grows faster than the rounding of 1 + |x| allows for: not for
    s(x) itself.
    """
    outside = expression.replace(lambda e: isinstance(e, sympy.Function), lambda e: sympy.Dummy())
    if not outside.has(X):
        return expression

    def replaced(total: sympy.Expr) -> sympy.Expr:
        constant, rest = total.as_coeff_Add()
        factor, power = rest.as_coeff_Mul()
        function, exponent = power.as_base_exp()
        if constant == 0 or factor != -constant or not isinstance(function, sympy.Function):
            return total
        u = function.args[0]
        if u in (X, Softplus(X)):
            return total
        if isinstance(function, Sigmoid) and exponent == 1:
            return constant * SigmoidComplement(u)
        if isinstance(function, sympy.tanh) and exponent == 2:
            return constant / sympy.cosh(u) ** 2
        return total

    return expression.replace(lambda e: isinstance(e, sympy.Add), replaced)


def stabilise(formula: sympy.Expr) -> sympy.Expr:
    """The same function in terms of Sigmoid, Softplus, tanh and exp; floats become exact.

    Only rewritings that hold for every real argument are done.
    """
    exact = formula.replace(lambda e: isinstance(e, sympy.Float), sympy.Rational)
    rewritten = exact.replace(
        lambda e: isinstance(e, sympy.Pow) and e.base.is_positive and not e.exp.is_Rational,
        lambda e: sympy.exp(e.exp * sympy.log(e.base)) if e.base != sympy.E else e,
    )
    for kind, rule in _RULES:
        rewritten = rewritten.replace(kind, rule)
    return rewritten.replace(lambda e: isinstance(e, sympy.Mul), _merge_exponentials)


def factored(
    expression: sympy.Expr, factor: Callable[[sympy.Expr], sympy.Expr] = sympy.factor
) -> sympy.Expr:
    """sympy's factorisation (or another rewriting), on symbols for functions and for fractions.

    Left to itself it takes exp(px/q) for the p-th power of exp(x/q), and the exact value of a float
    has a p of sixteen digits; and it clears denominators, so that no coefficient is recognised.
    """
    masks: dict[sympy.Expr, sympy.Symbol] = {}

    def mask(part: sympy.Expr) -> sympy.Symbol:
        return masks.setdefault(part, sympy.Dummy(part.func.__name__, real=True))

    def masked(part: sympy.Expr) -> sympy.Expr:
        if not part.free_symbols:
            return part if part.is_Integer else mask(part)
        if isinstance(part, sympy.Function) or (part.is_Pow and not part.exp.is_Rational):
            return mask(part)
        if part.is_Pow:
            root = part.base ** sympy.Rational(1, part.exp.q)
            return (masked(part.base) if part.exp.q == 1 else mask(root)) ** part.exp.p
        return part.func(*map(masked, part.args)) if part.args else part

    result = factor(masked(expression))
    return result.xreplace({symbol: part for part, symbol in masks.items()})


def has_roots(expression: sympy.Expr) -> bool:
    """Whether the expression holds a power that is no integer one."""
    return any(power.exp.is_Rational and power.exp.q > 1 for power in expression.atoms(sympy.Pow))


def shortest(expression: sympy.Expr) -> sympy.Expr:
    """The shortest one of an expression, its factors, and roots over a common denominator."""
    candidates = [expression, factored(expression)]
    if has_roots(expression):
        candidates.append(factored(expression, sympy.cancel))
    return min(candidates, key=lambda e: e.count_ops())


def _logarithm(argument: sympy.Expr) -> sympy.Expr:
    """log(1 + e^u) = softplus(u); log cosh u = softplus(2u) − u − log 2."""
    exponent = _one_plus_exp(argument)
    if exponent is not None:
        return Softplus(exponent)
    if isinstance(argument, sympy.cosh):
        u = argument.args[0]
        return Softplus(2 * u) - u - sympy.log(2)
    return sympy.log(argument)


def _power(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
    """(1 + e^u)^−n = s(−u)^n; cosh^−2n = (1 − tanh²)^n."""
    if exponent.is_Integer and exponent.is_negative:
        u = _one_plus_exp(base)
        if u is not None:
            return Sigmoid(-u) ** (-exponent)
        if isinstance(base, sympy.cosh) and exponent.is_even:
            return (1 - sympy.tanh(base.args[0]) ** 2) ** (-exponent / 2)
    return base**exponent


def _one_plus_exp(expression: sympy.Expr) -> sympy.Expr | None:
    if isinstance(expression, sympy.Add) and len(expression.args) == 2:
        one, other = expression.args
        if one == 1 and isinstance(other, sympy.exp):
            return other.args[0]
    return None


def _merge_exponentials(product: sympy.Expr) -> sympy.Expr:
    """e^u s(−u) = s(u) and sinh u / cosh u = tanh u, so that nothing overflows."""
    factors = list(product.args)
    for exponential in [f for f in factors if isinstance(f, sympy.exp)]:
        u = exponential.args[0]
        for partner in factors:
            base, exponent = partner.as_base_exp()
            if base == Sigmoid(-u) and exponent.is_Integer and exponent.is_positive:
                factors.remove(exponential)
                factors.remove(partner)
                return _merge_exponentials(sympy.Mul(*factors, Sigmoid(u), base ** (exponent - 1)))
    for sine in [f for f in factors if isinstance(f, sympy.sinh)]:
        inverse = 1 / sympy.cosh(sine.args[0])
        if inverse in factors:
            factors.remove(sine)
            factors.remove(inverse)
            return sympy.Mul(*factors, sympy.tanh(sine.args[0]))
    return product


_RULES = (
    (sympy.sech, lambda u: 1 / sympy.cosh(u)),
    (sympy.log, _logarithm),
    (sympy.Pow, _power),
)
