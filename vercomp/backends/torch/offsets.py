"""Biases M p, taken apart: how p is spread over a tensor, and the maps that this then goes through.

A bias of a convolution has one entry for each channel, and is repeated over space; a mean that is
subtracted before a division goes through that division. Written down, the first is a view that
broadcasts, and the second is a subtraction at the right place of a chain of maps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vercomp.backends.torch.spelling import atom, broadcast, viewed
from vercomp.ir.graph import Offset
from vercomp.ir.linear_maps import LinearMap, Parameter, Reshape, Shape, parts
from vercomp.ir.selections import Expand, Pad


@dataclass(frozen=True)
class Spread:
    """An offset: a parameter under a view that broadcasts to a shape, then maps.

    Args:
        vector: p.
        view: The shape under which p broadcasts to ``shape``; ranks are equal.
        shape: Shape of what the maps take.
        maps: The maps, in order of application.
        negate: Whether it is subtracted.
    """

    vector: Parameter
    view: Shape
    shape: Shape
    maps: tuple[LinearMap, ...]
    negate: bool

    @staticmethod
    def of(offset: Offset) -> Spread:
        """The offset with all leading reshapes and repetitions in the view."""
        vector, shape = offset.vector, offset.map.in_shape
        view = (*(1,) * (len(shape) - len(vector.shape)), *vector.shape)
        maps = list(parts(offset.map))
        while maps:
            part = maps[0]
            if isinstance(part, Expand):
                shape = part.target
            elif isinstance(part, Reshape) and math.prod(view) == math.prod(shape):
                view = shape = part.target
            elif not (isinstance(part, Reshape) and part.source == part.target):
                break
            maps.pop(0)
        return Spread(vector, view, shape, tuple(maps), offset.negate)

    @property
    def sign(self) -> str:
        """The operator with which the offset is added: plus or minus."""
        return "-" if self.negate else "+"

    @property
    def rest(self) -> tuple[LinearMap, ...]:
        """The maps as :func:`applied` has them."""
        return applied(self.maps)

    @property
    def _is_view(self) -> bool:
        """Whether no entry is repeated."""
        return math.prod(self.view) == math.prod(self.shape)

    def suits(self, shape: Shape) -> bool:
        """Whether it broadcasts to a tensor of that shape under a view."""
        return self.shape == shape or self._is_view

    def summand(self, read: str, shape: Shape) -> str:
        """The expression that is added to a batch of tensors of a shape with as many entries.

        Args:
            read: The expression of the parameter.
            shape: That shape.
        """
        if self._is_view:
            return broadcast(read, self.vector.shape, shape, len(shape) + 1)
        if self.shape == shape:
            return broadcast(read, self.vector.shape, self.view, len(shape) + 1)
        return f"{self.row(read)}.reshape({', '.join(map(str, shape))})"

    def along(self, read: str, axis: int, shape: Shape) -> str | None:
        """The vector that it adds along one axis of a tensor of a shape, or None."""
        if not self.suits(shape):
            return None
        view = shape if self._is_view else self.view
        if any(n != (shape[k] if k == axis else 1) for k, n in enumerate(view)):
            return None
        return viewed(read, self.vector.shape, (shape[axis],))

    def row(self, read: str) -> str:
        """The vector with all its repetitions, under ``shape``, or flat where nothing repeats."""
        return read if self._is_view else self._expanded(read, self.shape)

    def batch(self, read: str) -> str:
        """The vector with all its repetitions, as a batch of one."""
        if self._is_view:
            return viewed(read, self.vector.shape, (1, *self.shape))
        return self._expanded(read, (1, *self.shape))

    def _expanded(self, read: str, shape: Shape) -> str:
        """The repetitions written out: ``expand`` takes no tensor of more axes than it gives."""
        expression = broadcast(read, self.vector.shape, self.view, len(shape))
        return f"{atom(expression)}.expand({', '.join(map(str, shape))})"


def applied(maps: Iterable[LinearMap]) -> tuple[LinearMap, ...]:
    """The maps without reshapes, and with neighbouring paddings by zeros joined.

    On flat (row-major) vectors this is the same function.
    """
    found: list[LinearMap] = []
    for part in maps:
        if isinstance(part, Reshape):
            continue
        joined = _both(found[-1], part) if found else None
        if joined is None:
            found.append(part)
        else:
            found[-1] = joined
    return tuple(found)


def _both(first: LinearMap, second: LinearMap) -> LinearMap | None:
    """Two paddings with zeros as one padding; None for any other two maps."""
    if not (isinstance(first, Pad) and isinstance(second, Pad)):
        return None
    if first.out_shape != second.source or not first.mode == second.mode == "zeros":
        return None
    both = zip(first.pads, second.pads, strict=True)
    return replace(first, pads=tuple((a + c, b + d) for (a, b), (c, d) in both))
