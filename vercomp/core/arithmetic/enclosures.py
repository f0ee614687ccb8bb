"""Intervals sent through a linear map, rounded outward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..maps.operators import Operator
from .outward import UNIT_ROUNDOFF, down, up

_BLOCK_ENTRIES = 2**18
"""Of intervals so many entries are treated at a time: what stays in the cache is faster."""

Ends = tuple[Tensor, Tensor]
"""Lower and upper ends (..., n) of intervals."""


def image(operator: Operator, ends: Ends) -> Ends:
    """[A x] for x in intervals (P, n): A mid ± (|A| rad + rounding)."""
    return _enclosed(operator, ends, adjoint=False)


def preimage(operator: Operator, ends: Ends) -> Ends:
    """[Aᵀ s] for s in intervals (P, m): Aᵀ mid ± (|A|ᵀ rad + rounding)."""
    return _enclosed(operator, ends, adjoint=True)


def by_rows(
    run: Callable[[Tensor, Tensor], tuple[Tensor, ...]], ends: Ends, width: int
) -> tuple[Tensor, ...]:
    """The results of ``run`` for all rows, a few rows of the interval at a time."""
    count, rows = len(ends[0]), max(1, _BLOCK_ENTRIES // max(1, width))
    blocks = zip(*(torch.split(end, rows) for end in ends), strict=True)
    results: list[Tensor] = []
    for position, (lower, upper) in enumerate(blocks):
        parts = run(lower, upper)
        # Made once and filled: blocks that are joined at the end take twice the memory.
        results = results or [part.new_empty(count, *part.shape[1:]) for part in parts]
        for result, part in zip(results, parts, strict=True):
            result[position * rows : position * rows + len(part)] = part
    return tuple(results)


def _enclosed(operator: Operator, ends: Ends, *, adjoint: bool) -> Ends:
    """Each entry sums n products: the float64 sum is off by at most 2(n + 2)u |A|(|mid| + rad).

    An operator that is itself rounded adds ‖A − Â‖ · ‖|mid| + rad‖. A few rows at a time: an image
    network has many units.
    """
    run = partial(_block, operator, adjoint, _keeps_what_is_not_zero(operator))
    lower, upper = by_rows(run, ends, max(operator.shape))
    return lower, upper


def _block(
    operator: Operator, adjoint: bool, keeps: bool, lower: Tensor, upper: Tensor
) -> tuple[Tensor, Tensor]:
    absolute = operator.abs_adjoint if adjoint else operator.abs_apply
    move = operator.adjoint if adjoint else operator.apply
    terms = operator.fan_out if adjoint else operator.fan_in
    middle = 0.5 * lower + 0.5 * upper
    radius = up(torch.maximum(upper - middle, middle - lower))
    size = up(middle.abs() + radius)
    rounding = 4.0 * (terms + 2) * UNIT_ROUNDOFF
    spread = absolute(radius + rounding * size) * (1.0 + rounding)
    if operator.error > 0.0:
        spread = spread + operator.error * size.norm(dim=1, keepdim=True) * (1.0 + 1e-9)
    # Products may underflow; where nothing that is not zero meets, the result is exactly zero.
    meets: Tensor | float = 1.0
    if keeps:
        meets = (absolute((size > 0).to(size)) > 0).to(size)
    spread = up(spread + operator.underflow * meets)
    center = move(middle)
    return down(center - spread), up(center + spread)


def _keeps_what_is_not_zero(operator: Operator) -> bool:
    """Whether |A| 1 is zero in float64 only where it is: tiny factors may multiply to zero."""
    smallest = 1.0
    for value in operator.values:
        nonzero = value[value != 0].abs()
        smallest *= min(1.0, float(nonzero.min())) if nonzero.numel() else 1.0
    return len(operator.values) <= 1 or smallest > 1e-200
