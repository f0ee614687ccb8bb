"""The linear part of a batch normalisation with frozen statistics."""

from __future__ import annotations

from dataclasses import dataclass

from vercomp.core.maps.monomials import Diagonal
from vercomp.ir.expressions import Call, Reading, call
from vercomp.ir.linear_maps import LinearMap, Parameter, Shape


@dataclass(frozen=True)
class DivideByDeviation(LinearMap):
    """x ↦ x / √(v + ε) for variances v that broadcast to the shape of x.

    The variance stays the source's own buffer, so that a bound over live parameters follows the
    running statistics, and emitted code says what the source says.

    Args:
        shape: Shape of x.
        variance: v ≥ 0.
        eps: ε.
        view: The shape under which the variance is read, where it is not its own: (C, 1, 1).
    """

    shape: Shape
    variance: Parameter
    eps: float
    view: Shape | None = None

    @property
    def in_shape(self) -> Shape:
        """The shape of x."""
        return self.shape

    @property
    def out_shape(self) -> Shape:
        """The shape of x."""
        return self.shape

    def operator(self) -> Call:
        """A diagonal matrix; in float64 its error covers the sum, the root and the quotient."""
        variance = Reading(self.variance, self.view, rank=len(self.shape))
        return call(Diagonal.standardising, variance, self.eps, self.shape)

    def parameters(self) -> tuple[Parameter, ...]:
        """The variance."""
        return (self.variance,)

    def __str__(self) -> str:
        return f"scale[1/√({self.variance.name} + {self.eps:g})]"
