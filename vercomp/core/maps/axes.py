"""Operators that act along axes of a tensor: a matrix along one, a sum over several.

A linear layer on the last axis of (T, n), a pooling to an uneven grid, a mean over space: each is
the Kronecker product of a small matrix with identities, so its norm is that of the small matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF, frobenius
from .monomials import Diagonal
from .operators import Operator


@dataclass(frozen=True, eq=False)
class AlongAxis(Operator):
    """y = M x along one axis of x: I ⊗ M ⊗ I.

    Args:
        matrix: M, shape (p, q).
        of: Shape of x; q entries along ``axis``.
        axis: The axis.
    """

    matrix: Tensor
    of: tuple[int, ...]
    axis: int
    error: float = 0.0

    @property
    def to(self) -> tuple[int, ...]:
        """Shape of the result."""
        return (*self.of[: self.axis], self.matrix.shape[0], *self.of[self.axis + 1 :])

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return math.prod(self.to), math.prod(self.of)

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The matrix."""
        return (self.matrix,)

    def apply(self, x: Tensor) -> Tensor:
        """A x for x of shape (..., n)."""
        return self._along(x, self.of, self.matrix.to(x))

    def adjoint(self, s: Tensor) -> Tensor:
        """Aᵀ s for s of shape (..., m)."""
        return self._along(s, self.to, self.matrix.to(s).T)

    def abs_apply(self, x: Tensor) -> Tensor:
        """|A| x."""
        return self._along(x, self.of, self.matrix.to(x).abs())

    def abs_adjoint(self, s: Tensor) -> Tensor:
        """|A|ᵀ s."""
        return self._along(s, self.to, self.matrix.to(s).abs().T)

    @property
    def fan_in(self) -> int:
        """Terms summed in one output."""
        return self.matrix.shape[1]

    @property
    def fan_out(self) -> int:
        """Terms summed in one entry of Aᵀ s."""
        return self.matrix.shape[0]

    @cached_property
    def absolute_norm(self) -> float:
        """‖M‖_F, rounded up."""
        return frobenius(self.matrix) + self.error

    def _along(self, x: Tensor, shape: tuple[int, ...], matrix: Tensor) -> Tensor:
        before, after = math.prod(shape[: self.axis]), math.prod(shape[self.axis + 1 :])
        blocks = x.reshape(*x.shape[:-1], before, shape[self.axis], after)
        return (matrix @ blocks).flatten(-3)


@dataclass(frozen=True, eq=False)
class AxesSum(Operator):
    """y = Σ x over several axes, which are dropped.

    Args:
        of: Shape of x.
        axes: The axes, in order.
    """

    of: tuple[int, ...]
    axes: tuple[int, ...]

    @staticmethod
    def mean(of: Sequence[int], axes: Sequence[int]) -> Operator:
        """The mean over axes: their sum, divided by the number of entries."""
        total = AxesSum(tuple(of), tuple(axes))
        count = torch.tensor(float(total.count), dtype=torch.float64)
        return Diagonal.scaling(count, total.to, divide=True) @ total

    @property
    def count(self) -> int:
        """Entries summed in one output."""
        return math.prod(self.of[axis] for axis in self.axes)

    @property
    def to(self) -> tuple[int, ...]:
        """Shape of the result."""
        return tuple(size for axis, size in enumerate(self.of) if axis not in self.axes)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return math.prod(self.to), math.prod(self.of)

    def apply(self, x: Tensor) -> Tensor:
        """A x for x of shape (..., n)."""
        tensor = x.reshape(*x.shape[:-1], *self.of)
        total = tensor.sum([axis - len(self.of) for axis in self.axes])
        return total.reshape(*x.shape[:-1], self.shape[0])

    def adjoint(self, s: Tensor) -> Tensor:
        """Aᵀ s for s of shape (..., m): every entry repeated."""
        kept = [1 if axis in self.axes else size for axis, size in enumerate(self.of)]
        tensor = s.reshape(*s.shape[:-1], *kept).expand(*s.shape[:-1], *self.of)
        return tensor.reshape(*s.shape[:-1], self.shape[1])

    def abs_apply(self, x: Tensor) -> Tensor:
        """|A| x, which is A x: all entries are 1."""
        return self.apply(x)

    def abs_adjoint(self, s: Tensor) -> Tensor:
        """|A|ᵀ s, which is Aᵀ s: all entries are 1."""
        return self.adjoint(s)

    @property
    def fan_in(self) -> int:
        """Terms summed in one output."""
        return self.count

    @property
    def fan_out(self) -> int:
        """Every input goes into one output."""
        return 1

    @property
    def rounds_adjoint(self) -> bool:
        """Repeating entries rounds nothing."""
        return False

    @property
    def absolute_norm(self) -> float:
        """√count, rounded up: A Aᵀ = count · I."""
        return math.sqrt(self.count) * (1.0 + 2.0 * UNIT_ROUNDOFF)
