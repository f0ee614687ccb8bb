"""Lanczos iterations: estimates of largest eigenvalues, from below. They propose, never prove.

The three-term recurrence alone: that the vectors lose their orthogonality doubles eigenvalues of
the tridiagonal matrix, but does not move the largest (Paige, 1971).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..maps.operators import Operator

_FIRST_EXCESS = 1e-9
_EXHAUSTED = 1e-10


def lanczos(
    apply: Callable[[Tensor], Tensor],
    count: int,
    size: int,
    like: Tensor,
    steps: int = 40,
) -> tuple[Tensor, Tensor]:
    """Estimates of the largest eigenvalues of ``count`` Hermitian operators, and what to add.

    Args:
        apply: The operators, on (count, size).
        count: How many.
        size: Their width.
        like: A tensor of their type.
        steps: Applications.

    Returns:
        The estimates (count,), and the relative excess (count,) that they probably lack, from the
        residual.
    """
    # A fixed start keeps runs equal; irrational phases make it orthogonal to nothing likely.
    phases = torch.arange(1, size + 1, dtype=torch.float64, device=like.device)
    start = (1.0 + (phases * math.sqrt(2.0)).sin()).to(like.dtype)
    if like.is_complex():
        start = start * torch.polar(torch.ones_like(phases), phases * math.sqrt(3.0))
    start = apply(start.expand(count, size))
    vector = start / start.norm(dim=1, keepdim=True).clamp_min(1e-300)
    previous = torch.zeros_like(vector)
    steps = min(steps, size)
    # Small tensors made in the loop would settle between the large ones that the operators free,
    # and keep the allocator from using that memory again: each step would take more.
    diagonal = torch.zeros(steps, count, dtype=torch.float64, device=like.device)
    beside = torch.zeros(steps + 1, count, dtype=torch.float64, device=like.device)
    for step in range(steps):
        product = apply(vector) - previous * beside[step][:, None]
        diagonal[step] = torch.linalg.vecdot(vector, product, dim=1).real
        product.sub_(vector * diagonal[step][:, None])
        length = product.norm(dim=1)
        # Where the Krylov space is exhausted only noise is left: it must not be normalised.
        spent = length <= _EXHAUSTED * diagonal[: step + 1].abs().amax(0)
        beside[step + 1] = torch.where(spent, 0.0, length)
        inverse = torch.where(spent, 0.0, 1.0 / length.clamp_min(1e-300))
        previous, vector = vector, product.mul_(inverse[:, None])
    tridiagonal = torch.diag_embed(diagonal.T)
    if steps > 1:
        off = beside[1:-1].T
        tridiagonal = tridiagonal + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    values, vectors = torch.linalg.eigh(torch.nan_to_num(tridiagonal))
    estimate, residual = values[:, -1], (beside[-1] * vectors[:, -1, -1]).abs()
    relative = torch.nan_to_num(residual / estimate.clamp_min(1e-300), nan=1.0, posinf=1.0)
    return estimate, (relative**1.5).clamp(_FIRST_EXCESS, 0.1)


def norm_from_below(operator: Operator, steps: int = 40) -> float:
    """Roughly ‖Â‖₂, hardly above it."""
    m, n = operator.shape

    def gram(x: Tensor) -> Tensor:
        if m < n:
            return operator.apply(operator.adjoint(x))
        return operator.adjoint(operator.apply(x))

    like = torch.zeros((), dtype=torch.float64, device=operator.device)
    estimate, _ = lanczos(gram, 1, min(m, n), like, steps)
    return math.sqrt(max(0.0, float(estimate)))
