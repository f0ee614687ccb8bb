"""Norms of compositions from their matrices, which are written out strip by strip.

A strip is some rows of the shorter side of A: rows of A, or of Aᵀ, each in its full length. Only
the Gram matrix of the shorter side is held as a whole. Strips that do not fit together are written
out again for each other one; they may then be rounded differently each time. If r strips S_i are
paired with strips S_j + D_ij, where Σ_j ‖D_ij‖_F² ≤ (2ε)² for the bound ε of what rounding does to
the matrix, then the Gram matrix is off by at most √(2r) · 2ε‖A‖ in the 2-norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..arithmetic.outward import SMALLEST, UNIT_ROUNDOFF, power_of_two, times_up, up
from ..maps.operators import Operator, Product
from ..maps.sums import SideBySide, Sum, Transposed
from . import proofs
from .cholesky import Batch, weighted_bounds
from .majorants import majorants
from .proofs import OVERHEAD, Proof

_MOST_ENTRIES = 2**26
_MOST_FOR_ROWS = 6e10
"""Floating-point operations of the factorisations for all rows of weights."""

_STRIP = 2**25
"""Bytes of the widest tensor that a strip meets on its way through the operator."""

_PATCHES = 2**27
"""Bytes that a convolution unfolds at a time."""


def can_be_written_out(operator: Operator, longest: int) -> bool:
    """Whether the shorter side is at most that long, and the proof fits into memory."""
    m, n = operator.shape
    short = min(m, n) <= longest and m * n <= _MOST_ENTRIES
    return short and memory(operator) <= proofs.MEMORY


def memory(operator: Operator) -> int:
    """Bytes that a proof holds at once, at most."""
    m, n = operator.shape
    k = min(m, n)
    gram = 8 * k * k
    strips = 6 * 8 * _rows(operator) * _widest(operator) + 2 * 8 * _rows(operator) * k
    return max(3 * gram, gram + strips + _PATCHES) + OVERHEAD


def prove_written(operator: Operator) -> Proof:
    """Prove an upper bound of ‖A‖₂."""
    size = power_of_two(torch.tensor(operator.absolute_norm, dtype=torch.float64))
    k, terms = min(operator.shape), max(operator.shape)
    alive = torch.ones(1, k, dtype=torch.bool)
    batch = Batch(_gram(operator, size)[None, None], True, alive, terms)
    ones = torch.ones(1, 1, k, dtype=torch.float64)
    squared = up(weighted_bounds([batch], ones) + _repeated(operator, size))
    root = up(up(squared.sqrt()) + writing_error(operator) / size).item()
    bound = math.nextafter(size * root * (1.0 + 8.0 * UNIT_ROUNDOFF), math.inf)
    return Proof(bound, "matrix", memory(operator))


def written_weighted(operator: Operator, q: Tensor, blocks: int = 1) -> Tensor:
    """Upper bounds of ‖diag(√q_p) A‖₂² for finite rows q ≥ 0, (P, m): one of so many blocks."""
    m, n = operator.shape
    k = min(m, n)
    covers, which, factor = majorants(
        q, max(1, int(_MOST_FOR_ROWS / blocks / (k**3 / 3.0 + 200.0 * k**2)))
    )
    size = power_of_two(torch.tensor(operator.absolute_norm, dtype=torch.float64))
    error = writing_error(operator) / size
    alive = torch.ones(1, k, dtype=torch.bool)
    scale = torch.tensor([power_of_two(row) for row in covers], dtype=torch.float64)
    relative = covers / scale[:, None]
    if m <= n:
        batch = Batch(_gram(operator, size)[None, None], True, alive, n)
        squared = weighted_bounds([batch], relative[:, None])
    else:
        whole = next(_strips(operator, size, 0))[1] if _rows(operator) == k else None
        ones = torch.ones(1, 1, k, dtype=torch.float64)
        grams = (_gram(operator, size, row, whole) for row in relative)
        batches = (Batch(gram[None, None], True, alive, m) for gram in grams)
        squared = torch.cat([weighted_bounds([batch], ones) for batch in batches])
    # The largest weight is below two.
    squared = up(squared + 2.0 * _repeated(operator, size))
    root = up(up(squared.sqrt()) + times_up(up(relative.amax(1).sqrt()), error))
    bounds = times_up(times_up(root, root), scale)
    bounds = times_up(times_up(bounds, size), size)
    return times_up(bounds[which], factor)


def writing_error(operator: Operator) -> float:
    """Bound of the error of the entries that are written out, in the 2-norm."""
    m, n = operator.shape
    terms = max(operator.fan_in, operator.fan_out) + 2
    rounding = 2.0 * terms * UNIT_ROUNDOFF * operator.absolute_norm * math.sqrt(min(m, n))
    lost = operator.underflow * math.sqrt(min(m, n)) + SMALLEST
    return (operator.error + rounding + lost) * (1.0 + 1e-9)


def _repeated(operator: Operator, size: float) -> float:
    """Bound of the error in the Gram matrix of A / size where strips are rounded differently."""
    count = -(-min(operator.shape) // _rows(operator))
    if count == 1:
        return 0.0
    return (
        3.0 * math.sqrt(count) * (writing_error(operator) / size) * (operator.absolute_norm / size)
    )


def _gram(
    operator: Operator, size: float, weights: Tensor | None = None, whole: Tensor | None = None
) -> Tensor:
    """B Bᵀ for the shorter side B of A / size, or B diag(q) Bᵀ for weights of the longer.

    Args:
        operator: A.
        size: A power of two.
        weights: q.
        whole: B, if it has been written out already.
    """
    if whole is not None:
        return (whole if weights is None else whole * weights) @ whole.T
    k = min(operator.shape)
    gram = torch.empty(k, k, dtype=torch.float64)
    for i, first in _strips(operator, size, 0):
        scaled = first if weights is None else first * weights
        gram[i, i] = scaled @ first.T
        for j, second in _strips(operator, size, i.stop):
            gram[i, j] = scaled @ second.T
            gram[j, i] = gram[i, j].T
    return gram


def _strips(operator: Operator, size: float, start: int) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the shorter side of A / size from ``start`` on, some at a time."""
    m, n = operator.shape
    k, count = min(m, n), _rows(operator)
    for first in range(start, k, count):
        some = slice(first, min(first + count, k))
        units = torch.zeros(some.stop - first, k, dtype=operator.dtype, device=operator.device)
        units[torch.arange(some.stop - first), torch.arange(first, some.stop)] = 1.0
        rows = operator.adjoint(units) if m <= n else operator.apply(units)
        yield some, rows.detach().cpu() / size


def _rows(operator: Operator) -> int:
    """The number of rows of a strip."""
    return min(min(operator.shape), max(1, _STRIP // (8 * _widest(operator))))


def _widest(operator: Operator) -> int:
    """Entries of the largest vector that is met on the way through the operator."""
    inner: tuple[Operator, ...] = ()
    if isinstance(operator, Product):
        inner = operator.factors
    elif isinstance(operator, Sum):
        inner = operator.summands
    elif isinstance(operator, SideBySide):
        inner = operator.blocks
    elif isinstance(operator, Transposed):
        inner = (operator.inner,)
    return max(*operator.shape, *(_widest(part) for part in inner))
