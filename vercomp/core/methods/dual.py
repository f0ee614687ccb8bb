"""The search for the point whose cut certifies most (the dual of Theorem 1).

For f with ∇²f ≽ −κI, the certificate is max over x̂ of the first root r(x̂) of the cut at x̂
(:mod:`.cuts`). The best x̂ minimises φ_η(x) = ½‖x − x₀‖² + η f(x) for the η ≤ 1/κ at which
f(x_η) = 0, or for η = 1/κ if f is still positive there. Hence it is a fixed point of

    T(x̂) = x₀ − η ∇f(x̂),    η = min((f(x̂) − ∇f(x̂)·v) / ‖∇f(x̂)‖², 1/κ),    v = x̂ − x₀

(for η < 1/κ the Hasofer-Lind-Rackwitz-Fiessler step: the nearest zero of the linearisation). T
contracts with η times the *true* curvature on the way, which is far below its bound, so no step
size comes from κ. The iteration is T with Anderson mixing of the last few points; what safeguards
it is the certificate itself: a point worth much less than the best so far sends the pair back
there, with half the step.

A pair stops when its certificate meets a ceiling: d(η) ≤ φ_η(x̂) at every x̂ visited, so no point
certifies more than √(‖v‖² + 2 max(f(x̂), 0)/κ). Where f(x̂) ≤ 0, x̂ itself is a witness at the
distance ‖v‖. Nothing here promises anything: the caller evaluates the cut of the point that comes
back in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .cuts import cut_radius, screening_cut
from .fixed_point import anderson, damped_step, remember

Oracle = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(points (P', D), pair numbers (P',)) ↦ f (P',) and ∇f (P', D)."""

TOLERANCE = 2e-5
"""A pair whose certificate is within this fraction of its ceiling has nothing left to gain."""

PATIENCE = 6
"""Evaluations in a row without gain after which a pair is left as it is."""

_REACH = 4.0

COMPACT_EVERY = 4
"""On a GPU, looking which pairs are done waits for the device: once in so many evaluations."""


class DualSolution(NamedTuple):
    """What the search found for each of P pairs, in the model's dtype.

    Args:
        point: x̂ with the best cut, shape (P, D).
        radius: Its certificate as screened; it promises nothing, shape (P,).
        witness: The nearest visited point with f ≤ 0, shape (P, D); x₀ where there is none.
        distance: Its distance, inf where there is none, shape (P,).
        evaluations: Gradient evaluations spent, the one at x₀ included, shape (P,).
    """

    point: Tensor
    radius: Tensor
    witness: Tensor
    distance: Tensor
    evaluations: Tensor


class _State(NamedTuple):
    """What the iteration carries for every pair that is not decided yet."""

    pair: Tensor  # (P',) number of the pair
    v: Tensor  # (P', D) the point to evaluate next, from x₀
    points: Tensor  # (P', H, D) the points before, the newest last
    residuals: Tensor  # (P', H, D) T(x̂) − x̂ at them
    step: Tensor  # (P',) the damping of T, at most 1
    best_residual: Tensor  # (P', D) T(x̂) − x̂ at the best point
    ceiling: Tensor  # (P',) no certificate can be larger
    idle: Tensor  # (P',) evaluations since the last gain


def solve_dual(
    oracle: Oracle,
    x0: Tensor,
    kappa: Tensor,
    value: Tensor,
    gradient: Tensor,
    *,
    evaluations: int = 30,
    enough: Tensor | None = None,
    refuted: Tensor | None = None,
) -> DualSolution:
    """Search the best cut for P pairs at once.

    Args:
        oracle: f and ∇f at a batch of points.
        x0: x₀, shape (P, D).
        kappa: κ ≥ 0, shape (P,).
        value: f(x₀), shape (P,); already evaluated by the closed form.
        gradient: ∇f(x₀), shape (P, D).
        evaluations: Gradient evaluations a pair, at most, the one at x₀ included.
        enough: A pair stops once its certificate exceeds this, shape (P,).
        refuted: A pair stops once a witness is no farther than this, shape (P,).
    """
    pairs = len(x0)
    inf = torch.full_like(value, torch.inf)
    enough = inf if enough is None else enough.to(value)
    refuted = -inf if refuted is None else refuted.to(value)
    point, witness = torch.zeros_like(x0), torch.zeros_like(x0)  # both from x₀
    radius, distance = torch.zeros_like(value), inf.clone()
    count = torch.ones(pairs, dtype=torch.long, device=x0.device)
    state = _State(
        pair=torch.arange(pairs, device=x0.device),
        v=torch.zeros_like(x0),
        points=x0.new_zeros(pairs, 0, x0.shape[1]),
        residuals=x0.new_zeros(pairs, 0, x0.shape[1]),
        step=torch.ones_like(value),
        best_residual=torch.zeros_like(x0),
        ceiling=inf,
        idle=torch.zeros_like(count),
    )
    compact_every = COMPACT_EVERY if x0.is_cuda else 1

    for k in range(evaluations):
        pair, v = state.pair, state.v
        if k > 0:
            value, gradient = oracle(x0[pair] + v, pair)
            count[pair] += 1
        length, bend = v.norm(dim=1), kappa[pair]
        found = cut_radius(screening_cut(value, gradient, v, bend), bend)
        best = radius[pair]
        gain, poor = found > best, found < 0.9 * best
        idle = torch.where(found > best * (1.0 + TOLERANCE), 0, state.idle + 1)
        radius[pair] = torch.maximum(best, found)
        point[pair] = torch.where(gain[:, None], v, point[pair])
        nearer = (value <= 0.0) & (length < distance[pair])
        distance[pair] = torch.where(nearer, length, distance[pair])
        witness[pair] = torch.where(nearer[:, None], v, witness[pair])
        # f > 0 and κ = 0 leave the ceiling infinite; NaN never lowers it.
        height = torch.hypot(length, (2.0 * value.clamp(min=0.0) / bend).sqrt())
        height = torch.where(value <= 0.0, length, height)
        ceiling = torch.fmin(state.ceiling, height)

        residual = _residual(value, gradient, v, bend)
        best_residual = torch.where(gain[:, None], residual, state.best_residual)
        step = damped_step(state.step, v, residual, state.points, state.residuals)
        step = torch.where(poor, 0.5 * step, step)
        mixed = anderson(v, residual, state.points, state.residuals, step)
        back = point[pair] + step[:, None] * best_residual
        next_v = torch.where(poor[:, None] | ~mixed.isfinite().all(1, keepdim=True), back, mixed)
        # The best x̂ is no farther than the nearest witness; what mixing extrapolates to far beyond
        # the certificate (a step of T from x₀ is at most 1.4 times as long) is noise.
        cap = torch.minimum(distance[pair], _REACH * radius[pair])
        cap = cap / next_v.norm(dim=1).clamp(min=torch.finfo(v.dtype).tiny)
        next_v = next_v * cap.clamp(max=1.0)[:, None]

        state = _State(
            pair,
            next_v,
            remember(state.points, v),
            remember(state.residuals, residual),
            step,
            best_residual,
            ceiling,
            idle,
        )
        if (k + 1) % compact_every == 0 or k == 0:
            done = radius[pair] * (1.0 + TOLERANCE) >= ceiling
            done |= (radius[pair] > enough[pair]) | (distance[pair] <= refuted[pair])
            done |= (idle >= PATIENCE) | ~next_v.isfinite().all(1)
            keep = torch.nonzero(~done)[:, 0]
            if len(keep) == 0:
                break
            if len(keep) < len(pair):
                state = _State(*(field[keep] for field in state))
    return DualSolution(x0 + point, radius, x0 + witness, distance, count)


def _residual(value: Tensor, gradient: Tensor, v: Tensor, kappa: Tensor) -> Tensor:
    """T(x̂) − x̂, with η clamped to [0, 1/κ]; towards x₀ where the gradient vanishes and κ = 0."""
    square = (gradient * gradient).sum(1)
    eta = (value - (gradient * v).sum(1)) / square
    eta = torch.minimum(eta.clamp(min=0.0), 1.0 / kappa)
    eta = torch.where(torch.isfinite(eta), eta, 0.0)
    return -eta[:, None] * gradient - v
