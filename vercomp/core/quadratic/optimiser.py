"""The ascent of estimated bounds: many problems at once, each until it is decided."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .parameters import ByNode, Parameters
from .search import Search

_RATE = 0.1
"""The rate at first, in the scale of each parameter."""

_SLOW = 0.05
"""Slopes move by this share of it."""

_MOMENTS = (0.9, 0.999)
_PATIENCE = 3
"""After one in so many of the steps, problems that are far from it are given up."""


def optimise(
    search: Search,
    first: Parameters,
    scales: ByNode,
    steps: int,
    until: Tensor | None = None,
    unless: Tensor | None = None,
) -> tuple[Parameters, Tensor]:
    """Adam on every parameter with a rate that falls along a cosine; the best that was seen.

    Args:
        search: The problems.
        first: Where the search starts.
        scales: The order of magnitude of changes of curvatures.
        steps: How many steps it takes, at most.
        until: A problem is left alone when its estimate is above this, (P,).
        unless: All end, after a third of the steps, if one estimate is below this, (P,).
    """
    whole = search
    value = torch.full_like(search.start, -torch.inf)
    best = first.mapped(torch.Tensor.clone)
    rows = torch.arange(len(value))
    moves, ascent = Moves.of(first), Ascent()
    for step in range(steps):
        with torch.enable_grad():
            current = moves.applied(first, scales)
            bound = search.bound(current)
            loss = -bound.nan_to_num(neginf=0.0).sum()
            slopes = torch.autograd.grad(loss, moves.tensors(), materialize_grads=True)
        better = torch.nonzero(bound.detach() > value[rows])[:, 0]
        value[rows[better]] = bound.detach()[better]
        best.put(rows[better], current.mapped(lambda each, at=better: each.detach()[at]))  # type: ignore[misc]
        if unless is not None and step * _PATIENCE >= steps and bool((value <= unless).any()):
            break
        ascent.step(moves, slopes, 0.5 * (1.0 + math.cos(math.pi * step / steps)))
        left = torch.arange(len(rows))
        if until is not None:
            left = torch.nonzero(~(value[rows] > until[rows]))[:, 0]
        if len(left) == 0:
            break
        if 4 * len(left) <= 3 * len(rows):  # fewer problems cost less time
            rows, search = rows[left], search.part(left)
            first = first.mapped(lambda each, at=left: each[at])  # type: ignore[misc]
            scales = {name: scale[left] for name, scale in scales.items()}
            moves = moves.part(left)
            ascent.keep(left)
    return best, whole.checked(best)


@dataclass
class Moves:
    """What the optimiser changes: differences from the first parameters, of order 1."""

    slopes: ByNode
    curvatures: ByNode
    weights: ByNode
    shares: ByNode

    @staticmethod
    def of(first: Parameters) -> Moves:
        """Zeros."""
        moving = (first.slopes, first.curvatures, first.weights, first.shares)
        return Moves(
            *(
                {name: torch.zeros_like(value, requires_grad=True) for name, value in each.items()}
                for each in moving
            )
        )

    def tensors(self) -> list[Tensor]:
        """All of them, the slopes first."""
        return [value for each in vars(self).values() for value in each.values()]

    def part(self, problems: Tensor) -> Moves:
        """Those of some problems."""
        return Moves(
            *(
                {name: v.detach()[problems].requires_grad_() for name, v in each.items()}
                for each in vars(self).values()
            )
        )

    def applied(self, first: Parameters, scales: ByNode) -> Parameters:
        """The parameters after these moves."""
        return Parameters(
            {name: s + self.slopes[name] for name, s in first.slopes.items()},
            {
                name: c + scales[name] * self.curvatures[name]
                for name, c in first.curvatures.items()
            },
            first.chords,
            {name: w * self.weights[name].exp() for name, w in first.weights.items()},
            {
                name: torch.sigmoid(torch.logit(s) + self.shares[name])
                for name, s in first.shares.items()
            },
        )


class Ascent:
    """Adam (Kingma and Ba, 2015), whose state can be cut down to some of the problems."""

    def __init__(self) -> None:
        self.moments: list[tuple[Tensor, Tensor]] = []
        self.count = 0

    def step(self, moves: Moves, gradients: tuple[Tensor, ...], share: float) -> None:
        """One step, with a share of the rate."""
        if not self.moments:
            self.moments = [(torch.zeros_like(g), torch.zeros_like(g)) for g in gradients]
        self.count += 1
        one, two = _MOMENTS
        slow = len(moves.slopes)
        for k, (move, gradient, (mean, square)) in enumerate(
            zip(moves.tensors(), gradients, self.moments, strict=True)
        ):
            gradient = gradient.nan_to_num(posinf=0.0, neginf=0.0)
            mean.lerp_(gradient, 1.0 - one)
            square.mul_(two).addcmul_(gradient, gradient, value=1.0 - two)
            size = (square / (1.0 - two**self.count)).sqrt_().add_(1e-8)
            rate = share * _RATE * (_SLOW if k < slow else 1.0) / (1.0 - one**self.count)
            with torch.no_grad():
                move.addcdiv_(mean, size, value=-rate)

    def keep(self, problems: Tensor) -> None:
        """Leave out the other problems."""
        self.moments = [(mean[problems], square[problems]) for mean, square in self.moments]
