"""A few rows of weights that dominate many others, so that a few proofs cover all rows."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arithmetic.outward import times_up


def majorants(rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows c_k and, for each p, an index k and a factor t with q_p ≤ t · c_k, entry by entry.

    λ_max(Aᵀ diag(q) A) grows with q, so that t times a bound for c_k is one for q_p. Rows are
    divided by their maximum; the first ``count`` of them, each as far as possible from those
    before, gather the others, and cover them by the maximum entry by entry.

    Args:
        rows: q ≥ 0, finite, shape (P, c).
        count: How many there may be; if P is no more they are the rows themselves.

    Returns:
        c (K, c), k (P,), t (P,).
    """
    if len(rows) <= count:
        return rows, torch.arange(len(rows)), torch.ones(len(rows), dtype=rows.dtype)
    largest = rows.amax(1)
    # Dividing rounds: what is slightly larger covers. Where all is zero a zero row covers it.
    shapes = (rows / torch.where(largest > 0, largest, 1.0)[:, None]) * (1.0 + 1e-12) + 1e-280
    distance = torch.full((len(rows),), torch.inf, dtype=rows.dtype)
    nearest = torch.zeros(len(rows), dtype=torch.long)
    for k in range(count):
        centre = shapes[distance.argmax()]
        from_centre = (shapes - centre).abs().sum(1)
        closer = from_centre < distance
        nearest = torch.where(closer, k, nearest)
        distance = torch.where(closer, from_centre, distance)
    covers = torch.zeros(count, rows.shape[1], dtype=rows.dtype)
    covers.scatter_reduce_(0, nearest[:, None].expand_as(shapes), shapes, "amax")
    used = torch.unique(nearest)
    renamed = torch.zeros(count, dtype=torch.long)
    renamed[used] = torch.arange(len(used))
    return covers[used], renamed[nearest], times_up(largest, 1.0)
