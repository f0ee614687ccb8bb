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
from .fixed_point import anderson, damped_step, differences, remember

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
    x0: Tensor  # (P', D)
    kappa: Tensor  # (P',)
    enough: Tensor  # (P',)
    refuted: Tensor  # (P',)
    v: Tensor  # (P', D) the point to evaluate next, from x₀
    points: Tensor  # (P', H, D) the points before, the newest last
    residuals: Tensor  # (P', H, D) T(x̂) − x̂ at them
    step: Tensor  # (P',) the damping of T, at most 1
    best: Tensor  # (P', D) the point with the best cut, from x₀
    best_residual: Tensor  # (P', D) T(x̂) − x̂ there
    radius: Tensor  # (P',) its certificate
    witness: Tensor  # (P', D) the nearest point with f ≤ 0, from x₀
    distance: Tensor  # (P',) its distance
    ceiling: Tensor  # (P',) no certificate can be larger
    idle: Tensor  # (P',) evaluations since the last gain
    spent: Tensor  # (P',) evaluations


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
    state = _start(x0, kappa, value, enough, refuted)
    found = DualSolution(
        x0.clone(),
        torch.zeros_like(value),
        x0.clone(),
        torch.zeros_like(value),
        state.spent.clone(),
    )
    compact_every = COMPACT_EVERY if x0.is_cuda else 1
    for k in range(evaluations):
        if k > 0:
            value, gradient = oracle(state.x0 + state.v, state.pair)
            state = state._replace(spent=state.spent + 1)
        state = _advanced(state, value, gradient)
        last = k + 1 == evaluations
        if not last and k > 0 and (k + 1) % compact_every != 0:
            continue
        done = torch.ones_like(state.pair, dtype=torch.bool) if last else _done(state)
        ended = torch.nonzero(done)[:, 0]
        if len(ended) == len(done):
            _write(found, state)
            break
        if len(ended) > 0:
            _write(found, _rows(state, ended))
            state = _rows(state, torch.nonzero(~done)[:, 0])
    return found


def _start(
    x0: Tensor, kappa: Tensor, value: Tensor, enough: Tensor | None, refuted: Tensor | None
) -> _State:
    inf, pair = torch.full_like(value, torch.inf), torch.arange(len(x0), device=x0.device)
    zeros, none = torch.zeros_like(x0), x0.new_zeros(len(x0), 0, x0.shape[1])
    return _State(
        pair=pair,
        x0=x0,
        kappa=kappa,
        enough=inf if enough is None else enough.to(value),
        refuted=-inf if refuted is None else refuted.to(value),
        v=zeros,
        points=none,
        residuals=none,
        step=torch.ones_like(value),
        best=zeros,
        best_residual=zeros,
        radius=torch.zeros_like(value),
        witness=zeros,
        distance=inf,
        ceiling=inf,
        idle=torch.zeros_like(pair),
        spent=torch.ones_like(pair),
    )


def _advanced(state: _State, value: Tensor, gradient: Tensor) -> _State:
    """What f and ∇f at the point v say, and the point to evaluate next."""
    v, kappa = state.v, state.kappa
    length: Tensor = torch.linalg.vector_norm(v, dim=1)
    found = cut_radius(screening_cut(value, gradient, v, kappa), kappa)
    gain, poor = found > state.radius, found < 0.9 * state.radius
    idle = torch.where(found > state.radius * (1.0 + TOLERANCE), 0, state.idle + 1)
    radius = torch.maximum(state.radius, found)
    best = torch.where(gain[:, None], v, state.best)
    nearer = (value <= 0.0) & (length < state.distance)
    distance = torch.where(nearer, length, state.distance)
    witness = torch.where(nearer[:, None], v, state.witness)
    # f > 0 and κ = 0 leave the ceiling infinite; NaN never lowers it.
    height = torch.hypot(length, (2.0 * value.clamp(min=0.0) / kappa).sqrt())
    height = torch.where(value <= 0.0, length, height)
    ceiling = torch.fmin(state.ceiling, height)

    residual = _residual(value, gradient, v, kappa)
    best_residual = torch.where(gain[:, None], residual, state.best_residual)
    past = differences(v, residual, state.points, state.residuals)
    step = damped_step(state.step, *past)
    step = torch.where(poor, 0.5 * step, step)
    mixed = anderson(v, residual, *past, step)
    size: Tensor = torch.linalg.vector_norm(mixed, dim=1)
    back = poor | ~size.isfinite()
    returned = best + step[:, None] * best_residual
    size = torch.where(back, torch.linalg.vector_norm(returned, dim=1), size)
    # The best x̂ is no farther than the nearest witness; what mixing extrapolates to far beyond
    # the certificate (a step of T from x₀ is at most 1.4 times as long) is noise.
    cap = torch.minimum(distance, _REACH * radius) / size.clamp(min=torch.finfo(v.dtype).tiny)
    next_v = torch.where(back[:, None], returned, mixed) * cap.clamp(max=1.0)[:, None]
    return state._replace(
        v=next_v,
        points=remember(state.points, v),
        residuals=remember(state.residuals, residual),
        step=step,
        best=best,
        best_residual=best_residual,
        radius=radius,
        witness=witness,
        distance=distance,
        ceiling=ceiling,
        idle=idle,
    )


def _done(state: _State) -> Tensor:
    """Which pairs have met their ceiling or what is asked of them, or gain nothing more, (P',)."""
    radius, distance = state.radius, state.distance
    done: Tensor = radius * (1.0 + TOLERANCE) >= state.ceiling
    done |= (radius > state.enough) | (distance <= state.refuted)
    length: Tensor = torch.linalg.vector_norm(state.v, dim=1)
    done |= (state.idle >= PATIENCE) | ~length.isfinite()
    return done


def _rows(state: _State, index: Tensor) -> _State:
    """Some of the pairs."""
    return _State(*(field.index_select(0, index) for field in state))


def _write(found: DualSolution, state: _State) -> None:
    """Put down what was found for the pairs of a state."""
    found.point[state.pair] = state.x0 + state.best
    found.radius[state.pair] = state.radius
    found.witness[state.pair] = state.x0 + state.witness
    found.distance[state.pair] = state.distance
    found.evaluations[state.pair] = state.spent


def _residual(value: Tensor, gradient: Tensor, v: Tensor, kappa: Tensor) -> Tensor:
    """T(x̂) − x̂, with η clamped to [0, 1/κ]; towards x₀ where the gradient vanishes and κ = 0."""
    square = (gradient * gradient).sum(1)
    eta = (value - (gradient * v).sum(1)) / square
    eta = torch.minimum(eta.clamp(min=0.0), 1.0 / kappa)
    eta = torch.where(torch.isfinite(eta), eta, 0.0)
    return -eta[:, None] * gradient - v
