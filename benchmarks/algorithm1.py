"""Algorithm 1 as published (second_order_provable_defenses, appendix C.4).

Transcribed line by line for comparison, batched over pairs; every pair follows its own bisection.
Two things are counted as the paper's routine would: an inner iteration is one gradient evaluation,
and so is the look at f that ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

OUTER, INNER, TOLERANCE = 30, 20, 1e-5

Function = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points (P, D) ↦ f (P,) and ∇f (P, D)."""


class Published(NamedTuple):
    """Where Algorithm 1 ends.

    Args:
        point: x_cert, shape (P, D); ``‖point − x0‖`` is what the paper reports.
        eta: The last η for which the inner problem was solved, shape (P,).
        evaluations: Gradient evaluations, shape (P,).
    """

    point: Tensor
    eta: Tensor
    evaluations: Tensor


def algorithm1(function: Function, x0: Tensor, m: Tensor, M: Tensor) -> Published:
    """Certificate optimisation for m I ≼ ∇²f ≼ M I, with m < 0 < M of shape (P,)."""
    K = torch.maximum(m.abs(), M.abs())
    eta_min, eta_max = -1.0 / M, -1.0 / m
    eta = 0.5 * (eta_min + eta_max)
    x = x0.clone()
    evaluations = torch.zeros_like(m, dtype=torch.long)
    for _ in range(OUTER):
        running = torch.ones_like(m, dtype=torch.bool)
        solved_for = eta
        for _ in range(INNER):
            _, g = function(x)
            evaluations += running.long()
            gradient = eta[:, None] * g + (x - x0)
            running = running & (gradient.norm(dim=1) >= TOLERANCE)
            if not running.any():
                break
            bend = (eta * K).abs()[:, None]
            step = -(eta[:, None] * g - bend * x - x0) / (1.0 + bend)
            x = torch.where(running[:, None], step, x)
        f, _ = function(x)
        evaluations += 1
        eta_min = torch.where(f > 0, eta, eta_min)
        eta_max = torch.where(f > 0, eta_max, eta)
        eta = 0.5 * (eta_min + eta_max)
    return Published(x, solved_for, evaluations)
