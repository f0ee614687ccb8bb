"""Convolutions of circularly padded tensors, whose norm on the torus is their own.

A padding of that kind is a selection of entries, composed with a convolution that pads no more.
Along an axis of n entries, with a stride s that divides n, the result p reads the entry
(s p + d k − b) mod n: the operator is circular on the torus of n/s positions itself
(:mod:`.spectra`), and its Fourier blocks give its norm.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..arithmetic.outward import product_up
from ..maps.convolution import Convolution
from ..maps.monomials import Monomial
from ..maps.operators import Operator


class Circular(NamedTuple):
    """A convolution that wraps along some of its axes.

    Args:
        convolution: Of the tensor before it is padded, as if zeros were around it.
        wrapped: The axes (0, 1, …) along which its own entries are.
    """

    convolution: Convolution
    wrapped: tuple[int, ...]


def as_circular(parts: tuple[Operator, ...]) -> Circular | None:
    """A product of a convolution and a circular padding as one convolution, where it is one.

    Up to a rotation of its input, where that was rolled.
    """
    if len(parts) != 2:
        return None
    outer, inner = parts
    if not isinstance(outer, Convolution) or not isinstance(inner, Monomial):
        return None
    if inner.factor is not None or inner.index.numel() == 0:
        return None
    index = inner.index.cpu().reshape(outer.of)
    lines = [_line(index, axis) for axis in range(1, index.ndim)]
    of = (outer.of[0], *(n for n, _ in lines))
    sizes = outer.of[1:]
    wrapped = tuple(a for a, line in enumerate(lines) if line != (sizes[a], 0))
    # A tensor that is rolled begins elsewhere: to turn it back changes no norm.
    starts = [min(b, size - n) for size, (n, b) in zip(sizes, lines, strict=True)]
    pads = [(b, size - n - b) for b, size, (n, _) in zip(starts, sizes, lines, strict=True)]
    for axis in wrapped:
        n, stride, results = of[1 + axis], outer.stride[axis], outer.to[1 + axis]
        if outer.pads[axis] != (0, 0) or n % stride or results * stride > n:
            return None
    entries = torch.arange(math.prod(of)).reshape(of)
    for axis, (n, b) in enumerate(lines, 1):
        turns = torch.remainder(torch.arange(outer.of[axis]) - b, n)
        entries = entries.index_select(axis, turns)
    if inner.inputs != math.prod(of) or not torch.equal(index, entries):
        return None
    around = tuple(pads[a] if a in wrapped else outer.pads[a] for a in range(len(pads)))
    error = product_up((outer.error, inner.absolute_norm))
    return Circular(replace(outer, of=of, pads=around, error=error), wrapped)


def _line(index: Tensor, axis: int) -> tuple[int, int]:
    """How many entries a line along an axis reads, and where the first of them is read first."""
    line = index.select(0, 0)
    for other in reversed(range(1, index.ndim)):
        line = line if other == axis else line.select(other - 1, 0)
    return len(torch.unique(line)), int(line.argmin())
