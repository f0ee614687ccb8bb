"""Proved upper bounds of spectral norms, in float64.

The proof is a Cholesky factorisation. For a symmetric float64 matrix S (k × k) whose factorisation
completes, S + ΔS is positive semidefinite for some ‖ΔS‖ ≤ 2u(k + 3)·tr S (Rump, BIT 46, 2006;
u = 2⁻⁵³). Take S = fl(tI − Ĝ), where Ĝ approximates a Gram matrix G = BBᵀ of which each entry sums
n products: |Ĝ − G| ≤ (n + 8)u |B||B|ᵀ entrywise, scaling by diagonal factors included. Then

    ‖B‖² ≤ t + 2u[(k + 3)·tr S + (n + 8)·‖B‖_F² + t].

A power or Lanczos iteration only proposes t; nothing rests on its convergence. Where no proposed t
can be proved the Frobenius norm is returned, which always holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .operators import UNIT_ROUNDOFF, Dense, Monomial, Operator

_FIRST_EXCESS = 1e-9
_GROWTH = 6.0
_BATCH_BYTES = 2**28


def norm2(operator: Operator) -> float:
    """Upper bound of ‖A‖₂.

    Args:
        operator: A, in float64.
    """
    weights = torch.ones(1, operator.shape[0], dtype=torch.float64, device=_device(operator))
    if isinstance(operator, Monomial):
        return _root_up(float(weighted_norm2_squared(operator, weights)[0]))
    size = _power_of_two(operator.matrix)
    scaled = Dense(operator.matrix / size)
    bound = size * _root_up(float(weighted_norm2_squared(scaled, weights)[0])) + operator.error
    return bound * (1.0 + 4.0 * UNIT_ROUNDOFF)


def weighted_norm2_squared(operator: Operator, weights: Tensor) -> Tensor:
    """Upper bounds of λ_max(Aᵀ diag(q_p) A) = ‖diag(√q_p) A‖₂² for P rows q_p ≥ 0.

    Theorem 3 is this with the coefficients of the Hessian as weights.

    Args:
        operator: A of shape (m, n), in float64.
        weights: q, float64, shape (P, m), nonnegative.

    Returns:
        Shape (P,), float64. NaN or infinite weights give infinity.
    """
    if isinstance(operator, Monomial):
        return _monomial(operator, weights)
    finite = torch.isfinite(weights).all(1)
    bounds = torch.full((len(weights),), math.inf, dtype=torch.float64, device=weights.device)
    if not torch.isfinite(operator.matrix).all():
        return bounds
    # Powers of two scale without rounding and keep squares away from underflow and overflow.
    size = _power_of_two(operator.matrix)
    matrix = operator.matrix / size
    rows = max(1, _BATCH_BYTES // (8 * max(1, min(matrix.shape)) ** 2))
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else None
    for chunk in torch.split(torch.nonzero(finite).flatten(), rows):
        scale = torch.tensor([_power_of_two(q) for q in weights[chunk]], dtype=torch.float64)
        scale = scale.to(weights.device)
        root = _up((weights[chunk] / scale[:, None]).sqrt())
        squared = _prove(matrix, gram, root)
        if operator.error > 0.0:
            # ‖diag(s)A‖ ≤ ‖diag(s)Â‖ + max s · ‖A − Â‖
            extra = root.amax(1) * (operator.error / size)
            squared = _up(_up(squared.sqrt()) + _up(extra)).square()
        bounds[chunk] = _up(squared * scale) * size**2
    return torch.where(bounds > 0, _up(bounds), 0.0)


def _prove(matrix: Tensor, gram: Tensor | None, root: Tensor) -> Tensor:
    """Upper bounds of ‖diag(s_p) A‖² for rows s_p, everything scaled to order one."""
    count, size = len(root), min(matrix.shape)
    terms = max(matrix.shape)
    rows = matrix.square().sum(1)
    squares = (root.square() * rows).sum(1) * (1.0 + 1e-9) + 1e-280
    nonzero = ((root > 0) & (matrix != 0).any(1)).any(1)
    bounds = torch.where(nonzero, squares, 0.0)
    if gram is not None:
        estimate, excess = _lanczos(lambda v: root * ((root * v) @ gram), count, size, matrix)
    else:
        estimate, excess = _lanczos(
            lambda v: (root.square() * (v @ matrix.T)) @ matrix, count, size, matrix
        )
    pending = torch.nonzero(nonzero & (estimate > 0) & torch.isfinite(estimate)).flatten()
    while len(pending) > 0:
        t = estimate[pending] * (1.0 + excess[pending])
        shifted = -_gram_of(matrix, gram, root[pending])
        shifted.diagonal(dim1=-2, dim2=-1).add_(t[:, None])
        trace = shifted.diagonal(dim1=-2, dim2=-1).sum(-1)
        factor, info = torch.linalg.cholesky_ex(shifted)
        proved = (info == 0) & torch.isfinite(factor).all(-1).all(-1) & (trace > 0)
        slack = (size + 3) * trace + (terms + 8) * squares[pending] + t
        bound = t + 2.0 * UNIT_ROUNDOFF * (1.0 + 1e-9) * slack + 1e-280
        done = pending[proved]
        bounds[done] = torch.minimum(bounds[done], _up(bound[proved]))
        excess = excess * _GROWTH
        pending = pending[~proved & (excess[pending] < 1.0)]
    return bounds


def _gram_of(matrix: Tensor, gram: Tensor | None, root: Tensor) -> Tensor:
    """BBᵀ or BᵀB of B = diag(s_p) A, whichever is smaller: (K, k, k)."""
    if gram is not None:
        return root[:, :, None] * gram * root[:, None, :]
    scaled = root[:, :, None] * matrix
    return scaled.mT @ scaled


def _lanczos(
    apply: Callable[[Tensor], Tensor], count: int, size: int, like: Tensor, steps: int = 40
) -> tuple[Tensor, Tensor]:
    """Estimates of the largest eigenvalues of ``count`` symmetric operators, and what to add.

    Only proposals: an estimate is from below, and the excess (relative, from the residual) is what
    it probably lacks.
    """
    # A fixed start keeps runs equal; irrational phases make it orthogonal to nothing likely.
    phases = torch.arange(1, size + 1, dtype=like.dtype, device=like.device)
    start = apply((1.0 + (phases * math.sqrt(2.0)).sin()).expand(count, size))
    basis = [start / start.norm(dim=1, keepdim=True).clamp_min(1e-300)]
    diagonal, beside = [], []
    for _ in range(min(steps, size)):
        product = apply(basis[-1])
        diagonal.append((product * basis[-1]).sum(1))
        stacked = torch.stack(basis, 1)
        for _ in range(2):
            product = product - ((stacked @ product[:, :, None]).mT @ stacked)[:, 0]
        length = product.norm(dim=1)
        beside.append(length)
        basis.append(product / length.clamp_min(1e-300)[:, None])
    tridiagonal = torch.diag_embed(torch.stack(diagonal, 1))
    if len(beside) > 1:
        off = torch.stack(beside[:-1], 1)
        tridiagonal = tridiagonal + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    values, vectors = torch.linalg.eigh(torch.nan_to_num(tridiagonal))
    estimate, residual = values[:, -1], (beside[-1] * vectors[:, -1, -1]).abs()
    relative = torch.nan_to_num(residual / estimate.clamp_min(1e-300), nan=1.0, posinf=1.0)
    return estimate, (relative**1.5).clamp(_FIRST_EXCESS, 0.1)


def _monomial(operator: Monomial, weights: Tensor) -> Tensor:
    """AᵀQA is diagonal for a monomial A: its largest entry, rounded up."""
    squares = weights
    if operator.factor is not None:
        squares = _up(weights * _up(operator.factor.square()))
    largest = operator.scatter(squares).amax(1)
    bounds = largest * (1.0 + 2.0 * (operator.fan_out + 2) * UNIT_ROUNDOFF)
    if operator.error > 0.0:
        extra = weights.amax(1).sqrt() * operator.error * (1.0 + 1e-9)
        bounds = _up(_up(bounds.sqrt()) + _up(extra)).square() * (1.0 + 1e-15)
    return torch.where(torch.isfinite(bounds), bounds, math.inf)


def _up(x: Tensor) -> Tensor:
    """The next larger float64, except that an exact zero stays zero."""
    return torch.where(x == 0, x, torch.nextafter(x, torch.full_like(x, math.inf)))


def _root_up(x: float) -> float:
    return math.nextafter(math.sqrt(x), math.inf) if x > 0.0 else x


def _power_of_two(x: Tensor) -> float:
    largest = float(x.abs().max()) if x.numel() else 0.0
    return 2.0 ** math.frexp(largest)[1] if largest > 0.0 and math.isfinite(largest) else 1.0


def _device(operator: Operator) -> torch.device:
    if isinstance(operator, Dense):
        return operator.matrix.device
    return operator.index.device if operator.factor is None else operator.factor.device
