"""Formulas evaluated in any arithmetic: real numbers, intervals, behaviour at infinity.

A :class:`Program` walks a formula once and is then run as often as wanted; an :class:`Arithmetic`
says what numbers, sums, products, powers and functions are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import mpmath
import sympy
from sympy.functions.elementary.piecewise import ExprCondPair

from vercomp.activations.functions import Sigmoid, Softplus
from vercomp.errors import UnsupportedError
from vercomp.ir.activation import X

T = TypeVar("T")


class Arithmetic(Protocol[T]):
    """What a program needs to know about its numbers."""

    @property
    def functions(self) -> Mapping[type, Callable[..., T]]:
        """The functions by their sympy class."""

    def number(self, value: sympy.Expr) -> T:
        """A rational number, π or e."""

    def add(self, a: T, b: T) -> T:
        """a + b."""

    def multiply(self, a: T, b: T) -> T:
        """a · b."""

    def power(self, base: T, exponent: sympy.Rational) -> T:
        """A rational power."""


class Program(Generic[T]):
    """Formulas compiled for one arithmetic; parts that they share are computed once.

    Args:
        formulas: Expressions in the variables.
        arithmetic: What to compute with.
        variables: The arguments of the program, in order.

    Raises:
        UnsupportedError: A formula holds a function that the arithmetic does not know.
    """

    def __init__(
        self,
        formulas: Sequence[sympy.Basic],
        arithmetic: Arithmetic[T],
        variables: Sequence[sympy.Symbol] = (X,),
    ) -> None:
        self._arithmetic = arithmetic
        self._slots: dict[sympy.Basic, int] = {v: slot for slot, v in enumerate(variables)}
        self._constants: list[Any] = [None] * len(variables)
        self._steps: list[tuple[int, Callable[..., T], tuple[int, ...]]] = []
        self._outputs = tuple(self._slot(formula) for formula in formulas)

    def __call__(self, *arguments: T) -> tuple[T, ...]:
        """The values of the formulas, given those of the variables."""
        values = list(self._constants)
        values[: len(arguments)] = arguments
        for target, function, indices in self._steps:
            values[target] = function(*[values[index] for index in indices])
        return tuple(values[index] for index in self._outputs)

    def _slot(self, node: sympy.Basic) -> int:
        found = self._slots.get(node)
        if found is not None:
            return found
        if isinstance(node, sympy.Rational | sympy.Float):
            slot = self._constant(self._arithmetic.number(sympy.Rational(node)))
        elif node in (sympy.pi, sympy.E):
            slot = self._constant(self._arithmetic.number(node))
        elif node in (sympy.true, sympy.false):
            slot = self._constant(node == sympy.true)
        elif isinstance(node, sympy.Add):
            slot = self._fold(self._arithmetic.add, node.args)
        elif isinstance(node, sympy.Mul):
            slot = self._fold(self._arithmetic.multiply, node.args)
        elif isinstance(node, sympy.Pow) and isinstance(node.exp, sympy.Rational):
            exponent, power = node.exp, self._arithmetic.power
            slot = self._step(lambda base: power(base, exponent), (self._slot(node.base),))
        elif isinstance(node, sympy.Pow) and node.base.is_positive and not node.base.free_symbols:
            exponential = self._known(sympy.exp), self._known(sympy.log)
            rate = self._step(exponential[1], (self._slot(node.base),))
            product = self._step(self._arithmetic.multiply, (self._slot(node.exp), rate))
            slot = self._step(exponential[0], (product,))
        else:
            slot = self._function(node)
        self._slots[node] = slot
        return slot

    def _function(self, node: sympy.Basic) -> int:
        function = self._known(node.func)
        parts: list[sympy.Basic] = []
        for argument in node.args:
            parts.extend(argument.args if isinstance(argument, ExprCondPair) else (argument,))
        return self._step(function, tuple(self._slot(part) for part in parts))

    def _known(self, kind: type) -> Callable[..., T]:
        function = self._arithmetic.functions.get(kind)
        if function is None:
            raise UnsupportedError(f"the function {kind.__name__} is not known here")
        return function

    def _fold(self, combine: Callable[[T, T], T], parts: Sequence[sympy.Basic]) -> int:
        slots = [self._slot(part) for part in parts]
        total = slots[0]
        for slot in slots[1:]:
            total = self._step(combine, (total, slot))
        return total

    def _constant(self, value: Any) -> int:
        self._constants.append(value)
        return len(self._constants) - 1

    def _step(self, function: Callable[..., T], arguments: tuple[int, ...]) -> int:
        values = [self._constants[index] for index in arguments]
        if all(value is not None for value in values):
            return self._constant(function(*values))
        slot = self._constant(None)
        self._steps.append((slot, function, arguments))
        return slot


#: Real numbers with 50 digits, a context of our own: nobody else's precision is touched.
REAL = mpmath.MPContext()
REAL.dps = 50


LARGEST_EXPONENT = 1e60
"""exp of more (of an exp, say) would take for ever, with numbers whose exponents have no bound."""


def _exp(u: Any) -> Any:
    if abs(u) > LARGEST_EXPONENT:
        raise OverflowError("exp of a number that is too large")
    return REAL.exp(u)


def _piecewise(*parts: Any) -> Any:
    for value, condition in zip(parts[::2], parts[1::2], strict=True):
        if condition:
            return value
    raise ValueError("no branch of a Piecewise applies")


class RealArithmetic:
    """Numbers of 50 digits; conditions, maxima and absolute values included."""

    functions: Mapping[type, Callable[..., Any]] = {
        sympy.exp: _exp,
        sympy.log: REAL.log,
        sympy.sin: REAL.sin,
        sympy.cos: REAL.cos,
        sympy.tan: REAL.tan,
        sympy.sinh: REAL.sinh,
        sympy.cosh: REAL.cosh,
        sympy.tanh: REAL.tanh,
        sympy.sech: REAL.sech,
        sympy.asinh: REAL.asinh,
        sympy.atan: REAL.atan,
        sympy.erf: REAL.erf,
        sympy.erfc: REAL.erfc,
        Sigmoid: lambda u: 1 / (1 + _exp(-u)),
        Softplus: lambda u: (u if u > 0 else 0) + REAL.log1p(_exp(-abs(u))),
        sympy.Abs: abs,
        sympy.sign: REAL.sign,
        sympy.Heaviside: lambda u, at_zero=0.5: REAL.mpf(u > 0) if u else REAL.mpf(at_zero),
        sympy.Max: max,
        sympy.Min: min,
        sympy.Gt: operator.gt,
        sympy.Ge: operator.ge,
        sympy.Lt: operator.lt,
        sympy.Le: operator.le,
        sympy.Eq: operator.eq,
        sympy.Ne: operator.ne,
        sympy.And: lambda *parts: all(parts),
        sympy.Or: lambda *parts: any(parts),
        sympy.Not: operator.not_,
        sympy.Piecewise: _piecewise,
    }

    def number(self, value: sympy.Expr) -> Any:
        """A rational number, π or e."""
        if isinstance(value, sympy.Rational):
            return REAL.mpf(value.p) / value.q
        return +REAL.pi if value == sympy.pi else +REAL.e

    def add(self, a: Any, b: Any) -> Any:
        """a + b."""
        return a + b

    def multiply(self, a: Any, b: Any) -> Any:
        """a · b."""
        return a * b

    def power(self, base: Any, exponent: sympy.Rational) -> Any:
        """A rational power."""
        return base ** (exponent.p if exponent.q == 1 else self.number(exponent))


def real_function(
    formula: sympy.Basic, variables: Sequence[sympy.Symbol] = (X,)
) -> Callable[..., Any]:
    """The formula as a function of 50-digit numbers.

    Raises:
        UnsupportedError: The formula holds a function or a symbol that is not known here.
    """
    program: Program[Any] = Program((formula,), RealArithmetic(), variables)
    return lambda *values: program(*map(REAL.convert, values))[0]
