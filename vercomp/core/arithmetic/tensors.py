"""The operations of programs over plain tensors: values, derivatives, exact Hessians.

Handed to a program as they are, they compute; recorded (:mod:`.recording`), they are printed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..functions import Elementwise
from ..maps.operators import Operator


class Tensors:
    """Operations on batches (P, n) of flat vectors, and on Jacobians (P, n, D)."""

    def note(self, formula: str) -> None:
        """Say what the next operations compute; only a recording keeps it."""

    def apply(self, operator: Operator, x: Tensor, *, name: str = "") -> Tensor:
        """A x."""
        return operator.apply(x)

    def adjoint(self, operator: Operator, s: Tensor, *, name: str = "") -> Tensor:
        """Aᵀ s."""
        return operator.adjoint(s)

    def apply_to_rows(self, operator: Operator, jacobian: Tensor, *, name: str = "") -> Tensor:
        """A B."""
        return operator.apply_to_rows(jacobian)

    def value(self, function: Elementwise, z: Tensor, *, name: str = "") -> Tensor:
        """σ(z)."""
        return function.value(z)

    def first(self, function: Elementwise, z: Tensor, *, name: str = "") -> Tensor:
        """σ′(z)."""
        return function.first(z)

    def second(self, function: Elementwise, z: Tensor, *, name: str = "") -> Tensor:
        """σ″(z)."""
        second = function.second
        assert second is not None  # noqa: S101 - programs with σ″ are for functions that have it
        return second(z)

    def add(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """a + b."""
        return a + b

    def multiply(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """a ⊙ b."""
        return a * b

    def multiply_rows(self, s: Tensor, jacobian: Tensor, *, name: str = "") -> Tensor:
        """diag(s) B for s (P, n) and Jacobians B (P, n, D)."""
        return s[:, :, None] * jacobian

    def quadratic(self, jacobian: Tensor, weights: Tensor, *, name: str = "") -> Tensor:
        """Bᵀ diag(q) B for Jacobians B (P, n, D) or (n, D) and weights q (P, n): (P, D, D)."""
        return quadratic(jacobian, weights)


def quadratic(jacobian: Tensor, weights: Tensor) -> Tensor:
    """Bᵀ diag(q) B for Jacobians B (P, n, D) or (n, D) and weights q (P, n): (P, D, D)."""
    return torch.matmul(jacobian.mT, weights[:, :, None] * jacobian)
