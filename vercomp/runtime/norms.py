"""Proved upper bounds of spectral norms, in float64.

The proof is a Cholesky factorisation. For a symmetric float64 matrix S (k × k) whose factorisation
completes, S + ΔS is positive semidefinite for some ‖ΔS‖ ≤ 2u(k + 3)·tr S (Rump, BIT 46, 2006;
u = 2⁻⁵³). Take S = fl(tI − Ĝ), where Ĝ approximates a Gram matrix G = BBᵀ of which each entry sums
n products: |Ĝ − G| ≤ (n + 8)u |B||B|ᵀ entrywise, scaling by diagonal factors included. Then

    ‖B‖² ≤ t + 2u[(k + 3)·tr S + (n + 8)·‖B‖_F² + t].

A Lanczos iteration only proposes t; nothing rests on its convergence. Where no proposed t can be
proved the Frobenius norm is returned, which always holds.

Proofs run on the CPU whatever the device: what a GPU's factorisation does inside (inverted diagonal
blocks, say) is not documented, so Rump's theorem need not cover it. The bounds are then also the
same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .monomials import Diagonal, Monomial
from .operators import UNIT_ROUNDOFF, Dense, Operator

_FIRST_EXCESS = 1e-9
_GROWTH = 6.0
_BATCH_BYTES = 2**28
_EXHAUSTED = 1e-10
_TINY = 1e-280
"""Far below everything of order one, and far above what underflow can lose there."""


def norm2(operator: Operator) -> float:
    """Upper bound of ‖A‖₂.

    Args:
        operator: A, in float64.
    """
    operator = _simple(operator)
    scaled: Operator
    if isinstance(operator, Monomial):
        factor = operator.factor
        factor = torch.ones((), dtype=torch.float64) if factor is None else factor
        size = _power_of_two(factor)
        scaled = Monomial(operator.index, operator.inputs, factor.expand(operator.shape[0]) / size)
    else:
        size = _power_of_two(operator.matrix)
        scaled = Dense(operator.matrix / size)
    weights = torch.ones(1, operator.shape[0], dtype=torch.float64)
    root = math.sqrt(float(weighted_norm2_squared(scaled, weights)[0]))
    if root == 0.0:
        return operator.error
    return math.nextafter((size * root + operator.error) * (1.0 + 8.0 * UNIT_ROUNDOFF), math.inf)


def weighted_norm2_squared(operator: Operator, weights: Tensor) -> Tensor:
    """Upper bounds of λ_max(Aᵀ diag(q_p) A) = ‖diag(√q_p) A‖₂² for P rows q_p ≥ 0.

    Theorem 3 is this with the coefficients of the Hessian as weights.

    Args:
        operator: A of shape (m, n), in float64.
        weights: q, float64, shape (P, m), nonnegative.

    Returns:
        Shape (P,), float64. NaN or infinite weights give infinity.
    """
    operator = _simple(operator)
    # Equal rows are met often: symmetric activations weigh (y, t) and (t, y) alike.
    q, row = torch.unique(weights.cpu(), dim=0, return_inverse=True)
    bounds = _monomial(operator, q) if isinstance(operator, Monomial) else _dense(operator, q)
    return bounds[row].to(weights.device)


def _simple(operator: Operator) -> Dense | Monomial:
    if isinstance(operator, Diagonal):
        return operator.monomial
    if isinstance(operator, Dense | Monomial):
        return operator
    return Dense(operator.materialise(), operator.error)


def _dense(operator: Dense, weights: Tensor) -> Tensor:
    finite = torch.isfinite(weights).all(1)
    bounds = torch.full((len(weights),), math.inf, dtype=torch.float64)
    if not torch.isfinite(operator.matrix).all():
        return bounds
    # Powers of two scale without rounding and keep squares away from underflow and overflow.
    size = _power_of_two(operator.matrix)
    matrix = operator.matrix.cpu() / size
    rows = max(1, _BATCH_BYTES // (8 * max(1, min(matrix.shape)) ** 2))
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else None
    for chunk in torch.split(torch.nonzero(finite).flatten(), rows):
        scale = torch.tensor([_power_of_two(q) for q in weights[chunk]], dtype=torch.float64)
        # What is positive stays so: raising a weight that would vanish keeps the bound a bound.
        relative = weights[chunk] / scale[:, None]
        relative = torch.where(weights[chunk] > 0, relative.clamp_min(_TINY), relative)
        root = _up(relative.sqrt())
        squared = _prove(matrix, gram, root)
        if operator.error > 0.0:
            # ‖diag(s)A‖ ≤ ‖diag(s)Â‖ + max s · ‖A − Â‖
            extra = root.amax(1) * max(operator.error / size, _TINY)
            squared = _up(_up(squared.sqrt()) + _up(extra)).square()
        bounds[chunk] = _times_up(_times_up(_times_up(_up(squared), scale), size), size)
    return bounds


def _prove(matrix: Tensor, gram: Tensor | None, root: Tensor) -> Tensor:
    """Upper bounds of ‖diag(s_p) A‖² for rows s_p, everything scaled to order one."""
    count, size = len(root), min(matrix.shape)
    terms = max(matrix.shape)
    rows = matrix.square().sum(1)
    squares = (root.square() * rows).sum(1) * (1.0 + 1e-9) + _TINY
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
        bound = t + 2.0 * UNIT_ROUNDOFF * (1.0 + 1e-9) * slack + _TINY
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
        # Where the Krylov space is exhausted only noise is left: it must not be normalised.
        spent = length <= _EXHAUSTED * torch.stack(diagonal).abs().amax(0)
        beside.append(torch.where(spent, 0.0, length))
        unit = product / length.clamp_min(1e-300)[:, None]
        basis.append(torch.where(spent[:, None], 0.0, unit))
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
        factor = operator.factor.abs().cpu()
        squares = _times_up(weights, _times_up(factor, factor))
    largest = Monomial(operator.index.cpu(), operator.inputs).scatter(squares).amax(1)
    bounds = _times_up(largest, 1.0 + 2.0 * (operator.fan_out + 2) * UNIT_ROUNDOFF)
    if operator.error > 0.0:
        extra = _times_up(weights.amax(1).sqrt(), operator.error * (1.0 + 1e-9))
        root = _up(_up(bounds.sqrt()) + extra)
        bounds = _times_up(root, root)
    return torch.where(torch.isfinite(bounds), bounds, math.inf)


def _times_up(a: Tensor, b: Tensor | float) -> Tensor:
    """a · b for nonnegative factors, rounded up; zero only where a factor is zero."""
    product = a * b
    return torch.where(
        (a == 0) | (b == 0), 0.0, torch.nextafter(product, torch.full_like(product, math.inf))
    )


def _up(x: Tensor) -> Tensor:
    """The next larger float64, except that an exact zero stays zero."""
    return torch.where(x == 0, x, torch.nextafter(x, torch.full_like(x, math.inf)))


def _power_of_two(x: Tensor) -> float:
    """The largest power of two that is at most max |x|; 1 where there is none."""
    largest = float(x.abs().max()) if x.numel() else 0.0
    return 2.0 ** (math.frexp(largest)[1] - 1) if 0.0 < largest < math.inf else 1.0
