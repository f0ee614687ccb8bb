"""Linear maps that pick entries: slices, gathers, paddings, repetitions."""

from __future__ import annotations

from dataclasses import dataclass

from vercomp.core.maps.convolution import Pads
from vercomp.core.maps.monomials import Monomial
from vercomp.ir.expressions import Call, Picks, call
from vercomp.ir.linear_maps import LinearMap, Shape


@dataclass(frozen=True)
class Slice(LinearMap):
    """``x[start:stop:step]`` along one axis.

    Args:
        source: Shape of x.
        axis: The axis.
        start: The first entry, at least 0.
        stop: Behind the last, at most the length.
        step: At least 1.
    """

    source: Shape
    axis: int
    start: int
    stop: int
    step: int = 1

    @property
    def in_shape(self) -> Shape:
        """The shape of x."""
        return self.source

    @property
    def out_shape(self) -> Shape:
        """The shape of what is left."""
        length = len(range(self.start, self.stop, self.step))
        return (*self.source[: self.axis], length, *self.source[self.axis + 1 :])

    def operator(self) -> Call:
        """A selection."""
        step = () if self.step == 1 else (self.step,)
        return call(Monomial.slicing, self.source, self.axis, self.start, self.stop, *step)

    def __str__(self) -> str:
        step = f":{self.step}" if self.step != 1 else ""
        return f"slice({self.start}:{self.stop}{step}, axis {self.axis})"


@dataclass(frozen=True)
class Gather(LinearMap):
    """``x.index_select(axis, indices)``; entries may repeat.

    Args:
        source: Shape of x.
        axis: The axis.
        indices: Which entries, 0 ≤ i < length.
    """

    source: Shape
    axis: int
    indices: tuple[int, ...]

    @property
    def in_shape(self) -> Shape:
        """The shape of x."""
        return self.source

    @property
    def out_shape(self) -> Shape:
        """The same with another length along the axis."""
        return (*self.source[: self.axis], len(self.indices), *self.source[self.axis + 1 :])

    def operator(self) -> Call:
        """A selection."""
        return call(Monomial.gathering, self.source, self.axis, Picks(self.indices))

    def __str__(self) -> str:
        return f"gather({len(self.indices)} entries, axis {self.axis})"


@dataclass(frozen=True)
class Pad(LinearMap):
    """More entries before and behind each axis.

    With zeros along one axis it also puts a tensor into its place in a concatenation.

    Args:
        source: Shape of x.
        pads: (before, behind) for every axis of x, at least 0.
        mode: ``zeros``, or ``reflect``, ``replicate``, ``circular`` as in ``F.pad``.
    """

    source: Shape
    pads: Pads
    mode: str = "zeros"

    @property
    def in_shape(self) -> Shape:
        """The shape of x."""
        return self.source

    @property
    def out_shape(self) -> Shape:
        """The shape with what is added."""
        return tuple(n + b + e for n, (b, e) in zip(self.source, self.pads, strict=True))

    def operator(self) -> Call:
        """A selection, with rows of zeros."""
        mode = () if self.mode == "zeros" else (self.mode,)
        return call(Monomial.padding, self.source, self.pads, *mode)

    def __str__(self) -> str:
        shape = "×".join(map(str, self.out_shape))
        return f"pad({shape}{'' if self.mode == 'zeros' else ', ' + self.mode})"


@dataclass(frozen=True)
class Expand(LinearMap):
    """``x.expand(target)``: axes of length 1 repeated; ranks are equal.

    Args:
        source: Shape of x.
        target: The same with other lengths where x has 1.
    """

    source: Shape
    target: Shape

    @property
    def in_shape(self) -> Shape:
        """The shape of x."""
        return self.source

    @property
    def out_shape(self) -> Shape:
        """The target."""
        return self.target

    def operator(self) -> Call:
        """A selection."""
        return call(Monomial.expanding, self.source, self.target)

    def __str__(self) -> str:
        return f"expand({'×'.join(map(str, self.target))})"
