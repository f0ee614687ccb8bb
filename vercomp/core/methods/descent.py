"""Projected gradient descent with momentum, on margins in regions.

The schedule is that of APGD (Croce and Hein, *Reliable evaluation of adversarial robustness with an
ensemble of diverse parameter-free attacks*, 2020): steps begin at twice the radius; at checkpoints,
which come ever sooner, a search that has gained too little goes back to its best point and halves
its step. The directions are those of steepest descent in the norm of the ball.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..regions.moves import Moves
from .pairs import Margins
from .screening import least

_MOMENTUM = 0.75
"""The share of a new step; the rest is of the step before."""

ACROSS, NEAR = 2.0, 0.5
"""First steps, in radii: across the ball, wherever the start; and near the start."""

_SUCCESSES = 0.75
"""A search goes on as it is if more than this share of its steps have gained."""

_SPARSITY = 0.1
"""Of the coordinates, this share moves at first where a norm's own direction moves few; at last,
one does."""


class Descent(NamedTuple):
    """Where the search has been, for N rows.

    Args:
        point: Offsets of the least margin over all K targets that was seen, (N, D).
        least: That margin, as screened, (N,).
        evaluations: Gradient evaluations for each target, (N, K).
    """

    point: Tensor
    least: Tensor
    evaluations: Tensor


def descend(
    margins: Margins,
    moves: Moves,
    label: Tensor,
    targets: Tensor,
    start: Tensor,
    steps: int,
    aim: Tensor | None = None,
    stride: float = ACROSS,
) -> Descent:
    """Search N regions at once for small margins.

    Args:
        margins: The network's margins.
        moves: The regions.
        label: Labels, (N,).
        targets: K targets of each, (N, K).
        start: Offsets to begin at, (N, D); brought into the regions.
        steps: Gradient evaluations.
        aim: The column of the target whose margin is lowered, (N,); None: of the least one, at
            every step.
        stride: The first step, in radii.
    """
    search = _Search(margins, moves, label, targets, aim)
    search.begin(moves.project(start), stride)
    due = checkpoints(steps)
    last = 0
    for step in range(1, steps):
        search.advance(_SPARSITY * (1.0 - step / steps), first=step == 1)
        if step in due:
            search.check(step - last)
            last = step
    return Descent(search.point, search.least, search.count)


def checkpoints(steps: int) -> set[int]:
    """⌈p_j steps⌉ with p₀ = 0, p₁ = 0.22, p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06)."""
    before, at, found = 0.0, 0.22, set()
    while at <= 1.0:
        found.add(math.ceil(at * steps - 1e-9))
        before, at = at, at + max(at - before - 0.03, 0.06)
    return found


class _Search:
    """The state of N rows: offsets v, and what was best."""

    def __init__(
        self, margins: Margins, moves: Moves, label: Tensor, targets: Tensor, aim: Tensor | None
    ) -> None:
        self.margins, self.moves, self.aim = margins, moves, aim
        self.label, self.targets = label, targets
        self.count = torch.zeros_like(targets)

    def begin(self, v: Tensor, stride: float) -> None:
        """Evaluate the start."""
        self.v = self.before = self.point = self.best = v
        self.least = torch.full_like(v[:, 0], torch.inf)
        self.lowest = self.least
        self.best_gradient = torch.zeros_like(v)
        self.value, self.gradient = self._seen(v)
        self.step = torch.full_like(self.value, stride)
        self.gains = torch.zeros_like(self.label)
        self.halved = torch.zeros_like(self.label, dtype=torch.bool)
        self.checked = self.lowest

    def advance(self, share: float, *, first: bool) -> None:
        """One step of every row."""
        v = self.v
        way = self.moves.steepest(self.gradient, v, share)
        moved = self.moves.project(v + self.step[:, None] * way)
        if not first:
            moved = v + _MOMENTUM * (moved - v) + (1.0 - _MOMENTUM) * (v - self.before)
            moved = self.moves.project(moved)
        self.before, self.v = v, moved
        value, self.gradient = self._seen(moved)
        self.gains = self.gains + (value < self.value)
        self.value = value

    def check(self, steps: int) -> None:
        """Halve the steps of rows that gained too little in the last ones, from their best."""
        idle = ~self.halved & (self.lowest >= self.checked)
        self.halved = (self.gains < _SUCCESSES * steps) | idle
        back = self.halved[:, None]
        self.step = torch.where(self.halved, 0.5 * self.step, self.step)
        self.v = torch.where(back, self.best, self.v)
        self.before = torch.where(back, self.best, self.before)
        self.gradient = torch.where(back, self.best_gradient, self.gradient)
        self.value = torch.where(self.halved, self.lowest, self.value)
        self.gains = torch.zeros_like(self.gains)
        self.checked = self.lowest

    def _seen(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The margin aimed at and its gradient at v; what is best is remembered."""
        found, column, gradient = least(
            self.margins, self.moves.center + v, self.label, self.targets, self.aim
        )
        self.count.scatter_add_(1, column[:, None], torch.ones_like(column)[:, None])
        value, smallest = found.gather(1, column[:, None])[:, 0], found.amin(1)
        lower, better = value < self.lowest, smallest < self.least
        self.best = torch.where(lower[:, None], v, self.best)
        self.best_gradient = torch.where(lower[:, None], gradient, self.best_gradient)
        self.lowest = torch.where(lower, value, self.lowest)
        self.point = torch.where(better[:, None], v, self.point)
        self.least = torch.where(better, smallest, self.least)
        return value, gradient
