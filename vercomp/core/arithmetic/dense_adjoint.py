"""Intervals sent back through a matrix, with its gradient made in one new tensor of its size.

The system hands out memory of that size page by page, which takes longer than a product with a few
rows: |W| and sign(W), which are needed for a moment, are made in the same place again and again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Scratch:
    """A place for a tensor that is needed for a moment: one for each shape, type and device."""

    def __init__(self) -> None:
        self._places: dict[tuple[torch.Size, torch.dtype, torch.device], Tensor] = {}

    def like(self, tensor: Tensor) -> Tensor:
        """An uninitialised tensor of the same type, shape and device."""
        key = (tensor.shape, tensor.dtype, tensor.device)
        if key not in self._places:
            self._places[key] = torch.empty_like(tensor, requires_grad=False)
        return self._places[key]


class AdjointAround(torch.autograd.Function):
    """(Wᵀ mid, |W|ᵀ rad) for a matrix W (m, n) and rows mid, rad (P, m).

    With g and s the gradients that arrive at the two results (P, n), those of mid and rad are W g
    and |W| s, and that of W is midᵀ g + sign(W) ⊙ radᵀ s.
    """

    @staticmethod
    def forward(
        matrix: Tensor, middle: Tensor, radius: Tensor, scratch: Scratch
    ) -> tuple[Tensor, Tensor]:
        """The products with W and with |W|."""
        return middle @ matrix, radius @ torch.abs(matrix, out=scratch.like(matrix))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the factors of the products; |W| is computed again: cheaper than keeping it."""
        *tensors, ctx.scratch = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, center: Tensor, spread: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of W, mid and rad, in their own type also where autocast is on."""
        with torch.autocast(center.device.type, enabled=False):
            return AdjointAround._gradients(ctx, center, spread)

    @staticmethod
    def _gradients(ctx: Any, center: Tensor, spread: Tensor) -> tuple[Tensor | None, ...]:
        matrix, middle, radius = ctx.saved_tensors
        of_matrix = of_middle = of_radius = None
        place = ctx.scratch.like(matrix)
        if ctx.needs_input_grad[0]:
            sign = torch.sgn(matrix, out=place)
            of_matrix = (radius.mT @ spread).mul_(sign).addmm_(middle.mT, center)
        if ctx.needs_input_grad[1]:
            of_middle = center @ matrix.mT
        if ctx.needs_input_grad[2]:
            of_radius = spread @ torch.abs(matrix, out=place).mT
        return of_matrix, of_middle, of_radius, None
