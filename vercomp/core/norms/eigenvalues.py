"""Proved upper bounds of the largest eigenvalue of a symmetric matrix of any signs.

If a float64 Cholesky factorisation of S = fl(tI − A), k × k, completes, then S + ΔS is positive
semidefinite for some ‖ΔS‖ ≤ 2u(k + 3)·tr S (Rump, BIT 46, 2006), so that

    λ_max(A) ≤ t + 2u[(k + 3)·tr S + max |S_ii|].

An iteration only proposes t. Where nothing that is proposed can be proved, ‖A‖_F holds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF

_STEPS = 24
_GROWTH = (1e-6, 1e-4, 1e-2, 1e-1, 1.0)
"""Shares of the estimate by which t exceeds it, in turn."""


def frobenius_norm(matrix: Tensor) -> float:
    """‖A‖_F, rounded up; up to 1e-150 too large, for what underflows in squares."""
    guard = 1.0 + 4.0 * matrix.numel() * UNIT_ROUNDOFF
    return float(torch.linalg.vector_norm(matrix)) * guard + 1e-150


def largest_eigenvalue(matrix: Tensor, start: Tensor | None = None) -> float:
    """An upper bound of λ_max(A), for A symmetric as it is stored.

    Args:
        matrix: A, (k, k) in float64 on the CPU.
        start: A vector to begin the iteration with.
    """
    size = frobenius_norm(matrix)
    if not math.isfinite(size):
        return math.inf
    estimate = _estimate(matrix, start)
    for share in _GROWTH:
        t = estimate + share * max(abs(estimate), 1e-3 * size)
        if t >= size:
            break
        bound = _proved(matrix, t)
        if bound is not None:
            return min(bound, size)
    return size


def _proved(matrix: Tensor, t: float) -> float | None:
    shifted = -matrix
    shifted.diagonal().add_(t)
    diagonal = shifted.diagonal()
    trace, largest = float(diagonal.abs().sum()), float(diagonal.abs().max())
    factor, info = torch.linalg.cholesky_ex(shifted)
    if int(info) != 0 or not bool(factor.isfinite().all()):
        return None
    k = len(matrix)
    lost = 2.0 * UNIT_ROUNDOFF * ((k + 3) * trace * (1.0 + 1e-9) + largest) + 1e-290
    return math.nextafter(t + lost * (1.0 + 1e-9), math.inf)


def _estimate(matrix: Tensor, start: Tensor | None) -> float:
    """Roughly λ_max, from below: Lanczos' method with full orthogonalisation."""
    k = len(matrix)
    if k <= 64:
        return float(torch.linalg.eigvalsh(matrix)[-1])
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(k, dtype=matrix.dtype, generator=generator)
    if start is not None:
        v = start.to(matrix) + 1e-2 * start.norm().to(matrix) * v / v.norm()
    basis = [v / v.norm()]
    alpha, beta = [], []
    for _ in range(min(_STEPS, k - 1)):
        w = matrix @ basis[-1]
        alpha.append(float(w @ basis[-1]))
        known = torch.stack(basis)
        for _ in range(2):
            w = w - known.T @ (known @ w)
        length = float(w.norm())
        if length <= 1e-12 * abs(alpha[0]) + 1e-300:
            break
        beta.append(length)
        basis.append(w / length)
    beta = beta[: len(alpha) - 1]
    tridiagonal = torch.diag(torch.tensor(alpha, dtype=matrix.dtype))
    if beta:
        off = torch.diag(torch.tensor(beta, dtype=matrix.dtype), 1)
        tridiagonal = tridiagonal + off + off.T
    return float(torch.linalg.eigvalsh(tridiagonal)[-1])
