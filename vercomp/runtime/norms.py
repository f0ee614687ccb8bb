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
    if gram is not None:
        candidate = root[:, :, None] * gram * root[:, None, :]
    else:
        scaled = root[:, :, None] * matrix
        candidate = scaled.mT @ scaled
    terms = matrix.shape[1] if gram is not None else matrix.shape[0]
    size = candidate.shape[-1]
    rows = matrix.square().sum(1)
    squares = (root.square() * rows).sum(1) * (1.0 + 1e-9) + 1e-280
    nonzero = ((root > 0) & (matrix != 0).any(1)).any(1)
    bounds = torch.where(nonzero, squares, 0.0)
    estimate = _largest_eigenvalue(candidate)
    pending = torch.nonzero(nonzero & (estimate > 0) & torch.isfinite(estimate)).flatten()
    excess = _FIRST_EXCESS
    while len(pending) > 0 and excess < 1.0:
        t = estimate[pending] * (1.0 + excess)
        shifted = -candidate[pending]
        shifted.diagonal(dim1=-2, dim2=-1).add_(t[:, None])
        trace = shifted.diagonal(dim1=-2, dim2=-1).sum(-1)
        factor, info = torch.linalg.cholesky_ex(shifted)
        proved = (info == 0) & torch.isfinite(factor).all(-1).all(-1) & (trace > 0)
        slack = (size + 3) * trace + (terms + 8) * squares[pending] + t
        bound = t + 2.0 * UNIT_ROUNDOFF * (1.0 + 1e-9) * slack + 1e-280
        done = pending[proved]
        bounds[done] = torch.minimum(bounds[done], _up(bound[proved]))
        pending = pending[~proved]
        excess *= _GROWTH
    return bounds


def _largest_eigenvalue(matrices: Tensor, steps: int = 40) -> Tensor:
    """Lanczos estimates (from below) of λ_max of symmetric matrices (K, k, k); only a proposal."""
    count, size, _ = matrices.shape
    if size <= 2 * steps:
        finite = torch.isfinite(matrices).all(-1).all(-1)
        safe = torch.where(finite[:, None, None], matrices, torch.zeros_like(matrices))
        return torch.where(finite, torch.linalg.eigvalsh(safe)[:, -1], math.inf)
    # A fixed start keeps runs equal; irrational phases make it orthogonal to nothing likely.
    phases = torch.arange(1, size + 1, dtype=matrices.dtype, device=matrices.device)
    start = (1.0 + (phases * math.sqrt(2.0)).sin()).expand(count, size)
    start = (matrices @ start[:, :, None])[:, :, 0]
    basis = [start / start.norm(dim=1, keepdim=True).clamp_min(1e-300)]
    diagonal, off_diagonal = [], []
    for _ in range(steps):
        product = (matrices @ basis[-1][:, :, None])[:, :, 0]
        diagonal.append((product * basis[-1]).sum(1))
        stacked = torch.stack(basis, 1)
        for _ in range(2):
            product = product - ((stacked @ product[:, :, None]).mT @ stacked)[:, 0]
        length = product.norm(dim=1)
        off_diagonal.append(length)
        basis.append(product / length.clamp_min(1e-300)[:, None])
    tridiagonal = torch.diag_embed(torch.stack(diagonal, 1))
    beside = torch.stack(off_diagonal[:-1], 1)
    tridiagonal = tridiagonal + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    largest: Tensor = torch.linalg.eigvalsh(torch.nan_to_num(tridiagonal))[:, -1]
    return largest


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
