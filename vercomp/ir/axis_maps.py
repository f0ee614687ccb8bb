"""Linear maps along axes: a matrix along one of them, a sum or mean over several."""

from __future__ import annotations

from dataclasses import dataclass

from vercomp.core.maps.axes import AlongAxis as AlongAxisOperator
from vercomp.core.maps.axes import AxesSum
from vercomp.ir.expressions import Call, Reading, call
from vercomp.ir.linear_maps import LinearMap, Parameter, Shape


@dataclass(frozen=True)
class AlongAxis(LinearMap):
    """y = M x along one axis of x, the same for all others: a linear layer on (T, n).

    Args:
        source: Shape of x.
        axis: The axis.
        weight: M of shape (p, q), or Mᵀ of shape (q, p).
        transposed: Whether the parameter is stored as Mᵀ.
        view: The matrix shape under which the parameter is read, where it is not a matrix itself.
    """

    source: Shape
    axis: int
    weight: Parameter
    transposed: bool = False
    view: Shape | None = None

    @property
    def in_shape(self) -> Shape:
        """The shape of x."""
        return self.source

    @property
    def out_shape(self) -> Shape:
        """The same with p entries along the axis."""
        p = (self.view or self.weight.shape)[1 if self.transposed else 0]
        return (*self.source[: self.axis], p, *self.source[self.axis + 1 :])

    def operator(self) -> Call:
        """The matrix along its axis."""
        matrix = Reading(self.weight, self.view, self.transposed)
        return call(AlongAxisOperator, matrix, self.source, self.axis)

    def parameters(self) -> tuple[Parameter, ...]:
        """The matrix."""
        return (self.weight,)

    def __str__(self) -> str:
        return f"dense[{self.weight.name}{'ᵀ' if self.transposed else ''}, axis {self.axis}]"


@dataclass(frozen=True)
class Total(LinearMap):
    """The sum over several axes, or their mean; the axes are dropped.

    Args:
        source: Shape of x.
        axes: The axes, in order.
        mean: Divide by the number of entries.
    """

    source: Shape
    axes: tuple[int, ...]
    mean: bool = False

    @property
    def in_shape(self) -> Shape:
        """The shape of x."""
        return self.source

    @property
    def out_shape(self) -> Shape:
        """What is left of it."""
        return tuple(n for axis, n in enumerate(self.source) if axis not in self.axes)

    def operator(self) -> Call:
        """A sum, divided by a number for the mean."""
        return call(AxesSum.mean if self.mean else AxesSum, self.source, self.axes)

    def __str__(self) -> str:
        return f"{'mean' if self.mean else 'sum'}(axes {', '.join(map(str, self.axes))})"
