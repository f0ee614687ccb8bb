"""Activation families, and the table that builds and recognises activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sympy
from torch import Tensor

from vercomp.activations.agreement import agree_everywhere
from vercomp.activations.evaluation import REAL, real_function
from vercomp.errors import PluginError, UnsupportedError, UsageError
from vercomp.ir.activation import Activation, X

Spelling = Callable[[Tensor], Tensor]

_POINTS = tuple(
    REAL.mpf(point)
    for point in (0.71, -0.43, 1.37, -1.19, -2.63, 2.89, 0.0625, -5.3, 7.1, -9.7, 13.3, -17.9, 24.7)
)
"""Where formulas are compared: both signs, around zero, and past softplus's threshold."""


class Samples:
    """Values of an elementwise function, to 50 digits, each computed once."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._values: dict[Any, Any] = {}

    def __call__(self, x: Any) -> Any:
        """The value at x; NaN where there is none."""
        x = REAL.convert(x)
        if x not in self._values:
            try:
                value = self._function(x)
            except (ArithmeticError, ValueError, TypeError):
                value = REAL.nan
            self._values[x] = value if isinstance(value, REAL.mpf) else REAL.nan
        return self._values[x]

    def second_derivative_at_zero(self) -> Any:
        """F″(0) of a smooth F, from a difference: right to about 25 digits."""
        step = REAL.mpf(10) ** -12
        return (self(step) - 2 * self(0) + self(-step)) / step**2


Fit = Callable[[Samples], tuple[Any, ...]]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a family.

    Args:
        name: Its name.
        default: The value that it has unless said otherwise, exactly.
        largest: The largest absolute value that a network may have: others cost, and match nothing.
    """

    name: str
    default: sympy.Expr
    largest: float = 1e9

    def allows(self, value: Any) -> bool:
        """Whether an estimate of it is one that a network may have."""
        return isinstance(value, REAL.mpf) and bool(
            value == 0 or 1e-9 <= abs(value) <= self.largest
        )

    @property
    def symbol(self) -> sympy.Symbol:
        """The symbol that stands for it in the family's formula."""
        return sympy.Symbol(self.name, real=True)


@dataclass(frozen=True)
class ActivationFamily:
    """One row of the table: an activation with its parameters open.

    Args:
        name: The field's name of it.
        formula: σ in ``X`` and the parameters' symbols.
        spelling: The torch function for the default parameters, elementwise.
        parameters: The parameters with their defaults.
        spelled: The torch function for other parameters, from their values.
        fit: Estimates the parameters of a function that may belong to the family. Whatever it
            returns is checked by value; NaN or an arithmetic error says no.
        deviation: For the parameters' values, a proved bound of |spelling − formula|.
        owner: Who defined it, for messages about duplicates.
    """

    name: str
    formula: sympy.Expr
    spelling: Spelling = field(compare=False)
    parameters: tuple[Parameter, ...] = ()
    spelled: Callable[..., Spelling] | None = field(default=None, compare=False)
    fit: Fit | None = field(default=None, compare=False)
    deviation: Callable[..., float] = field(default=lambda *_: 0.0, compare=False)
    owner: str = "vercomp"

    def build(self, **values: float) -> Activation:
        """The activation with these parameters; those not named have their defaults.

        Raises:
            UsageError: A parameter that the family does not have, or a value that makes no sense.
        """
        known = {parameter.name for parameter in self.parameters}
        for name in values:
            if name not in known:
                has = ", ".join(sorted(known)) or "none"
                raise UsageError(f"{self.name} has no parameter {name!r} (its parameters: {has})")
        exact: dict[sympy.Symbol, sympy.Expr] = {}
        bound: list[tuple[str, float]] = []
        floats: list[float] = []
        for parameter in self.parameters:
            value = _snapped(values.get(parameter.name), parameter.default)
            if value is not None and not math.isfinite(value):
                raise UsageError(f"{self.name}: {parameter.name} = {value!r} is not finite")
            number = parameter.default if value is None else sympy.Rational(value)
            exact[parameter.symbol] = number
            floats.append(float(parameter.default) if value is None else float(value))
            if value is not None:
                bound.append((parameter.name, float(value)))
        formula = self.formula.subs(exact)
        if formula.has(sympy.nan, sympy.zoo, sympy.oo) or not formula.has(X):
            listed = ", ".join(f"{name} = {value:g}" for name, value in bound)
            raise UsageError(f"{self.name} is no function of x for {listed}")
        spelling = self.spelling
        if bound and self.spelled is not None:
            spelling = self.spelled(*floats)
        return Activation(
            self.name,
            formula,
            spelling,
            tuple(bound),
            self.deviation(*floats),
        )

    def match(self, expression: sympy.Expr, samples: Samples) -> Activation | None:
        """The member of the family that an expression computes, or None.

        Args:
            expression: The expression, in ``X``.
            samples: Its values.
        """
        try:
            fitted = self.fit(samples) if self.fit is not None else ()
        except (ArithmeticError, ValueError, TypeError):
            return None
        if not all(p.allows(value) for p, value in zip(self.parameters, fitted, strict=True)):
            return None
        values = [float(value) for value in fitted]
        formula = self._default_samples or Samples(lambda x: self._function(x, *fitted))
        try:
            if not _agree(samples, formula, self.deviation(*values)):
                return None
            names = (parameter.name for parameter in self.parameters)
            found = self.build(**dict(zip(names, values, strict=True)))
            built = Samples(real_function(found.formula))
        except (ArithmeticError, UnsupportedError, UsageError):
            return None

        def agree(point: Any) -> bool:
            return _close(samples(point), built(point), found.deviation)

        def valued(point: Any) -> bool:
            return not (REAL.isnan(samples(point)) and REAL.isnan(built(point)))

        return found if agree_everywhere(expression, found.formula, agree, valued) else None

    @cached_property
    def _function(self) -> Callable[..., Any]:
        return real_function(self.formula, (X, *(p.symbol for p in self.parameters)))

    @cached_property
    def _default_samples(self) -> Samples | None:
        return None if self.parameters else Samples(self._function)


def _snapped(value: float | None, default: sympy.Expr) -> float | None:
    """None for a value that is the default, up to what rounding to float64 does."""
    if value is None:
        return None
    reference = float(default)
    return None if abs(value - reference) <= 1e-15 * abs(reference) else value


def _agree(samples: Samples, formula: Samples, deviation: float) -> bool:
    """Whether two functions agree at every point of a first comparison."""
    return all(_close(samples(point), formula(point), deviation) for point in _POINTS)


def _close(a: Any, b: Any, deviation: float) -> bool:
    """Whether two values agree to 1e-12, relative, or to what 50 digits lose in cancellation."""
    return bool(abs(a - b) <= 1e-12 * max(abs(a), abs(b)) + 1e-36 + deviation)


@dataclass(frozen=True)
class ActivationTable:
    """The activations that are known, in the order in which they are tried.

    Args:
        families: The rows; names are distinct.
    """

    families: tuple[ActivationFamily, ...]

    def __iter__(self) -> Iterator[ActivationFamily]:
        return iter(self.families)

    def build(self, name: str, **parameters: float) -> Activation:
        """The activation of that name with these parameters.

        Raises:
            UsageError: There is none of that name, or it has no such parameter.
        """
        family = self._by_name.get(name)
        if family is None:
            known = ", ".join(sorted(self._by_name))
            raise UsageError(f"there is no activation {name!r}", remedy=f"Known are {known}")
        return family.build(**parameters)

    def match(self, expression: sympy.Basic) -> Activation | None:
        """The activation that an expression in ``X`` computes, or None.

        Recognised by value, however it is spelled: parameters are estimated, then the values
        compared on both sides of zero and of every breakpoint, near and far, to 1e-12.
        """
        if not isinstance(expression, sympy.Expr) or expression.free_symbols != {X}:
            return None
        try:
            samples = Samples(real_function(expression))
        except UnsupportedError:
            return None
        matches = (family.match(expression, samples) for family in self.families)
        return next((activation for activation in matches if activation is not None), None)

    def with_family(self, family: ActivationFamily) -> ActivationTable:
        """This table with one more row.

        Raises:
            PluginError: A row of that name is there already.
        """
        present = self._by_name.get(family.name)
        if present is not None:
            raise PluginError(
                f"the activation {family.name!r} is defined twice: by {present.owner} and by "
                f"{family.owner}",
                remedy="Give one of them another name",
            )
        return ActivationTable((*self.families, family))

    @cached_property
    def _by_name(self) -> Mapping[str, ActivationFamily]:
        return {family.name: family for family in self.families}
