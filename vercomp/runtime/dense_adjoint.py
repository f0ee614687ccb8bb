"""Intervals sent back through a matrix, with its gradient made in one tensor of its size.

For large matrices each further one costs as much as a product with a few rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class AdjointAround(torch.autograd.Function):
    """(Wᵀ mid, |W|ᵀ rad) for a matrix W (m, n) and rows mid, rad (P, m).

    With g and s the gradients that arrive at the two results (P, n), those of mid and rad are W g
    and |W| s, and that of W is midᵀ g + sign(W) ⊙ radᵀ s.
    """

    @staticmethod
    def forward(matrix: Tensor, middle: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        """Both products."""
        return middle @ matrix, radius @ matrix.abs()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the products were of; |W| is made again, which costs less than keeping it."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, center: Tensor, spread: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of W, mid and rad."""
        matrix, middle, radius = ctx.saved_tensors
        of_matrix = of_middle = of_radius = None
        if ctx.needs_input_grad[0]:
            of_matrix = (radius.mT @ spread).mul_(matrix.sgn()).addmm_(middle.mT, center)
        if ctx.needs_input_grad[1]:
            of_middle = center @ matrix.mT
        if ctx.needs_input_grad[2]:
            of_radius = spread @ matrix.abs().mT
        return of_matrix, of_middle, of_radius


def adjoint_around(matrix: Tensor, middle: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """(Wᵀ mid, |W|ᵀ rad), with gradients."""
    center, spread = AdjointAround.apply(matrix, middle, radius)  # type: ignore[no-untyped-call]
    return center, spread
