"""Operators made of operators: the adjoint, the sum, and several side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from .operators import Operator


@dataclass(frozen=True, eq=False)
class Transposed(Operator):
    """Aᵀ: a transposed convolution is this over the convolution with its kernel.

    Args:
        inner: A.
    """

    inner: Operator

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m) of A."""
        m, n = self.inner.shape
        return n, m

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The numbers of A."""
        return self.inner.values

    def apply(self, x: Tensor) -> Tensor:
        """Aᵀ x."""
        return self.inner.adjoint(x)

    def adjoint(self, s: Tensor) -> Tensor:
        """A s."""
        return self.inner.apply(s)

    def abs_apply(self, x: Tensor) -> Tensor:
        """|A|ᵀ x."""
        return self.inner.abs_adjoint(x)

    def abs_adjoint(self, s: Tensor) -> Tensor:
        """|A| s."""
        return self.inner.abs_apply(s)

    @property
    def fan_in(self) -> int:
        """Terms summed in one entry of Aᵀ s."""
        return self.inner.fan_out

    @property
    def fan_out(self) -> int:
        """Terms summed in one entry of A x."""
        return self.inner.fan_in

    @property
    def absolute_norm(self) -> float:
        """‖|A|‖₂ is ‖|Aᵀ|‖₂."""
        return self.inner.absolute_norm

    @property
    def underflow(self) -> float:
        """The bound of A, which is one for both products."""
        return self.inner.underflow

    @property
    def error(self) -> float:  # type: ignore[override]
        """‖A − Â‖₂ is ‖Aᵀ − Âᵀ‖₂."""
        return self.inner.error


@dataclass(frozen=True, eq=False)
class Sum(Operator):
    """A_1 + … + A_p: parallel paths between the same two tensors.

    |A| is bounded by Σ |A_k|.

    Args:
        summands: At least two, of one shape.
    """

    summands: tuple[Operator, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return self.summands[0].shape

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The numbers of all summands."""
        return tuple(value for summand in self.summands for value in summand.values)

    def apply(self, x: Tensor) -> Tensor:
        """Σ A_k x."""
        return _added([summand.apply(x) for summand in self.summands])

    def adjoint(self, s: Tensor) -> Tensor:
        """Σ A_kᵀ s."""
        return _added([summand.adjoint(s) for summand in self.summands])

    def abs_apply(self, x: Tensor) -> Tensor:
        """Σ |A_k| x, at least |A| x for x ≥ 0."""
        return _added([summand.abs_apply(x) for summand in self.summands])

    def abs_adjoint(self, s: Tensor) -> Tensor:
        """Σ |A_k|ᵀ s, at least |A|ᵀ s for s ≥ 0."""
        return _added([summand.abs_adjoint(s) for summand in self.summands])

    @property
    def fan_in(self) -> int:
        """The n for which 2 (n + 2) u covers the roundings of all summands and of their sum."""
        return sum(summand.fan_in + 2 for summand in self.summands)

    @property
    def fan_out(self) -> int:
        """The n for which 2 (n + 2) u covers the roundings in the adjoint."""
        return sum(summand.fan_out + 2 for summand in self.summands)

    @cached_property
    def absolute_norm(self) -> float:
        """Σ ‖|A_k|‖₂, rounded up."""
        guard = 1.0 + 2.0 * len(self.summands) * UNIT_ROUNDOFF
        return sum(summand.absolute_norm for summand in self.summands) * guard

    @property
    def underflow(self) -> float:
        """The sum of the summands' bounds."""
        return 2.0 * sum(summand.underflow for summand in self.summands)

    @cached_property
    def error(self) -> float:  # type: ignore[override]
        """The sum of the summands' errors."""
        guard = 1.0 + 2.0 * len(self.summands) * UNIT_ROUNDOFF
        return sum(summand.error for summand in self.summands) * guard


@dataclass(frozen=True, eq=False)
class SideBySide(Operator):
    """[A_1 … A_p]: (x_1, …, x_p) ↦ Σ A_k x_k, the map of an affine node with several parents.

    Args:
        blocks: The A_k, with equally many outputs.
    """

    blocks: tuple[Operator, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(m, Σ n_k)."""
        return self.blocks[0].shape[0], sum(self.lengths)

    @property
    def lengths(self) -> list[int]:
        """The n_k."""
        return [block.shape[1] for block in self.blocks]

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The numbers of all blocks."""
        return tuple(value for block in self.blocks for value in block.values)

    def apply(self, x: Tensor) -> Tensor:
        """Σ A_k x_k."""
        parts = torch.split(x, self.lengths, -1)
        return _added([b.apply(part) for b, part in zip(self.blocks, parts, strict=True)])

    def adjoint(self, s: Tensor) -> Tensor:
        """(A_1ᵀ s, …, A_pᵀ s)."""
        return torch.cat([block.adjoint(s) for block in self.blocks], -1)

    def abs_apply(self, x: Tensor) -> Tensor:
        """Σ |A_k| x_k."""
        parts = torch.split(x, self.lengths, -1)
        return _added([b.abs_apply(part) for b, part in zip(self.blocks, parts, strict=True)])

    def abs_adjoint(self, s: Tensor) -> Tensor:
        """(|A_1|ᵀ s, …, |A_p|ᵀ s)."""
        return torch.cat([block.abs_adjoint(s) for block in self.blocks], -1)

    @property
    def fan_in(self) -> int:
        """The n for which 2 (n + 2) u covers the roundings of all blocks and of their sum."""
        return sum(block.fan_in + 2 for block in self.blocks)

    @property
    def fan_out(self) -> int:
        """The largest of the blocks."""
        return max(block.fan_out for block in self.blocks)

    @cached_property
    def absolute_norm(self) -> float:
        """√Σ ‖|A_k|‖₂², rounded up."""
        guard = 1.0 + 4.0 * (len(self.blocks) + 2) * UNIT_ROUNDOFF
        return math.hypot(*(block.absolute_norm for block in self.blocks)) * guard

    @property
    def underflow(self) -> float:
        """The sum of the blocks' bounds."""
        return 2.0 * sum(block.underflow for block in self.blocks)

    @cached_property
    def error(self) -> float:  # type: ignore[override]
        """√Σ of the squared errors, rounded up."""
        guard = 1.0 + 4.0 * (len(self.blocks) + 2) * UNIT_ROUNDOFF
        return math.hypot(*(block.error for block in self.blocks)) * guard


def _added(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
