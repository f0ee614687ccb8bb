"""Fixed-point iterations for a batch: Anderson mixing and a step size from the curvature seen.

A map T is iterated on P points at once; its residual at v is T(v) − v. The last few points and
residuals are kept, shapes (P, H, D), the newest last; steps and mixing look at their
:func:`differences` to the newest.
"""

from __future__ import annotations

import torch
from torch import Tensor

HISTORY = 3
"""Differences that the mixing looks back on: more gained nothing on networks or quadratics."""


def remember(history: Tensor, newest: Tensor) -> Tensor:
    """The history (P, H, D) with one more entry (P, D), the oldest dropped beyond HISTORY."""
    return torch.cat([history[:, max(history.shape[1] + 1 - HISTORY, 0) :], newest[:, None]], 1)


def differences(
    v: Tensor, residual: Tensor, points: Tensor, residuals: Tensor
) -> tuple[Tensor, Tensor]:
    """The history of points and of residuals less the newest of each, (P, H, D)."""
    return points - v[:, None], residuals - residual[:, None]


def damped_step(step: Tensor, moved: Tensor, change: Tensor) -> Tensor:
    """The step along the residual: at most 1.5 / L, L the Lipschitz constant of the residual seen.

    That is the full step where the map contracts or nearly does (L ≤ 1.5). A step once reduced
    grows again by a factor of 1.3 an evaluation.
    """
    if moved.shape[1] == 0:
        return step
    length: Tensor = torch.linalg.vector_norm(moved[:, -1], dim=1)
    lipschitz = torch.linalg.vector_norm(change[:, -1], dim=1) / length
    return torch.fmin(1.3 * step, 1.5 / lipschitz).clamp(max=1.0)


def anderson(v: Tensor, residual: Tensor, moved: Tensor, change: Tensor, step: Tensor) -> Tensor:
    """The next point: the affine combination of points whose residuals combine to the least.

    With differences X of the points and F of the residuals to the newest, the weights minimise
    ‖residual − F w‖ and the next point is v − X w + step · (residual − F w) (Anderson, JACM 1965;
    Walker and Ni, SINUM 2011). The least squares problem is solved by its normal equations with a
    little regularisation: it is a few numbers wide, and a poor solution costs an evaluation, not
    soundness. It may come out NaN, which the caller looks for.
    """
    depth = moved.shape[1]
    if depth == 0:
        return v + step[:, None] * residual
    gram = change @ change.transpose(1, 2)
    scale = gram.diagonal(dim1=1, dim2=2).sum(1)
    ridge = (1e-6 * scale + torch.finfo(residual.dtype).tiny)[:, None, None]
    gram = gram + ridge * torch.eye(depth, dtype=gram.dtype, device=gram.device)
    right = change @ residual[:, :, None]
    weights: Tensor = torch.linalg.solve_ex(gram, right).result
    # Sums over a few entries of the history: products of matrices so small cost more.
    for i in range(depth):
        residual = torch.addcmul(residual, change[:, i], weights[:, i], value=-1.0)
        v = torch.addcmul(v, moved[:, i], weights[:, i], value=-1.0)
    return torch.addcmul(v, step[:, None], residual)
