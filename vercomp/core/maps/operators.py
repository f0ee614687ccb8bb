"""Linear maps as numbers: a symbolic map is one of these once its parameters have values.

Every operator maps flat vectors ``(..., n) → (..., m)``. Reshaping is therefore free. This file has
the interface, the matrix, and the product that is kept as it is; the other kinds have files of
their own: :mod:`.monomials`, :mod:`.convolution`, :mod:`.axes`, :mod:`.sums`.

``A @ B`` is the composition. It is multiplied out where that gives something no larger (a matrix
takes up what comes before it, a convolution a factor for each channel), and a :class:`Product` of
both otherwise. In float64 what is multiplied out is rounded; ``error`` bounds what that did:
``‖A − Â‖₂ ≤ error`` where A is the real-arithmetic composition and Â the stored one. An operator
over a module's own parameters has error 0. The differentiable evaluation ignores the field.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..arithmetic.outward import SMALLEST, UNIT_ROUNDOFF, frobenius, product_up

LARGEST_MATRIX = 2**24
"""A composition with a matrix is multiplied out up to this many entries (128 MiB in float64)."""

RowSize = Callable[[Tensor], Tensor]
"""(R, k) ↦ (R,), a number for each row."""


class Operator(ABC):
    """A linear map A on flat vectors.

    Errors of evaluation are relative to |A|: in float64 ``apply`` is off by at most
    ``2 (fan_in + 2) u ‖|A|‖₂ ‖x‖`` in the 2-norm, ``adjoint`` by the same with ``fan_out``.
    """

    error: float = 0.0

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """A x for x of shape (..., n)."""

    @abstractmethod
    def adjoint(self, s: Tensor) -> Tensor:
        """Aᵀ s for s of shape (..., m)."""

    @abstractmethod
    def abs_apply(self, x: Tensor) -> Tensor:
        """|A| x for x ≥ 0 of shape (..., n), entrywise absolute value; a product may give more."""

    @abstractmethod
    def abs_adjoint(self, s: Tensor) -> Tensor:
        """|A|ᵀ s for s ≥ 0 of shape (..., m), or more."""

    @property
    @abstractmethod
    def fan_in(self) -> int:
        """Terms summed in one output: the n of the rounding bounds."""

    @property
    @abstractmethod
    def fan_out(self) -> int:
        """Terms summed in one entry of Aᵀ s."""

    @property
    @abstractmethod
    def absolute_norm(self) -> float:
        """A cheap upper bound of ‖|A|‖₂ in float64: rounding errors are relative to it."""

    @property
    def underflow(self) -> float:
        """Bound of what underflowing products change in A x or Aᵀ s, in the 2-norm."""
        terms = max(self.fan_in, self.fan_out) + 1
        return 4.0 * terms * math.sqrt(max(1, *self.shape)) * SMALLEST

    @property
    def rounds_apply(self) -> bool:
        """Whether evaluating A x rounds at all."""
        return True

    @property
    def rounds_adjoint(self) -> bool:
        """Whether evaluating Aᵀ s rounds at all."""
        return True

    def apply_to_rows(self, jacobian: Tensor) -> Tensor:
        """A B for Jacobians B of shape (..., n, D)."""
        return self.apply(jacobian.mT).mT

    def rows(self, index: Tensor) -> Tensor:
        """Some rows of Â, (R, n): Âᵀ of unit vectors."""
        unit = torch.zeros(len(index), self.shape[0], dtype=self.dtype, device=self.device)
        unit[torch.arange(len(index), device=unit.device), index.to(unit.device)] = 1.0
        return self.adjoint(unit)

    def row_sizes(self, size: RowSize) -> Tensor | None:
        """A number for each row of Â, (m,); None where the rows cannot be told without writing Â.

        Args:
            size: A number for each row (R, k) that depends neither on the order of its entries nor
                on further entries that are zero.
        """
        return None

    def materialise(self) -> Tensor:
        """Â as a matrix (m, n), in float64 unless the operator holds parameters of another type."""
        m, n = self.shape
        if m < n:
            return self.adjoint(torch.eye(m, dtype=self.dtype, device=self.device))
        return self.apply(torch.eye(n, dtype=self.dtype, device=self.device)).mT

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The tensors of numbers that the operator holds."""
        return ()

    @property
    def dtype(self) -> torch.dtype:
        """The type of its numbers; float64 where it has none."""
        return next((value.dtype for value in self.values), torch.float64)

    @property
    def device(self) -> torch.device:
        """Where its numbers are; constants are made on the CPU, and follow the others."""
        places = [value.device for value in self.values]
        return next((p for p in places if p.type != "cpu"), torch.device("cpu"))

    @property
    def is_rigorous(self) -> bool:
        """Whether errors are tracked: only the rigorous evaluation is in float64 and detached."""
        return all(v.dtype == torch.float64 and not v.requires_grad for v in self.values)

    def __matmul__(self, inner: Operator) -> Operator:
        """The composition A ∘ inner."""
        fused = self._after(inner)
        if fused is None:
            fused = inner._before(self)
        return Product((self, inner)) if fused is None else fused

    def _after(self, inner: Operator) -> Operator | None:
        """self ∘ inner multiplied out, where self knows how."""
        return None

    def _before(self, outer: Operator) -> Operator | None:
        """outer ∘ self multiplied out, where self knows how."""
        return None


@dataclass(frozen=True, eq=False)
class Dense(Operator):
    """A matrix A of shape (m, n): x ↦ A x.

    Args:
        matrix: Â, shape (m, n).
        error: Bound of ‖A − Â‖₂, see the module.
    """

    matrix: Tensor
    error: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The matrix."""
        return (self.matrix,)

    def apply(self, x: Tensor) -> Tensor:
        """A x for x of shape (..., n)."""
        return x @ self.matrix.T

    def adjoint(self, s: Tensor) -> Tensor:
        """Aᵀ s for s of shape (..., m)."""
        return s @ self.matrix

    def abs_apply(self, x: Tensor) -> Tensor:
        """|A| x for x of shape (..., n), entrywise absolute value."""
        return x @ self.matrix.abs().T

    def abs_adjoint(self, s: Tensor) -> Tensor:
        """|A|ᵀ s for s of shape (..., m)."""
        return s @ self.matrix.abs()

    def apply_to_rows(self, jacobian: Tensor) -> Tensor:
        """A B for Jacobians B of shape (..., n, D)."""
        return self.matrix @ jacobian

    def rows(self, index: Tensor) -> Tensor:
        """Some rows of the matrix."""
        return self.matrix[index]

    def row_sizes(self, size: RowSize) -> Tensor:
        """The size of every row of the matrix."""
        return size(self.matrix)

    def materialise(self) -> Tensor:
        """The matrix itself."""
        return self.matrix

    @property
    def fan_in(self) -> int:
        """Terms summed in one output."""
        return self.shape[1]

    @property
    def fan_out(self) -> int:
        """Terms summed in one entry of Aᵀ s."""
        return self.shape[0]

    @cached_property
    def absolute_norm(self) -> float:
        """‖A‖_F, rounded up, bounds ‖|A|‖₂."""
        return frobenius(self.matrix) + self.error

    def _after(self, inner: Operator) -> Operator | None:
        """The rows of this matrix sent through the adjoint: W A = (Aᵀ Wᵀ)ᵀ."""
        if self.shape[0] * inner.shape[1] > LARGEST_MATRIX:
            return None
        rows = inner.adjoint(self.matrix)
        return Dense(rows, product_error(self, inner, inner.fan_out * inner.rounds_adjoint))

    def _before(self, outer: Operator) -> Operator | None:
        if outer.shape[0] * self.shape[1] > LARGEST_MATRIX:
            return None
        columns = outer.apply_to_rows(self.matrix)
        return Dense(columns, product_error(outer, self, outer.fan_in * outer.rounds_apply))


@dataclass(frozen=True, eq=False)
class Product(Operator):
    """A = A_k ⋯ A_2 A_1, kept as factors.

    |A| is bounded by |A_k| ⋯ |A_1|.

    Args:
        factors: From the left, (A_k, …, A_1); at least two, no product among them.
    """

    factors: tuple[Operator, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs of the leftmost factor, inputs of the rightmost."""
        return self.factors[0].shape[0], self.factors[-1].shape[1]

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The numbers of all factors."""
        return tuple(value for factor in self.factors for value in factor.values)

    def apply(self, x: Tensor) -> Tensor:
        """A x, from the right."""
        for factor in reversed(self.factors):
            x = factor.apply(x)
        return x

    def adjoint(self, s: Tensor) -> Tensor:
        """Aᵀ s, from the left."""
        for factor in self.factors:
            s = factor.adjoint(s)
        return s

    def abs_apply(self, x: Tensor) -> Tensor:
        """|A_k| ⋯ |A_1| x, at least |A| x for x ≥ 0."""
        for factor in reversed(self.factors):
            x = factor.abs_apply(x)
        return x

    def abs_adjoint(self, s: Tensor) -> Tensor:
        """|A_1|ᵀ ⋯ |A_k|ᵀ s, at least |A|ᵀ s for s ≥ 0."""
        for factor in self.factors:
            s = factor.abs_adjoint(s)
        return s

    @property
    def fan_in(self) -> int:
        """The n for which 2 (n + 2) u covers the roundings of all factors."""
        return sum(factor.fan_in + 2 for factor in self.factors)

    @property
    def fan_out(self) -> int:
        """The n for which 2 (n + 2) u covers the roundings of all factors in the adjoint."""
        return sum(factor.fan_out + 2 for factor in self.factors)

    @property
    def absolute_norm(self) -> float:
        """Π ‖|A_i|‖₂, rounded up."""
        return product_up(factor.absolute_norm for factor in self.factors)

    @cached_property
    def underflow(self) -> float:
        """The sum of the errors of all factors, each amplified by the other factors."""
        sizes = [max(1.0, factor.absolute_norm) for factor in self.factors]
        return 2.0 * math.prod(sizes) * sum(factor.underflow for factor in self.factors)

    @cached_property
    def error(self) -> float:  # type: ignore[override]
        """Σ_i ‖A_i − Â_i‖ Π_{j≠i} ‖A_j‖, each norm by its absolute one."""
        if all(factor.error == 0.0 for factor in self.factors):
            return 0.0
        sizes = [factor.absolute_norm for factor in self.factors]
        total = sum(
            product_up((factor.error, *sizes[:i], *sizes[i + 1 :]))
            for i, factor in enumerate(self.factors)
        )
        return total * (1.0 + 8.0 * len(sizes) * UNIT_ROUNDOFF)

    def _after(self, inner: Operator) -> Operator | None:
        """Try to multiply the rightmost factor with the operator that is applied before it."""
        if isinstance(inner, Product):
            return self @ inner.factors[0] @ product(inner.factors[1:])
        joined = self.factors[-1] @ inner
        if isinstance(joined, Product):
            return Product((*self.factors[:-1], *joined.factors))
        return product(self.factors[:-1]) @ joined

    def _before(self, outer: Operator) -> Operator | None:
        joined = outer @ self.factors[0]
        if isinstance(joined, Product):
            return Product((*joined.factors, *self.factors[1:]))
        return joined @ product(self.factors[1:])


def product(factors: tuple[Operator, ...]) -> Operator:
    """The factors as one operator, without multiplying anything out."""
    return factors[0] if len(factors) == 1 else Product(factors)


def product_error(outer: Operator, inner: Operator, terms: int) -> float:
    """Bound of ‖AB − fl(ÂB̂)‖₂ ≤ γ‖|Â|‖‖|B̂|‖ + E_A‖B‖ + ‖Â‖E_B, with γ = (terms + 2)u.

    Args:
        outer: A.
        inner: B.
        terms: Products summed in one entry; 0 where nothing is rounded.
    """
    if not (outer.is_rigorous and inner.is_rigorous):
        return 0.0
    if terms == 0 and outer.error == 0.0 and inner.error == 0.0:
        return 0.0
    inherited = product_up((outer.error, inner.absolute_norm)) + product_up(
        (outer.absolute_norm, inner.error)
    )
    if terms == 0:
        return inherited * (1.0 + 8.0 * UNIT_ROUNDOFF)
    rounding = product_up(
        ((terms + 2) * UNIT_ROUNDOFF, outer.absolute_norm, inner.absolute_norm)
    ) + SMALLEST * terms * math.sqrt(max(1, outer.shape[0]) * max(1, inner.shape[1]))
    return (rounding + inherited) * (1.0 + 8.0 * UNIT_ROUNDOFF)
