"""The search for the worst points of regions by gradients alone, from several starts.

A run is one descent (:mod:`.descent`). The first goes through smaller balls, each from the worst
point of the one before, so that a larger ball starts where a smaller one ended. The second begins
at the best of what the tangents at the input and, where those are flat, its negative curvature
propose; then come runs at single targets, without which the nearest one would hide the others; all
others begin at random points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..regions.moves import Moves
from ..regions.region import Region
from .descent import ACROSS, NEAR, descend
from .pairs import Margins
from .screening import values
from .starts import best_of, escapes, random_starts, tangents

_TARGETED = 3
"""Runs that aim at one target each."""

_SMALLER = (0.25, 0.5)
"""Radii of the smaller balls of the first run, in those of the region."""

_SHARE = 5
"""One step in so many is spent in each of them."""


class WorstPoints:
    """The least margins found in N regions.

    Args:
        margins: The network's margins.
        region: The regions.
        label: Labels, (N,).
        targets: K targets of each, (N, K).
        start: Points of the regions to begin with, (N, D), or None.

    Attributes:
        point: The worst points found, as offsets from the centers, (N, D).
        least: Their margins, as screened, (N,).
        evaluations: Gradient evaluations for each target, (N, K).
    """

    def __init__(
        self,
        margins: Margins,
        region: Region,
        label: Tensor,
        targets: Tensor,
        start: Tensor | None = None,
    ) -> None:
        self.margins, self.label, self.targets = margins, label, targets
        self.moves = Moves(region, margins.where.search_dtype)
        self.point = self.moves.project(torch.zeros_like(self.moves.center))
        self.least = self._least(self.point)
        self.tangents = tangents(margins, self.moves, label, targets)
        column = self.tangents.column
        self.evaluations = torch.zeros_like(targets).scatter(1, column, 1)
        proposed = [*self.tangents.point.unbind(1), *self._escapes().unbind(1)]
        if start is not None:
            proposed.append(self.moves.project((start - region.center).to(self.point)))
        self.proposed = torch.stack(proposed, 1)
        self.first = best_of(margins, self.moves, label, targets, self.proposed)
        everywhere = torch.arange(len(label), device=label.device)
        self._keep(everywhere, self.first, self._least(self.first))

    def search(self, steps: int, runs: int) -> None:
        """All runs; where a margin is not positive, the first two are enough.

        Args:
            steps: Gradient evaluations a run.
            runs: How many there are.
        """
        rows = torch.arange(len(self.label), device=self.label.device)
        for run in range(runs):
            if run > 1:
                rows = rows[self.least[rows] > 0.0]
            if len(rows) == 0:
                return
            moves = self.moves if len(rows) == len(self.label) else self.moves.rows(rows)
            self._run(run, rows, moves, steps)

    def _run(self, run: int, rows: Tensor, moves: Moves, steps: int) -> None:
        """One run of some rows."""
        if run == 0:
            self._through_smaller_balls(rows, moves, steps)
            return
        label, targets = self.label[rows], self.targets[rows]
        aimed = min(_TARGETED, self.tangents.column.shape[1]) if targets.shape[1] > 1 else 0
        aim, stride = None, ACROSS
        if run == 1:
            start = self.first[rows]
        elif run - 2 < aimed:
            start = self.tangents.point[rows, run - 2]
            aim = self.tangents.column[rows, run - 2]
        else:
            start = best_of(self.margins, moves, label, targets, random_starts(moves, run))
            stride = NEAR if run % 2 else ACROSS  # the first step may forget where it began
        self._descend(rows, moves, start, steps, aim, stride)

    def _through_smaller_balls(self, rows: Tensor, moves: Moves, steps: int) -> None:
        """Descents in growing balls, the last in the region itself."""
        few = max(steps // _SHARE, 1)
        shares = _SMALLER if steps > len(_SMALLER) * few else ()
        inside = [inner for inner in map(moves.smaller, shares) if inner is not moves]
        balls = [*inside, moves]
        label, targets = self.label[rows], self.targets[rows]
        ways = torch.stack([balls[0].project(way) for way in self.proposed[rows].unbind(1)], 1)
        away = best_of(self.margins, balls[0], label, targets, ways)
        point = torch.where(self.tangents.flat[rows][:, None], away, torch.zeros_like(away))
        for inner in inside:
            point = self._descend(rows, inner, point, few)
        self._descend(rows, moves, point, steps - few * len(inside))

    def _descend(
        self,
        rows: Tensor,
        moves: Moves,
        start: Tensor,
        steps: int,
        aim: Tensor | None = None,
        stride: float = ACROSS,
    ) -> Tensor:
        """One descent; what was found is remembered, and returned."""
        label, targets = self.label[rows], self.targets[rows]
        found = descend(self.margins, moves, label, targets, start, steps, aim, stride)
        self._keep(rows, found.point, found.least)
        self.evaluations[rows] += found.evaluations
        return found.point

    def _escapes(self) -> Tensor:
        """Points along the least curvature where tangents are flat, (N, 2, D); elsewhere theirs."""
        points = self.tangents.point[:, :1].repeat(1, 2, 1)
        flat = torch.nonzero(self.tangents.flat)[:, 0]
        if len(flat):
            label, column = self.label[flat], self.tangents.column[flat, :1]
            target = self.targets[flat].gather(1, column)[:, 0]
            points[flat] = escapes(self.margins, self.moves.rows(flat), label, target)
        return points

    def _keep(self, rows: Tensor, point: Tensor, least: Tensor) -> None:
        better = least < self.least[rows]
        self.point[rows] = torch.where(better[:, None], point, self.point[rows])
        self.least[rows] = torch.where(better, least, self.least[rows])

    def _least(self, v: Tensor) -> Tensor:
        return values(self.margins, self.moves.center + v, self.label, self.targets).amin(1)
