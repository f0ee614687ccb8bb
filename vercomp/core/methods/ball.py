"""The search for the least margin in a ball, and for the cut that proves it (Theorem 2).

For f with ∇²f ≽ −κI, the cut at x̂ bounds f over the ball ‖x − x₀‖ ≤ ρ from below by
A − Gρ − ½κρ² (:mod:`.cuts`). The best x̂ minimises f(x) + ½η(‖x − x₀‖² − ρ²), η ≥ κ (below κ that
is not convex): with v = x̂ − x₀ it is a fixed point of

    T(v) = −∇f / η,    η = max(‖∇f‖ / ρ, κ).

Where η > κ it lies on the sphere, the bound is f(x̂) itself, and x̂ is the provably worst
perturbation. Where η = κ the bound stays below every value in the ball: once it no longer grows,
the pair goes on from its best point with η = ‖∇f‖/ρ, which only looks for smaller values. Every
visited point lies in the ball, so each serves as a perturbation and as a cut. T contracts with the
true curvature and is mixed and safeguarded as in :mod:`.dual`. Nothing here promises anything: the
caller evaluates in float64 what comes back.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .cuts import cut_lower_bound, screening_cut
from .dual import COMPACT_EVERY, Oracle
from .fixed_point import anderson, damped_step, differences, remember

TOLERANCE = 1e-4
"""A pair whose value and bound are this close, relative to the change of f, is done."""

PATIENCE = 3
"""Evaluations in a row without gain after which the search for a bound, or a value, ends."""


class BallSolution(NamedTuple):
    """What the search found for each of P pairs, in the model's dtype.

    Args:
        point: The point of the ball with the least f visited, shape (P, D).
        value: f there, as screened, shape (P,).
        anchor: x̂ with the best cut, shape (P, D).
        bound: Its lower bound of f over the ball, as screened; it promises nothing, shape (P,).
        evaluations: Gradient evaluations spent, the one at x₀ included, shape (P,).
    """

    point: Tensor
    value: Tensor
    anchor: Tensor
    bound: Tensor
    evaluations: Tensor


def solve_ball(
    oracle: Oracle,
    x0: Tensor,
    kappa: Tensor,
    radius: float,
    value: Tensor,
    gradient: Tensor,
    *,
    evaluations: int = 30,
    enough: Tensor | None = None,
) -> BallSolution:
    """Search P pairs at once for the least f in the ball and the best bound of it.

    Args:
        oracle: f and ∇f at a batch of points.
        x0: x₀, shape (P, D).
        kappa: κ ≥ 0, shape (P,).
        radius: ρ.
        value: f(x₀), shape (P,).
        gradient: ∇f(x₀), shape (P, D).
        evaluations: Gradient evaluations a pair, at most, the one at x₀ included.
        enough: A pair stops once its bound reaches this, shape (P,).
    """
    search = _Search(oracle, x0, kappa, radius, value, gradient, enough)
    search.run(evaluations, proving=True)
    search.run(evaluations, proving=False)
    return BallSolution(
        x0 + search.point, search.least, x0 + search.anchor, search.bound, search.count
    )


class _State(NamedTuple):
    """What the iteration carries for every pair that is not done yet."""

    pair: Tensor  # (P',) number of the pair
    v: Tensor  # (P', D) the point to evaluate next, from x₀
    points: Tensor  # (P', H, D) the points before, the newest last
    residuals: Tensor  # (P', H, D) T(v) − v at them
    step: Tensor  # (P',) the damping of T, at most 1
    best: Tensor  # (P', D) the best point
    best_residual: Tensor  # (P', D) T(v) − v there
    idle: Tensor  # (P',) evaluations since the last gain


class _Search:
    """The best that was found for each of P pairs; points are relative to x₀."""

    def __init__(
        self,
        oracle: Oracle,
        x0: Tensor,
        kappa: Tensor,
        radius: float,
        value: Tensor,
        gradient: Tensor,
        enough: Tensor | None,
    ) -> None:
        self.oracle, self.x0, self.kappa, self.radius, self.clean = oracle, x0, kappa, radius, value
        self.enough = torch.full_like(value, torch.inf) if enough is None else enough.to(value)
        self.point, self.anchor = torch.zeros_like(x0), torch.zeros_like(x0)
        self.least, self.gradient = value.clone(), gradient.clone()  # at ``point``
        self.bound = self._bound(value, gradient, self.point, kappa)
        self.count = torch.ones(len(x0), dtype=torch.long, device=x0.device)

    def run(self, evaluations: int, *, proving: bool) -> None:
        """Raise the bounds, or lower the values, of the pairs where the two do not meet yet."""
        pair = torch.nonzero(~self._done(torch.arange(len(self.x0), device=self.x0.device)))[:, 0]
        v, gradient = self.point[pair], self.gradient[pair]
        residual = self._residual(gradient, v, pair, proving)
        state = _State(
            pair,
            self._projected(v + residual),
            v[:, None],
            residual[:, None],
            torch.ones_like(v[:, 0]),
            v,
            residual,
            torch.zeros_like(pair),
        )
        compact_every = COMPACT_EVERY if v.is_cuda else 1
        for k in range(evaluations):
            if k % compact_every == 0:
                done = self._done(state.pair) | (state.idle >= PATIENCE)
                done |= self.count[state.pair] >= evaluations
                done |= ~torch.linalg.vector_norm(state.v, dim=1).isfinite()
                keep = torch.nonzero(~done)[:, 0]
                if len(keep) == 0:
                    return
                if len(keep) < len(done):
                    state = _State(*(field.index_select(0, keep) for field in state))
            state = self._advanced(state, proving)

    def _advanced(self, state: _State, proving: bool) -> _State:
        """One evaluation of every pair."""
        pair, v = state.pair, state.v
        value, gradient = self.oracle(self.x0[pair] + v, pair)
        self.count[pair] += 1
        bound = self._bound(value, gradient, v, self.kappa[pair])
        higher, lower = bound > self.bound[pair], value < self.least[pair]
        won = bound - self.bound[pair] if proving else self.least[pair] - value
        gain = higher if proving else lower
        idle = torch.where(won > self._scale(pair), 0, state.idle + 1)
        self.anchor[pair] = torch.where(higher[:, None], v, self.anchor[pair])
        self.bound[pair] = torch.where(higher, bound, self.bound[pair])
        self.point[pair] = torch.where(lower[:, None], v, self.point[pair])
        self.gradient[pair] = torch.where(lower[:, None], gradient, self.gradient[pair])
        self.least[pair] = torch.where(lower, value, self.least[pair])

        residual = self._residual(gradient, v, pair, proving)
        best = torch.where(gain[:, None], v, state.best)
        best_residual = torch.where(gain[:, None], residual, state.best_residual)
        past = differences(v, residual, state.points, state.residuals)
        step = damped_step(state.step, *past)
        step = torch.where(gain, step, 0.5 * step)
        mixed = anderson(v, residual, *past, step)
        size: Tensor = torch.linalg.vector_norm(mixed, dim=1)
        good = (gain & size.isfinite())[:, None]
        back = best + step[:, None] * best_residual
        return _State(
            pair,
            self._projected(torch.where(good, mixed, back)),
            remember(state.points, v),
            remember(state.residuals, residual),
            step,
            best,
            best_residual,
            idle,
        )

    def _done(self, pair: Tensor) -> Tensor:
        met = self.least[pair] - self.bound[pair] <= self._scale(pair)
        return met | (self.bound[pair] >= self.enough[pair])

    def _scale(self, pair: Tensor) -> Tensor:
        return TOLERANCE * (self.clean[pair] - self.least[pair]).abs()

    def _bound(self, value: Tensor, gradient: Tensor, v: Tensor, kappa: Tensor) -> Tensor:
        cut = screening_cut(value, gradient, v, kappa)
        return cut_lower_bound(cut, kappa, torch.full_like(kappa, self.radius))

    def _residual(self, gradient: Tensor, v: Tensor, pair: Tensor, proving: bool) -> Tensor:
        """T(v) − v; zero where the gradient vanishes and nothing else says where to go."""
        eta: Tensor = torch.linalg.vector_norm(gradient, dim=1) / self.radius
        if proving:
            eta = torch.maximum(eta, self.kappa[pair])
        eta = eta[:, None]
        return torch.where(eta > 0.0, -gradient / eta - v, 0.0)

    def _projected(self, v: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(v, dim=1, keepdim=True)
        return v * (self.radius / length.clamp(min=torch.finfo(v.dtype).tiny)).clamp(max=1.0)
