"""Interval arithmetic for formulas: every value of a function over an interval, proved.

mpmath's intervals round sums, products and roots outward; its elementary functions are widened by a
few bits on top. The functions that mpmath lacks (tanh, erf, atan, sigmoid, softplus) are monotone:
their enclosures follow from the values at the two ends, which are computed with 30 bits more than
are kept, and widened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import sympy
from mpmath.ctx_iv import MPIntervalContext

from vercomp.activations.evaluation import LARGEST_EXPONENT
from vercomp.activations.functions import Sigmoid, Softplus
from vercomp.errors import InternalError, UnsupportedError

PRECISION = 80
"""Bits of the ends of intervals: enough for ranges to 1e-9 after cancellation."""

INTERVAL = MPIntervalContext()
INTERVAL.prec = PRECISION

_FINE = mpmath.MPContext()
_FINE.prec = PRECISION + 30

_WIDENING = 1 + INTERVAL.mpf([-1, 1]) * INTERVAL.mpf(2) ** (10 - PRECISION)


def interval(lower: Any, upper: Any) -> Any:
    """[lower, upper] from two binary floating-point numbers, exactly."""
    return INTERVAL.make_mpf((_FINE.convert(lower)._mpf_, _FINE.convert(upper)._mpf_))


def ends(value: Any) -> tuple[Any, Any]:
    """The two ends of an interval, exactly."""
    lower, upper = value._mpi_
    return _FINE.make_mpf(lower), _FINE.make_mpf(upper)


def _increasing(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The range of an increasing function over an interval."""

    def over(argument: Any) -> Any:
        lower, upper = ends(argument)
        low = interval(*[function(lower)] * 2) * _WIDENING
        high = interval(*[function(upper)] * 2) * _WIDENING
        return INTERVAL.make_mpf((low._mpi_[0], high._mpi_[1]))

    return over


def _sigmoid(u: Any) -> Any:
    if abs(u) > LARGEST_EXPONENT:
        raise UnsupportedError("a sigmoid of a number that is too large")
    return 1 / (1 + _FINE.exp(-u)) if u > 0 else _FINE.exp(u) / (1 + _FINE.exp(u))


def _softplus(u: Any) -> Any:
    if abs(u) > LARGEST_EXPONENT:
        raise UnsupportedError("a softplus of a number that is too large")
    return (u if u > 0 else 0) + _FINE.log1p(_FINE.exp(-abs(u)))


def _widened(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """mpmath's own ends of elementary functions miss the truth by an ulp now and then."""
    return lambda argument: function(argument) * _WIDENING


def exponential(u: Any) -> Any:
    """exp over an interval; ends that are too large for it become 0 and ∞."""
    lower, upper = INTERVAL.mpf(0), INTERVAL.mpf(INTERVAL.inf)
    if abs(u.a) <= LARGEST_EXPONENT:
        lower = INTERVAL.exp(u.a)
    if u.b <= LARGEST_EXPONENT:
        upper = INTERVAL.exp(INTERVAL.mpf(max(u.b, -LARGEST_EXPONENT)))
    elif lower.a == 0 and u.a > 0:
        lower = INTERVAL.exp(INTERVAL.mpf(LARGEST_EXPONENT))
    return INTERVAL.make_mpf((lower._mpi_[0], upper._mpi_[1])) * _WIDENING


def _logarithm(u: Any) -> Any:
    if u.a <= 0:
        raise SingularIntervalError
    return INTERVAL.log(u) * _WIDENING


class SingularIntervalError(Exception):
    """A quotient, root or logarithm over an interval on which it may not exist."""


class IntervalArithmetic:
    """Intervals with 80-bit ends; operations round outward."""

    functions: Mapping[type, Callable[..., Any]] = {
        sympy.exp: exponential,
        sympy.log: _logarithm,
        sympy.sin: _widened(INTERVAL.sin),
        sympy.cos: _widened(INTERVAL.cos),
        sympy.tanh: _increasing(_FINE.tanh),
        sympy.erf: _increasing(_FINE.erf),
        sympy.atan: _increasing(_FINE.atan),
        sympy.asinh: _increasing(_FINE.asinh),
        Sigmoid: _increasing(_sigmoid),
        Softplus: _increasing(_softplus),
    }

    def number(self, value: sympy.Expr) -> Any:
        """An enclosure of a rational number, π or e."""
        if isinstance(value, sympy.Rational):
            return INTERVAL.mpf(int(value.p)) / int(value.q)
        if value == sympy.pi:
            return +INTERVAL.pi
        if value == sympy.E:
            return +INTERVAL.e
        raise InternalError(f"{value} is no number")

    def add(self, a: Any, b: Any) -> Any:
        """a + b."""
        return a + b

    def multiply(self, a: Any, b: Any) -> Any:
        """a · b."""
        return a * b

    def power(self, base: Any, exponent: sympy.Rational) -> Any:
        """A rational power.

        Raises:
            SingularIntervalError: It may be a root of a negative number, or 1/0.
        """
        if exponent < 0 and base.a <= 0 <= base.b:
            raise SingularIntervalError
        if exponent.q == 1:
            return base ** int(exponent.p)
        if base.a < 0:
            raise SingularIntervalError
        if exponent.q == 2:
            return INTERVAL.sqrt(base) ** int(exponent.p)
        if base.a == 0:
            above = exponential(self.number(exponent) * _logarithm(INTERVAL.mpf(base.b)))
            return INTERVAL.make_mpf((INTERVAL.mpf(0)._mpi_[0], above._mpi_[1]))
        return exponential(self.number(exponent) * _logarithm(base))
