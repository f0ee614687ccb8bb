"""Blocks of a convolution along the axes that are kept as they are (:mod:`.spectra`).

A block is B = Σ_k W_k ⊗ P_k over the taps k of the kept axes, where W_k is a matrix of channels and
P_k joins the output position p with the input position j that tap k reads from p. Each P_k has at
most one entry in a row and in a column: it is stored as the position that belongs to each shared
position, and the Gram matrix

    B Bᴴ = Σ_{k,l} W_k W_lᴴ ⊗ P_k P_lᵀ

is accumulated pair by pair, in little more memory than it takes itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..maps.convolution import Convolution

NOWHERE = -1


def positions(convolution: Convolution, kept: tuple[int, ...], *, adjoint: bool) -> Tensor:
    """The row that belongs to each shared position, for every tap along the kept axes.

    Args:
        convolution: The convolution.
        kept: Axes that are kept as they are.
        adjoint: Whether rows are input positions and shared ones output positions, or conversely.

    Returns:
        Shape (taps, shared positions); ``NOWHERE`` where the tap joins the position with nothing.
    """
    found = torch.zeros(1, 1, dtype=torch.long)
    for axis in kept:
        m, n = convolution.to[1 + axis], convolution.of[1 + axis]
        stride, before = convolution.stride[axis], convolution.pads[axis][0]
        shift = convolution.dilation[axis] * torch.arange(convolution.kernel.shape[2 + axis])
        shift = shift[:, None] - before
        if adjoint:
            size, row = n, stride * torch.arange(m) + shift
            meets = torch.ones_like(row, dtype=torch.bool)
        else:
            places = torch.arange(n) - shift
            size, row = m, places.div(stride, rounding_mode="floor")
            meets = row * stride == places
        row = torch.where(meets & (row >= 0) & (row < size), row, NOWHERE)
        joined = found[:, None, :, None] * size + row[None, :, None, :]
        nowhere = (found < 0)[:, None, :, None] | (row < 0)[None, :, None, :]
        found = torch.where(nowhere, NOWHERE, joined).flatten(2).flatten(0, 1)
    return found


def _meetings(rows: Tensor) -> Tensor:
    """How many positions two taps share, shape (taps, taps)."""
    somewhere = (rows >= 0).double()
    return somewhere @ somewhere.T


def meetings(convolution: Convolution, kept: tuple[int, ...], *, adjoint: bool) -> tuple[int, int]:
    """How many pairs of taps share a position, and how many positions they share altogether.

    Args:
        convolution: The convolution.
        kept: Axes that are kept as they are.
        adjoint: As for :func:`positions`.
    """
    pairs, shared = 1, 1
    for axis in kept:
        counts = _meetings(positions(convolution, (axis,), adjoint=adjoint))
        pairs, shared = pairs * int((counts > 0).sum()), shared * int(counts.sum())
    return pairs, shared


def matrix(weights: Tensor, rows: Tensor, count: int) -> Tensor:
    """B written out.

    Args:
        weights: W_k, shape (taps, F, g, c, c').
        rows: Output positions of input positions, from :func:`positions`.
        count: How many output positions there are.

    Returns:
        Shape (F, g, c · outputs, c' · inputs).
    """
    _, f, g, c, other = weights.shape
    block = weights.new_zeros(f, g, c, count, other, rows.shape[1])
    for weight, row in zip(weights, rows, strict=True):
        j = torch.nonzero(row >= 0).flatten()
        # Two taps never join the same two positions: nothing is overwritten.
        block[:, :, :, row[j], :, j] = weight
    return block.flatten(4, 5).flatten(2, 3)


def gram(weights: Tensor, rows: Tensor, count: int) -> Tensor:
    """BBᴴ from the products of two taps.

    Args:
        weights: W_k, shape (taps, F, g, c, c'); their adjoints for BᴴB.
        rows: The rows of shared positions, from :func:`positions`.
        count: How many positions rows have.

    Returns:
        Shape (F, g, c · count, c · count).
    """
    if rows.shape == (1, 1):
        return weights[0] @ weights[0].mH
    _, f, g, c, _ = weights.shape
    total = weights.new_zeros(f, g, c, count, c, count)
    for k, other in torch.nonzero(_meetings(rows).tril()).tolist():
        both = (rows[k] >= 0) & (rows[other] >= 0)
        p, q = rows[k, both], rows[other, both]
        product = weights[k] @ weights[other].mH
        total[:, :, :, p, :, q] += product
        if k != other:
            total[:, :, :, q, :, p] += product.mH
    return total.flatten(4, 5).flatten(2, 3)
