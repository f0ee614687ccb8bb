"""Proved norms of computed matrices, and largest eigenvalues of their weighted Gram matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from ..norms.eigenvalues import largest_eigenvalue
from .products import GUARD, Matrix

_STEPS = 12
"""Power steps of estimates."""

Weighted = list[tuple[Matrix, Tensor]]
"""Matrices M of one input, (1, n, m), with weights (n,) of their rows."""


def gram_eigenvalue(parts: Weighted) -> float:
    """An upper bound of λ_max(Σ Mᵀ diag(w) M), for weights of any sign; ∞ if it is no number."""
    total: Tensor | None = None
    doubt = 0.0
    for matrix, weights in parts:
        M = matrix.value[0]
        if not bool(weights.isfinite().all()):
            return math.inf
        product = M.T @ (weights[:, None] * M)
        total = product if total is None else total + product
        rows = torch.linalg.vector_norm(M, dim=1)
        squares = float((weights.abs() * rows.square()).sum()) * GUARD
        # Entries sum len(M) products each; so many sums more as there are matrices.
        doubt += 2.0 * (len(M) + len(parts) + 8) * UNIT_ROUNDOFF * squares
        size, error = float(matrix.size[0]), float(matrix.error[0])
        doubt += float(weights.abs().max()) * error * (2.0 * size + error)
    if total is None:
        return 0.0
    symmetric = (0.5 * (total + total.T)).cpu()
    bound = (largest_eigenvalue(symmetric) + doubt * GUARD) + 1e-290
    return math.inf if math.isnan(bound) else bound


def gram_norm(parts: Weighted) -> float:
    """An upper bound of ‖Σ Mᵀ diag(w) M‖₂^½ for weights ≥ 0: the norm of the stacked √w M."""
    squares = 0.0
    for matrix, weights in parts:
        squares += float(weights.max()) * float(matrix.size[0]) ** 2
    if squares == 0.0 or len(parts) == 0:
        return 0.0
    bound = min(gram_eigenvalue(parts), squares * GUARD)
    return math.sqrt(max(0.0, bound)) * GUARD


def top_vector(parts: Weighted) -> Tensor:
    """About the unit vector v at which vᵀ(Σ Mᵀ diag(w) M)v is largest; it proves nothing.

    The weights may have any sign: the power steps are shifted by what the negative ones may do.
    """
    negative = [(matrix, (-w).clamp_min(0.0)) for matrix, w in parts if bool((w < 0.0).any())]
    if not negative:
        return _iterated(parts, 0.0)
    return _iterated(parts, along(negative, _iterated(negative, 0.0)))


def along(parts: Weighted, v: Tensor) -> float:
    """vᵀ(Σ Mᵀ diag(w) M)v, to the nearest."""
    return sum(float((w * (M.value[0] @ v).square()).sum()) for M, w in parts)


def _iterated(parts: Weighted, shift: float) -> Tensor:
    matrix = parts[0][0].value
    v: Tensor = torch.arange(matrix.shape[2], dtype=matrix.dtype, device=matrix.device)
    v = 1.0 + v.sin()
    v = v / v.norm()
    for _ in range(_STEPS):
        image = shift * v
        for M, weights in parts:
            image = image + (weights * (M.value[0] @ v)) @ M.value[0]
        size = float(image.norm())
        if not 0.0 < size < math.inf:
            break
        v = image / size
    return v
