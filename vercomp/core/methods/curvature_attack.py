"""The attack of global curvature bounds: the worst point of an l2 ball, often provably so.

Theorem 2's search (:mod:`.ball`) for the pair that may fall lowest, then for those that could fall
below what it reached; the bounds of the cuts (:mod:`.cuts`) are evaluated in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .ball import solve_ball
from .cuts import cut_lower_bound, rigorous_cut
from .tasks import Part, ScreenedTask


class Worst(NamedTuple):
    """What was found for B inputs.

    Args:
        point: The point of the ball with the least margin visited, as screened, (B, D).
        bound: Proved: no margin in the ball is smaller, (B,).
        evaluations: Gradient evaluations for each target, (B, K).
    """

    point: Tensor
    bound: Tensor
    evaluations: Tensor


class CurvatureAttack(ScreenedTask):
    """One chunk: B inputs with K targets each, on the network's device, inputs in float64."""

    def __init__(self, part: Part, radius: float) -> None:
        super().__init__(part)
        self.radius = radius
        self.bound = torch.full_like(self.kappa, -torch.inf)  # proved
        self.least = self.value.clone()  # screened

    def solve(self) -> Worst:
        """The pair that may fall lowest first, then those that could fall below what it reached."""
        rows = torch.arange(len(self.x0), device=self.x0.device)
        closed = self._closed_form()
        first = closed.argmin(1)
        self._search(rows, first, torch.full_like(self.least[:, 0], torch.inf))
        reached = self.least[rows, first]
        left = closed < reached[:, None]
        left[rows, first] = False
        row, k = left.nonzero(as_tuple=True)
        self._search(row, k, reached[row])
        left[rows, first] = True
        # What was not searched, and where the search, which knows nothing of L, proved less.
        row, k = (~left | (self.bound < closed)).nonzero(as_tuple=True)
        if len(row) > 0:
            self._prove(row, k, self.x0[row])

        point = self.point[rows, self.least.argmin(1)].double()
        return Worst(point, self.bound.amin(1), self.count)

    def _closed_form(self) -> Tensor:
        """The bound from one gradient at x₀ for all pairs, screened, shape (B, K)."""
        cut, kappa, lipschitz = self.screened_cuts()
        bound = cut_lower_bound(cut, kappa, torch.full_like(kappa, self.radius), lipschitz)
        return bound.reshape(self.value.shape)

    def _search(self, row: Tensor, k: Tensor, enough: Tensor) -> None:
        """Search pairs (row, k) and prove the bounds that were found."""
        if len(row) == 0:
            return
        label, target = self.label[row], self.targets[row, k]
        solution = solve_ball(
            lambda x, pair: self.margins.screen(x, label[pair], target[pair]),
            self.x0[row].to(self.gradient),
            self.kappa[row, k].to(self.gradient),
            self.radius,
            self.value[row, k],
            self.gradient[row, k],
            evaluations=self.evaluations,
            enough=enough,
        )
        self.count[row, k] = solution.evaluations
        self.least[row, k] = solution.value
        self.point[row, k] = solution.point
        self._prove(row, k, solution.anchor.double())

    def _prove(self, row: Tensor, k: Tensor, x: Tensor) -> None:
        """The float64 bounds of pairs (row, k) from the cuts at x."""
        found = self.margins.linearize(x, self.label[row], self.targets[row, k])
        kappa = self.kappa[row, k]
        cut = rigorous_cut(found, x, self.x0[row], kappa)
        ball = torch.full_like(kappa, self.radius)
        proved = cut_lower_bound(cut, kappa, ball, self.lipschitz[row, k])
        self.bound[row, k] = torch.maximum(self.bound[row, k], proved)
