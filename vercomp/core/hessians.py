"""Lemma 1, piece by piece: the summands of an exact Hessian."""

from __future__ import annotations

import torch
from torch import Tensor


def margin_coefficients(y: Tensor, t: Tensor, classes: int, like: Tensor) -> Tensor:
    """Rows e_y − e_t, shape (B, C), typed and placed like ``like``.

    Raises:
        ValueError: A label or target is outside [0, C).
    """
    for name, labels in (("y", y), ("t", t)):
        if labels.ndim != 1 or labels.is_floating_point():
            raise ValueError(f"{name} must be a vector of integer labels")
        if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= classes):
            raise ValueError(f"{name} holds labels outside 0 … {classes - 1}")
    identity = torch.eye(classes, dtype=like.dtype, device=like.device)
    return identity[y.to(like.device)] - identity[t.to(like.device)]
