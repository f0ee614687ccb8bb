"""Several linear maps seen as one convolution, so that the norm is that of the composition.

A convolution after a convolution is one if nothing was padded in between (the zeros around the
first result are not the convolution of zeros), or if one of the two is pointwise. Channel-wise
factors and matrices along the channels are pointwise convolutions. Parallel convolutions between
the same tensors add their kernels; side by side they are one convolution of all their channels.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from ..maps.axes import AlongAxis
from ..maps.convolution import Convolution, Pads, channel_factor
from ..maps.monomials import Diagonal, Monomial
from ..maps.operators import LARGEST_MATRIX, Operator, Product, product_error
from ..maps.sums import SideBySide, Sum


def as_convolution(operator: Operator) -> Convolution | None:
    """The operator as one convolution; None where it is none.

    Its ``error`` bounds the rounding of multiplying out.
    """
    if isinstance(operator, Convolution):
        return operator
    if isinstance(operator, AlongAxis):
        if operator.axis != 0 or len(operator.of) < 2:
            return None
        return _pointwise(operator.matrix, operator.of, 1, operator.error)
    if isinstance(operator, Diagonal):
        factor = channel_factor(operator) if len(operator.of) > 1 else None
        if factor is None:
            return None
        return _pointwise(factor[:, None], operator.of, operator.of[0], operator.error)
    if isinstance(operator, Product):
        parts = fused(operator.factors)
        return as_convolution(parts[0]) if len(parts) == 1 else None
    if isinstance(operator, Sum):
        return _parallel(operator.summands)
    if isinstance(operator, SideBySide):
        blocks = [as_convolution(block) for block in operator.blocks]
        if any(block is None for block in blocks):
            return None
        return _side_by_side([block for block in blocks if block is not None])
    return None


def fused(factors: tuple[Operator, ...]) -> tuple[Operator, ...]:
    """The factors with neighbours joined to convolutions and identities dropped, from the right."""
    parts: list[Operator] = []
    for factor in reversed(factors):
        if isinstance(factor, Monomial) and factor.is_identity:
            continue
        outer = as_convolution(factor)
        joined = None
        if parts and outer is not None:
            joined = _composed(outer, parts[-1])
        if joined is None:
            parts.append(factor)
        else:
            parts[-1] = joined
    return tuple(reversed(parts)) or factors[-1:]


def _composed(outer: Convolution, inner: Operator) -> Convolution | None:
    if isinstance(inner, Monomial):
        return _of_some_channels(outer, inner)
    first = as_convolution(inner)
    if first is None:
        return None
    if _is_pointwise(first) and first.to != outer.of:
        first = _viewed(first, outer.of)
    elif _is_pointwise(outer) and first.to != outer.of:
        outer = _viewed(outer, first.to)
    if first.to != outer.of:
        return None
    if not _is_pointwise(first) and any(pair != (0, 0) for pair in outer.pads):
        return None
    return _multiplied(outer, first)


def _multiplied(outer: Convolution, inner: Convolution) -> Convolution | None:
    """Tap k₂ after tap k₁ reads s₁s₂p + s₁d₂k₂ + d₁k₁ − b₁ for the result p."""
    groups = math.gcd(outer.groups, inner.groups)
    left, right = _grouped(outer, groups), _grouped(inner, groups)
    if left is None or right is None:
        return None
    steps = [s * d for s, d in zip(inner.stride, outer.dilation, strict=True)]
    sizes = [
        step * (k2 - 1) + d * (k1 - 1) + 1
        for step, k2, d, k1 in zip(
            steps, outer.kernel.shape[2:], inner.dilation, inner.kernel.shape[2:], strict=True
        )
    ]
    channels = outer.kernel.shape[0] * right.shape[2]
    if channels * math.prod(sizes) > LARGEST_MATRIX:
        return None
    kernel = outer.kernel.new_zeros(groups, left.shape[1], right.shape[2], *sizes)
    for taps in torch.cartesian_prod(*(torch.arange(k) for k in outer.kernel.shape[2:])).reshape(
        -1, outer.dimensions
    ):
        weight = left[:, :, :, *taps.tolist()]
        part = torch.einsum("goc,gci...->goi...", weight, right)
        window = tuple(
            slice(step * k2, step * k2 + d * (k1 - 1) + 1, d)
            for step, k2, d, k1 in zip(
                steps, taps.tolist(), inner.dilation, inner.kernel.shape[2:], strict=True
            )
        )
        kernel[:, :, :, *window] += part
    stride = tuple(a * b for a, b in zip(inner.stride, outer.stride, strict=True))
    pads = outer.pads if _is_pointwise(inner) else inner.pads
    terms = left.shape[2] * math.prod(outer.kernel.shape[2:])
    return Convolution(
        kernel.flatten(0, 1),
        inner.of,
        stride,
        pads,
        (1,) * len(sizes),
        groups,
        product_error(outer, inner, terms),
    )


def _parallel(summands: tuple[Operator, ...]) -> Convolution | None:
    found = [as_convolution(summand) for summand in summands]
    like = next((part for part in found if part is not None), None)
    if like is None:
        return None
    parts = []
    for summand, part in zip(summands, found, strict=True):
        if part is None:
            if not (isinstance(summand, Monomial) and summand.is_identity and like.of == like.to):
                return None
            ones = torch.ones(like.of[0], 1, dtype=like.dtype)
            part = _pointwise(ones, like.of, like.of[0], 0.0)
        parts.append(part)
    if any((part.of, part.to, part.stride) != (like.of, like.to, like.stride) for part in parts):
        return None
    groups = reduce(math.gcd, (part.groups for part in parts))
    aligned = _aligned(parts, groups)
    if aligned is None:
        return None
    kernels, pads = aligned
    ones_ = (1,) * like.dimensions
    rounding = 2.0 * len(parts) * UNIT_ROUNDOFF * sum(part.absolute_norm for part in parts)
    error = (rounding + sum(part.error for part in parts)) * (1.0 + 1e-9)
    kernel = torch.stack(kernels).sum(0).flatten(0, 1)
    return Convolution(kernel, like.of, like.stride, pads, ones_, groups, error)


def _side_by_side(blocks: list[Convolution]) -> Convolution | None:
    like = blocks[0]
    if any(
        (block.of[1:], block.to, block.stride) != (like.of[1:], like.to, like.stride)
        for block in blocks
    ):
        return None
    aligned = _aligned(blocks, 1)
    if aligned is None:
        return None
    kernels, pads = aligned
    kernel = torch.cat(kernels, 2).flatten(0, 1)
    of = (sum(block.of[0] for block in blocks), *like.of[1:])
    error = math.hypot(*(block.error for block in blocks)) * (1.0 + 1e-9)
    return Convolution(kernel, of, like.stride, pads, (1,) * like.dimensions, 1, error)


def _aligned(parts: list[Convolution], groups: int) -> tuple[list[Tensor], Pads] | None:
    """The kernels (groups, c_out, c_in, *taps) over one window, undilated, and its padding."""
    like = parts[0]
    before = [max(part.pads[a][0] for part in parts) for a in range(like.dimensions)]
    sizes = [
        max(part.reach[a] - part.pads[a][0] for part in parts) + before[a]
        for a in range(like.dimensions)
    ]
    kernels = []
    for part in parts:
        kernel = _grouped(part, groups)
        if kernel is None or kernel.shape[:3].numel() * math.prod(sizes) > LARGEST_MATRIX:
            return None
        window = tuple(
            slice(before[a] - part.pads[a][0], before[a] - part.pads[a][0] + part.reach[a], d)
            for a, d in enumerate(part.dilation)
        )
        wide = kernel.new_zeros(*kernel.shape[:3], *sizes)
        wide[:, :, :, *window] = kernel
        kernels.append(wide)
    behind = (
        max(0, s * (m - 1) + size - n - b)
        for s, m, size, n, b in zip(
            like.stride, like.to[1:], sizes, like.of[1:], before, strict=True
        )
    )
    return kernels, tuple(zip(before, behind, strict=True))


def _of_some_channels(outer: Convolution, inner: Monomial) -> Convolution | None:
    """A convolution of a tensor of which only the channels of one branch are not zero."""
    size = math.prod(outer.of[1:])
    if inner.factor is not None or inner.inputs % size or outer.groups != 1:
        return None
    index = inner.index.cpu()
    first = int((index == inner.inputs).long().cumprod(0).sum())
    channel, count = first // size, inner.inputs // size
    of = (count, *outer.of[1:])
    pads = ((channel, outer.of[0] - channel - count), *((0, 0) for _ in outer.of[1:]))
    if pads[0][1] < 0 or not torch.equal(index, Monomial.padding(of, pads).index):
        return None
    kernel = outer.kernel[:, channel : channel + count]
    return replace(outer, kernel=kernel, of=of)


def _grouped(part: Convolution, groups: int) -> Tensor | None:
    """The kernel with fewer groups, (groups, c_out, c_in, *k): zeros stand between the old ones."""
    sizes = part.kernel.shape
    kernel = part.kernel.reshape(groups, part.groups // groups, -1, *sizes[1:])
    if part.groups == groups:
        return kernel[:, 0]
    if part.kernel.numel() * (part.groups // groups) > LARGEST_MATRIX:
        return None
    return torch.stack([_diagonal_blocks(one) for one in kernel])


def _diagonal_blocks(kernel: Tensor) -> Tensor:
    """(b, o, i, *k) to (b·o, b·i, *k)."""
    b, o, i, *k = kernel.shape
    wide = kernel.new_zeros(b, o, b, i, *k)
    wide[torch.arange(b), :, torch.arange(b)] = kernel
    return wide.flatten(2, 3).flatten(0, 1)


def _pointwise(matrix: Tensor, of: tuple[int, ...], groups: int, error: float) -> Convolution:
    """A matrix along the channels; (c_out, c_in / groups)."""
    ones = (1,) * (len(of) - 1)
    kernel = matrix.reshape(*matrix.shape, *ones)
    return Convolution(kernel, of, ones, ((0, 0),) * len(ones), ones, groups, error)


def _is_pointwise(part: Convolution) -> bool:
    return (
        all(k == 1 for k in part.kernel.shape[2:])
        and all(s == 1 for s in part.stride)
        and all(pair == (0, 0) for pair in part.pads)
    )


def _viewed(part: Convolution, like: tuple[int, ...]) -> Convolution:
    """A pointwise convolution of the same entries in other spatial axes."""
    if math.prod(part.of[1:]) != math.prod(like[1:]):
        return part
    matrix = part.kernel.flatten(1)
    return _pointwise(matrix, (part.of[0], *like[1:]), part.groups, part.error)
