"""The search for witnesses: points near x₀ at which a margin f has fallen to zero or below.

Most of the search goes through the model; a point that it finds counts once float64 proves that f
is not positive there, for which no gradient is needed. Every step goes to the nearest zero of the
linearisation at the last point x₀ + v,

    v ← −η ∇f,    η = (1 ± δ) (f − ∇f·v) / ‖∇f‖²,

taken beyond it by a small fraction δ, so that the values on the way end below zero and not above.
No step is longer than the distance of the nearest witness so far, or than a few times the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .certificates import EXACT_GAP
from .cuts import upper_norm
from .dual import Oracle

AtPoints = Callable[[Tensor, Tensor], Tensor]
"""(points (P', D), pair numbers (P',)) ↦ one number for each, (P',)."""

BEYOND = 0.1 * EXACT_GAP
"""δ: a witness so much farther than the certificate still shows that it is exact."""

GROWTH = 4.0
"""No step is longer than so many times the last one while there is no witness."""

_ATTEMPTS = 8
_WORTHWHILE = 0.9
"""A pair with a witness goes on while steps bring it nearer by a tenth."""


class Approach(NamedTuple):
    """What the search found for each of P pairs.

    Args:
        step: The nearest visited point with f ≤ 0, from x₀, shape (P, D).
        distance: Its distance, inf where there is none, shape (P,).
    """

    step: Tensor
    distance: Tensor


def step_to_zero(value: Tensor, gradient: Tensor, v: Tensor, longest: Tensor) -> Tensor:
    """The step from x₀ to slightly beyond the nearest zero of the linearisation at x₀ + v.

    Args:
        value: f there, shape (P,).
        gradient: ∇f there, shape (P, D).
        v: Shape (P, D).
        longest: What the step is shortened to, shape (P,).

    Returns:
        Shape (P, D); not finite where the gradient vanishes.
    """
    square = (gradient * gradient).sum(1)
    # At x₀ the linearisation may be below zero already, and the zero lies uphill: not so far then.
    at_x0 = value - (gradient * v).sum(1)
    eta = (at_x0 + BEYOND * at_x0.abs()) / square
    shorter = (longest / (eta.abs() * square.sqrt())).clamp(max=1.0)
    return (-eta * shorter)[:, None] * gradient


def approach_zero(
    oracle: Oracle, x0: Tensor, start: Tensor, known: Approach, enough: Tensor
) -> Approach:
    """Search the nearest point with f ≤ 0, as the oracle sees it, for P pairs at once.

    Args:
        oracle: f and ∇f at a batch of points.
        x0: x₀, shape (P, D).
        start: The first point to visit, from x₀, shape (P, D).
        known: The nearest witness so far.
        enough: A pair stops once a witness is no farther than this, shape (P,).
    """
    step, distance = known.step.clone(), known.distance.clone()
    pair, v = torch.arange(len(x0), device=x0.device), start
    for _ in range(_ATTEMPTS):
        if len(pair) == 0:
            break
        value, gradient = oracle(x0[pair] + v, pair)
        length: Tensor = torch.linalg.vector_norm(v, dim=1)
        before = distance[pair]
        hit = (value <= 0.0) & (length < before)
        nearest = torch.where(hit, length, before)
        distance[pair] = nearest
        step[pair] = torch.where(hit[:, None], v, step[pair])
        cap = torch.where(nearest.isfinite(), nearest, GROWTH * length)
        v = step_to_zero(value, gradient, v, torch.where(cap > 0.0, cap, torch.inf))
        left = (nearest > enough[pair]) & (before.isinf() | (nearest < _WORTHWHILE * before))
        left &= torch.linalg.vector_norm(v, dim=1).isfinite()
        keep = torch.nonzero(left)[:, 0]
        if len(keep) < len(pair):
            pair, v = pair[keep], v[keep]
    return Approach(step, distance)


class Witnesses:
    """Proved witnesses of P pairs, the nearest that are found.

    Args:
        x0: x₀ in float64, shape (P, D).
        enough: A pair needs no witness nearer than this, shape (P,).
        upper: Proved upper bounds of f at points in float64, (P',).
        looks_broken: Whether the model sees f ≤ 0 at such points, (P',).
    """

    def __init__(self, x0: Tensor, enough: Tensor, upper: AtPoints, looks_broken: AtPoints) -> None:
        self.x0, self.enough, self.upper, self.looks_broken = x0, enough, upper, looks_broken
        self.point = torch.full_like(x0, torch.nan)
        self.distance = torch.full_like(enough, torch.inf)  # rounded up

    def prove(self, pair: Tensor, x: Tensor, some: Tensor) -> None:
        """Keep those of some points x, (P', D), of pairs that are proved to be nearer witnesses."""
        pair, x = pair[some], x[some]
        if len(pair) > 0:
            self._keep(pair, x, self.upper(x, pair) <= 0.0)

    def search(self, screen: Oracle, seen: Approach, aim: Tensor, ahead: Tensor) -> None:
        """Look for witnesses of the pairs that need them, through the model.

        Args:
            screen: f and ∇f as the model sees them.
            seen: The nearest witness that the model saw already, in its dtype.
            aim: Where a witness within ``enough`` is if there is one, from x₀, shape (P, D).
            ahead: Where to start elsewhere, from x₀, shape (P, D).
        """
        near = seen.distance <= self.enough
        first = torch.where(near[:, None], seen.step, aim)
        usable = torch.linalg.vector_norm(first, dim=1).isfinite()
        (pair,) = torch.nonzero(self.left & usable, as_tuple=True)
        x = self.x0[pair] + first[pair].double()
        self.prove(pair, x, self.looks_broken(x, pair) | near[pair])

        (pair,) = torch.nonzero(self.left, as_tuple=True)
        if len(pair) == 0:
            return
        known = Approach(seen.step[pair], torch.where(near, torch.inf, seen.distance)[pair])
        x0 = self.x0[pair].to(ahead)
        enough = self.enough[pair].to(ahead)
        found = approach_zero(lambda x, i: screen(x, pair[i]), x0, ahead[pair], known, enough)
        self.prove(pair, self.x0[pair] + found.step.double(), found.distance.isfinite())

    def search_anew(self, rigorous: Oracle) -> None:
        """Look for witnesses of pairs without any in float64, from the input.

        Args:
            rigorous: A proved upper bound of f, and ∇f.
        """
        (pair,) = torch.nonzero(self.left & self.distance.isinf(), as_tuple=True)
        if len(pair) == 0:
            return
        start, distance = torch.zeros_like(self.x0[pair]), self.distance[pair]
        found = approach_zero(
            lambda x, i: rigorous(x, pair[i]),
            self.x0[pair],
            start,
            Approach(start, distance),
            self.enough[pair],
        )
        self._keep(pair, self.x0[pair] + found.step, found.distance.isfinite())

    @property
    def left(self) -> Tensor:
        """Which pairs need a nearer witness, (P,)."""
        return self.distance > self.enough

    def _keep(self, pair: Tensor, x: Tensor, proved: Tensor) -> None:
        length = upper_norm(x - self.x0[pair])
        proved = proved & (length < self.distance[pair])
        self.distance[pair] = torch.where(proved, length, self.distance[pair])
        self.point[pair] = torch.where(proved[:, None], x, self.point[pair])
