"""Behaviour at infinity: E(x) = p(x) + r(x) with a polynomial p and a remainder that is bounded.

For x ≥ T every formula is followed as ``p + r`` with ``|r(x)| ≤ A x^k exp(−λx)``: p has exact
coefficients, A, k and λ are proved. So tails of derivatives are enclosed without sampling, and
limits are read off (p is constant and the remainder decays).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy

from vercomp.activations.evaluation import Program
from vercomp.activations.functions import Sigmoid, Softplus
from vercomp.activations.intervals import INTERVAL, IntervalArithmetic, exponential
from vercomp.errors import UnsupportedError
from vercomp.ir.activation import X

Coefficients = tuple[sympy.Expr, ...]
"""Of a polynomial, the constant first; the last one is not zero; () is the zero polynomial."""

_REAL = IntervalArithmetic()


class UnknownTailError(Exception):
    """Nothing is proved about a formula at infinity."""


@dataclass(frozen=True)
class Remainder:
    """|r(x)| ≤ bound · x^power · exp(−rate · x) for x ≥ T; bound 0 is no remainder at all.

    ``bound`` is an interval whose upper end counts; ``rate`` ≥ 0 is a number.
    """

    bound: Any
    power: sympy.Rational = sympy.S.Zero
    rate: Any = 0

    @property
    def is_zero(self) -> bool:
        """Whether there is no remainder."""
        return bool(self.bound.b == 0)


@dataclass(frozen=True)
class Tail:
    """p(x) + r(x) for x ≥ T."""

    polynomial: Coefficients
    remainder: Remainder

    @property
    def degree(self) -> int:
        """Degree of p; −1 for zero."""
        return len(self.polynomial) - 1


_NOTHING = Remainder(INTERVAL.mpf(0))


@lru_cache(maxsize=4096)
def number_enclosure(value: sympy.Expr) -> Any:
    """An interval that holds an exact number."""
    return Program((value,), _REAL)(None)[0]


class TailArithmetic:
    """Arithmetic of tails on [T, ∞).

    Args:
        start: T ≥ 1, a float.
    """

    def __init__(self, start: float) -> None:
        self.start = INTERVAL.mpf(start)
        self.functions: Mapping[type, Callable[..., Tail]] = {
            sympy.exp: self._exp,
            sympy.log: self._log,
            sympy.erf: self._erf,
            sympy.atan: self._atan,
            sympy.tanh: self._tanh,
            sympy.sin: lambda u: self._wave(sympy.sin, u),
            sympy.cos: lambda u: self._wave(sympy.cos, u),
            Sigmoid: self._sigmoid,
            Softplus: self._softplus,
        }

    @property
    def variable(self) -> Tail:
        """x itself."""
        return Tail((sympy.Integer(0), sympy.Integer(1)), _NOTHING)

    def number(self, value: sympy.Expr) -> Tail:
        """A constant."""
        return _polynomial((value,))

    def add(self, a: Tail, b: Tail) -> Tail:
        """a + b."""
        longer, shorter = sorted((a.polynomial, b.polynomial), key=len, reverse=True)
        padded = shorter + (sympy.Integer(0),) * (len(longer) - len(shorter))
        total = _polynomial(tuple(c + d for c, d in zip(longer, padded, strict=True)))
        return Tail(total.polynomial, self._sum(a.remainder, b.remainder))

    def multiply(self, a: Tail, b: Tail) -> Tail:
        """a · b."""
        product = [sympy.Integer(0)] * max(0, len(a.polynomial) + len(b.polynomial) - 1)
        for i, c in enumerate(a.polynomial):
            for j, d in enumerate(b.polynomial):
                product[i + j] += c * d
        remainder = self._product(a.remainder, b.remainder)
        remainder = self._sum(remainder, self._product(self._size(a), b.remainder))
        remainder = self._sum(remainder, self._product(self._size(b), a.remainder))
        return Tail(_polynomial(tuple(product)).polynomial, remainder)

    def power(self, base: Tail, exponent: sympy.Rational) -> Tail:
        """A rational power; a negative or fractional one only where the base keeps its sign."""
        if exponent.is_Integer and exponent > 0:
            result = base
            for _ in range(int(exponent) - 1):
                result = self.multiply(result, base)
            return result
        p, r = _number_of(exponent), base.remainder
        if base.degree < 0:  # without a polynomial nothing is known about its sign
            raise UnknownTailError
        least, most = self._magnitude(base)
        if exponent.is_Integer is False and self._sign(base) < 0:
            raise UnknownTailError
        if base.degree > 0:
            return Tail(
                (), Remainder((least if exponent < 0 else most) ** p, base.degree * exponent)
            )
        steepest = max((abs(p) * least ** (p - 1)).b, (abs(p) * most ** (p - 1)).b)
        slope = Remainder(INTERVAL.mpf(steepest))
        return Tail((base.polynomial[0] ** exponent,), self._product(slope, r))

    def enclosure(self, tail: Tail) -> Any:
        """An interval that holds every value on [T, ∞).

        Raises:
            UnknownTailError: None is known.
        """
        if tail.degree > 0:
            raise UnknownTailError
        centre = number_enclosure(tail.polynomial[0]) if tail.polynomial else INTERVAL.mpf(0)
        radius = self._largest(tail.remainder).b
        return centre + INTERVAL.mpf([-radius, radius])

    def grows(self, tail: Tail) -> bool:
        """Whether the function is proved to be unbounded."""
        try:
            return tail.degree > 0 and bool(self._magnitude(tail)[0].a > 0)
        except UnknownTailError:
            return False

    def sign(self, tail: Tail) -> int:
        """The sign of p + r on [T, ∞).

        Raises:
            UnknownTailError: It is not proved that there is one.
        """
        if not tail.polynomial:
            raise UnknownTailError
        self._magnitude(tail)
        return self._sign(tail)

    # Remainders

    def _sum(self, a: Remainder, b: Remainder) -> Remainder:
        if a.is_zero or b.is_zero:
            return b if a.is_zero else a
        if (a.rate, -a.power) > (b.rate, -b.power):
            a, b = b, a
        ratio = Remainder(b.bound, b.power - a.power, (INTERVAL.mpf(b.rate) - a.rate).a)
        return Remainder(a.bound + self._largest(ratio), a.power, a.rate)

    def _product(self, a: Remainder, b: Remainder) -> Remainder:
        if a.is_zero or b.is_zero:
            return _NOTHING
        return Remainder(a.bound * b.bound, a.power + b.power, (INTERVAL.mpf(a.rate) + b.rate).a)

    def _largest(self, r: Remainder) -> Any:
        """sup of bound · x^power · exp(−rate · x) over x ≥ T; at T or at power/rate."""
        if r.is_zero:
            return r.bound
        power, rate = _number_of(r.power), INTERVAL.mpf(r.rate)
        if rate.b == 0:
            if r.power > 0:
                raise UnknownTailError
            return r.bound * self.start**power
        at_start = r.bound * self.start**power * exponential(-rate * self.start)
        peak = power / rate
        if peak.b <= self.start.a:
            return at_start
        at_peak = r.bound * peak**power * exponential(-power)
        return at_peak if at_peak.b > at_start.b else at_start

    def _size(self, tail: Tail) -> Remainder:
        """|p(x)| as a bound of the form of a remainder."""
        if not tail.polynomial:
            return _NOTHING
        total = INTERVAL.mpf(0)
        for index, coefficient in enumerate(tail.polynomial):
            total += abs(number_enclosure(coefficient)) * self.start ** (index - tail.degree)
        return Remainder(total, sympy.Integer(tail.degree))

    def _magnitude(self, tail: Tail) -> tuple[Any, Any]:
        """m, M > 0 with m x^d ≤ |p + r| ≤ M x^d for x ≥ T, d the degree of p."""
        leading = abs(number_enclosure(tail.polynomial[-1]))
        lower_terms = Tail(tail.polynomial[:-1], _NOTHING)
        rest = INTERVAL.mpf(0)
        for index, coefficient in enumerate(lower_terms.polynomial):
            rest += abs(number_enclosure(coefficient)) * self.start ** (index - tail.degree)
        r = tail.remainder
        rest += self._largest(Remainder(r.bound, r.power - tail.degree, r.rate))
        least, most = leading - rest, leading + rest
        if least.a <= 0:
            raise UnknownTailError
        return least, most

    def _sign(self, tail: Tail) -> int:
        """The sign of p + r on [T, ∞), once :meth:`_magnitude` has proved that it is constant."""
        return 1 if number_enclosure(tail.polynomial[-1]).a > 0 else -1

    def _exponential(self, u: Tail, factor: int = 1) -> Remainder:
        """exp(factor · u) as a remainder, where factor · u goes to −∞."""
        p = [factor * coefficient for coefficient in u.polynomial]
        radius = self._largest(u.remainder) * abs(factor)
        degree = len(p) - 1
        values = [number_enclosure(coefficient) for coefficient in p]
        bend = values[-1] * (degree * (degree - 1))
        for j in range(2, degree):
            bend += abs(values[j]) * (j * (j - 1)) * self.start ** (j - degree)
        slope = sum(j * values[j] * self.start ** (j - 1) for j in range(1, degree + 1))
        if not (slope.b < 0 and bend.b <= 0):
            raise UnknownTailError
        # p is concave from T on, so it lies below its tangent there.
        rate = -INTERVAL.mpf(slope.b)
        start = sum(value * self.start**j for j, value in enumerate(values))
        bound = exponential(start + rate * self.start + INTERVAL.mpf(radius.b))
        return Remainder(bound, sympy.Integer(0), rate.a)

    # Functions

    def _lipschitz(self, function: Callable[[sympy.Expr], sympy.Expr], slope: Any, u: Tail) -> Tail:
        """A function of p + r with constant p: f(p), and the remainder times a slope."""
        value = function(u.polynomial[0] if u.polynomial else sympy.Integer(0))
        return Tail(
            _polynomial((value,)).polynomial,
            self._product(Remainder(INTERVAL.mpf(slope)), u.remainder),
        )

    def _exp(self, u: Tail) -> Tail:
        if u.degree > 0:
            return Tail((), self._exponential(u))
        radius = self._largest(u.remainder)
        value = sympy.exp(u.polynomial[0] if u.polynomial else 0)
        steepest = number_enclosure(value) * exponential(radius)
        return self._lipschitz(sympy.exp, steepest, u)

    def _log(self, u: Tail) -> Tail:
        if u.degree < 0 or self._sign(u) < 0:
            raise UnknownTailError
        least, most = self._magnitude(u)
        if u.degree == 0:
            return self._lipschitz(sympy.log, 1 / least, u)
        # log x ≤ 2 √x, and |log| of what multiplies x^d is bounded.
        size = abs(INTERVAL.log(least)) + abs(INTERVAL.log(most)) + 2 * u.degree
        return Tail((), Remainder(size, sympy.Rational(1, 2)))

    def _saturating(
        self,
        function: Callable[[sympy.Expr], sympy.Expr],
        slope: Any,
        u: Tail,
        limits: tuple[sympy.Expr, sympy.Expr],
        approach: Callable[[Tail, int], Remainder],
    ) -> Tail:
        """A bounded monotone function: its limit, and how fast it is reached."""
        if u.degree <= 0:
            return self._lipschitz(function, slope, u)
        sign = self._sign(u)
        self._magnitude(u)
        return Tail(
            _polynomial((limits[1] if sign > 0 else limits[0],)).polynomial, approach(u, sign)
        )

    def _sigmoid(self, u: Tail) -> Tail:
        ends = (sympy.Integer(0), sympy.Integer(1))
        return self._saturating(Sigmoid, 0.25, u, ends, lambda v, sign: self._exponential(v, -sign))

    def _tanh(self, u: Tail) -> Tail:
        def approach(v: Tail, sign: int) -> Remainder:
            """1 − tanh|v| ≤ 2 exp(−2|v|)."""
            return self._product(Remainder(INTERVAL.mpf(2)), self._exponential(v, -2 * sign))

        return self._saturating(sympy.tanh, 1, u, (sympy.Integer(-1), sympy.Integer(1)), approach)

    def _erf(self, u: Tail) -> Tail:
        def approach(v: Tail, sign: int) -> Remainder:
            """1 − erf|v| ≤ exp(−v²)."""
            return self._exponential(self.multiply(v, v), -1)

        ends = (sympy.Integer(-1), sympy.Integer(1))
        return self._saturating(sympy.erf, 2, u, ends, approach)

    def _atan(self, u: Tail) -> Tail:
        def approach(v: Tail, sign: int) -> Remainder:
            """π/2 − atan|v| ≤ 1/|v|."""
            return Remainder(1 / self._magnitude(v)[0], sympy.Integer(-v.degree))

        return self._saturating(sympy.atan, 1, u, (-sympy.pi / 2, sympy.pi / 2), approach)

    def _softplus(self, u: Tail) -> Tail:
        if u.degree <= 0:
            return self._lipschitz(Softplus, 1, u)
        self._magnitude(u)
        sign = self._sign(u)
        decay = self._exponential(u, -sign)
        if sign < 0:
            return Tail((), decay)
        return Tail(u.polynomial, self._sum(u.remainder, decay))

    def _wave(self, function: Any, u: Tail) -> Tail:
        if u.degree > 0:
            return Tail((), Remainder(INTERVAL.mpf(1)))
        return self._lipschitz(function, 1, u)


def tail(formula: sympy.Expr, start: float) -> tuple[Tail, TailArithmetic]:
    """A formula on [start, ∞).

    Raises:
        UnknownTailError: Nothing is proved there.
    """
    arithmetic = TailArithmetic(start)
    try:
        return Program((formula,), arithmetic)(arithmetic.variable)[0], arithmetic
    except UnsupportedError as error:
        raise UnknownTailError from error


def limit(formula: sympy.Expr, direction: int) -> sympy.Expr | None:
    """The limit at ±∞, where it is finite and proved; None otherwise."""
    try:
        found, arithmetic = tail(formula if direction > 0 else formula.subs(X, -X), 64.0)
        arithmetic.enclosure(found)
    except UnknownTailError:
        return None
    r = found.remainder
    if not (r.is_zero or r.rate > 0 or r.power < 0):
        return None
    return found.polynomial[0] if found.polynomial else sympy.Integer(0)


def _polynomial(coefficients: Coefficients) -> Tail:
    """Without leading zeros."""
    kept = [_canonical(c) for c in coefficients]
    while kept and kept[-1] == 0:
        kept.pop()
    return Tail(tuple(kept), _NOTHING)


def _canonical(value: sympy.Expr) -> sympy.Expr:
    return value if isinstance(value, sympy.Rational) else sympy.expand(value)


def _number_of(value: sympy.Rational) -> Any:
    return INTERVAL.mpf(int(value.p)) / int(value.q)
