"""Linear maps as numbers: what a symbolic map becomes once its parameters have values.

Every operator maps flat vectors ``(..., n) → (..., m)``. Reshaping is therefore free, and two
kinds are enough for fully connected networks: a matrix, and a matrix with one entry in each row.

Composition multiplies out. In float64 the product is rounded; ``error`` bounds what that did:
``‖A − Â‖_F ≤ error`` where A is the real-arithmetic composition and Â the stored one. An operator
over a module's own parameters has error 0. The differentiable evaluation ignores the field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

UNIT_ROUNDOFF = 2.0**-53
"""u of float64: one operation is off by at most u times its result."""


def frobenius(matrix: Tensor) -> float:
    """Upper bound of the Frobenius norm of a float64 tensor.

    A float64 sum of N squares is off by at most (N + 2)u relative, in any order of summation; the
    factor covers that and the root with a wide margin. Squares that could underflow are covered by
    an absolute term, and a matrix whose squares could overflow is scaled first.
    """
    if matrix.numel() == 0:
        return 0.0
    largest = float(matrix.detach().abs().max())
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    scale = 2.0 ** (math.frexp(largest)[1] - 1)
    total = float((matrix.detach() / scale).square().sum())
    slack = 1.0 + 2.0 * (matrix.numel() + 8) * UNIT_ROUNDOFF
    return scale * math.sqrt(total) * slack + 1e-300


@dataclass(frozen=True, eq=False)
class Dense:
    """A matrix A of shape (m, n): x ↦ A x.

    Args:
        matrix: Â, shape (m, n).
        error: Bound of ‖A − Â‖_F, see the module.
    """

    matrix: Tensor
    error: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return self.matrix.shape[0], self.matrix.shape[1]

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

    @property
    def fan_in(self) -> int:
        """Terms summed in one output: the n of the rounding bounds."""
        return self.shape[1]

    @property
    def fan_out(self) -> int:
        """Terms summed in one entry of Aᵀ s."""
        return self.shape[0]

    @cached_property
    def frobenius(self) -> float:
        """Upper bound of ‖A‖_F (float64 matrices)."""
        return frobenius(self.matrix) + self.error

    def __matmul__(self, inner: Dense | Monomial) -> Dense:
        """The composition A ∘ inner, multiplied out."""
        if isinstance(inner, Monomial):
            return Dense(inner.adjoint(self.matrix), _product_error(self, inner, inner.fan_out))
        return Dense(self.matrix @ inner.matrix, _product_error(self, inner, self.shape[1]))


@dataclass(frozen=True, eq=False)
class Monomial:
    """A matrix with at most one entry in a row: y_i = factor_i · x[index_i].

    Scaling, permuting, slicing, repeating and zero padding are all of this kind.

    Args:
        index: Shape (m,), integers below ``inputs``.
        inputs: n, the length of x.
        factor: Shape (m,); None where every entry is 1.
        error: Bound of ‖A − Â‖_F, see the module.
    """

    index: Tensor
    inputs: int
    factor: Tensor | None = None
    error: float = 0.0

    @staticmethod
    def scaling(factor: Tensor, shape: Sequence[int], *, divide: bool = False) -> Monomial:
        """Multiplication (or division) of a tensor of ``shape`` by a factor that broadcasts."""
        full = factor.expand(tuple(shape)).reshape(-1)
        index = torch.arange(full.numel(), device=full.device)
        if not divide:
            return Monomial(index, full.numel(), full)
        reciprocal = full.reciprocal()
        # One rounding an entry: |1/d − fl(1/d)| ≤ u·|fl(1/d)|·(1 + u), so twice u is safe; where
        # the reciprocal is subnormal, half of the smallest subnormal number.
        error = 0.0
        if _is_double(reciprocal):
            error = 2.0 * UNIT_ROUNDOFF * frobenius(reciprocal) + full.numel() * 2.0**-1074
        return Monomial(index, full.numel(), reciprocal, error)

    @staticmethod
    def identity(n: int) -> Monomial:
        """The identity on ℝⁿ."""
        return Monomial(torch.arange(n), n)

    @staticmethod
    def permutation(shape: Sequence[int], axes: Sequence[int]) -> Monomial:
        """``x.reshape(shape).permute(axes).reshape(-1)``."""
        n = math.prod(shape)
        return Monomial(torch.arange(n).reshape(tuple(shape)).permute(tuple(axes)).reshape(-1), n)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return self.index.numel(), self.inputs

    def apply(self, x: Tensor) -> Tensor:
        """A x for x of shape (..., n)."""
        picked = x[..., self.index]
        return picked if self.factor is None else picked * self.factor

    def adjoint(self, s: Tensor) -> Tensor:
        """Aᵀ s for s of shape (..., m)."""
        return self.scatter(s if self.factor is None else s * self.factor)

    def abs_apply(self, x: Tensor) -> Tensor:
        """|A| x for x of shape (..., n), entrywise absolute value."""
        picked = x[..., self.index]
        return picked if self.factor is None else picked * self.factor.abs()

    def abs_adjoint(self, s: Tensor) -> Tensor:
        """|A|ᵀ s for s of shape (..., m)."""
        return self.scatter(s if self.factor is None else s * self.factor.abs())

    def apply_to_rows(self, jacobian: Tensor) -> Tensor:
        """A B for Jacobians B of shape (..., n, D)."""
        rows = jacobian[..., self.index, :]
        return rows if self.factor is None else rows * self.factor[:, None]

    @property
    def fan_in(self) -> int:
        """Terms summed in one output: the n of the rounding bounds."""
        return 1

    @cached_property
    def fan_out(self) -> int:
        """Terms summed in one entry of Aᵀ s: how often one input is read at most."""
        return int(torch.bincount(self.index, minlength=1).max())

    @cached_property
    def frobenius(self) -> float:
        """Upper bound of ‖A‖_F (float64 factors)."""
        if self.factor is None:
            return math.sqrt(self.index.numel()) * (1.0 + 2.0 * UNIT_ROUNDOFF)
        return frobenius(self.factor) + self.error

    def __matmul__(self, inner: Dense | Monomial) -> Dense | Monomial:
        """The composition A ∘ inner, multiplied out."""
        error = _product_error(self, inner, 1)
        if isinstance(inner, Dense):
            rows = inner.matrix[self.index]
            return Dense(rows if self.factor is None else self.factor[:, None] * rows, error)
        index = inner.index.to(self.index.device)[self.index]
        factor = inner.factor if inner.factor is None else inner.factor[self.index]
        if self.factor is not None:
            factor = self.factor if factor is None else self.factor * factor
        return Monomial(index, inner.inputs, factor, error)

    def scatter(self, s: Tensor) -> Tensor:
        """The sum of the entries of s, shape (..., m), that read each input: shape (..., n)."""
        zeros = torch.zeros((*s.shape[:-1], self.inputs), dtype=s.dtype, device=s.device)
        return zeros.index_add(-1, self.index.to(s.device), s)


Operator = Dense | Monomial


def _product_error(outer: Operator, inner: Operator, terms: int) -> float:
    """Bound of ‖AB − fl(ÂB̂)‖_F ≤ γ‖Â‖_F‖B̂‖_F + E_A‖B‖_F + ‖Â‖_F E_B, with γ = (terms + 2)u."""
    values = [
        operator.matrix if isinstance(operator, Dense) else operator.factor
        for operator in (outer, inner)
    ]
    if not all(_is_double(value) for value in values if value is not None):
        return 0.0
    exact = terms == 1 and any(value is None for value in values)
    rounding = 0.0 if exact else (terms + 2) * UNIT_ROUNDOFF * outer.frobenius * inner.frobenius
    inherited = outer.error * inner.frobenius + outer.frobenius * inner.error
    return (rounding + inherited) * (1.0 + 8.0 * UNIT_ROUNDOFF)


def _is_double(values: Tensor) -> bool:
    """Whether errors are tracked: only the rigorous evaluation is in float64 and detached."""
    return values.dtype == torch.float64 and not values.requires_grad
