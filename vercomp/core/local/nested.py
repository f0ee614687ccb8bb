"""Balls of several radii around one input, with κ of several rows in each, computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..domains.intervals import RowNorms
from ..graph import Graph
from ..regions.constructors import Ball
from .curvature import BallCurvature, LocalCurvature
from .gradients import Coefficient, coefficients
from .neighbourhood import Neighbourhood
from .products import Expansion
from .shells import Shells


class NestedBalls:
    """Balls of the 2-norm around one point.

    Args:
        graph: The graph, over float64 operators.
        x: The point, (1, D) in float64.
        shape: The shape of an input.
        rows: Dual norms of rows of the maps that read the input, kept between calls.
    """

    def __init__(
        self, graph: Graph, x: Tensor, shape: tuple[int, ...], rows: RowNorms | None = None
    ) -> None:
        self.expansion = Expansion(graph, x)
        self._shape, self._rows = shape, rows
        self._balls: dict[float, tuple[Neighbourhood, BallCurvature]] = {}
        self._coefficients: dict[tuple[int, tuple[float, ...]], dict[str, Coefficient]] = {}
        self._bounds: dict[tuple[object, ...], LocalCurvature] = {}

    @property
    def radii(self) -> list[float]:
        """The radii of all balls, in order."""
        return sorted(self._balls)

    def add(self, radii: Sequence[float]) -> None:
        """Balls of these radii too; what does not depend on rows is computed for all at once."""
        missing = [radius for radius in dict.fromkeys(radii) if radius not in self._balls]
        if not missing:
            return
        center = self.expansion.x.expand(len(missing), -1).reshape(-1, *self._shape)
        region = Ball(center, torch.tensor(missing, dtype=torch.float64).to(center.device), "l2")
        nearby = Neighbourhood(self.expansion, region, self._rows)
        for j, radius in enumerate(missing):
            self._balls[radius] = (nearby, BallCurvature(nearby, 0, j))

    def curvature(self, radius: float, *rows: Tensor) -> LocalCurvature:
        """κ of c·z in the ball of this radius for a row c (C,), or one κ for several rows."""
        key = (radius, *(tuple(row.tolist()) for row in rows))
        if key not in self._bounds:
            nearby, ball = self._balls[radius]
            self._bounds[key] = ball.bound(*(self._found(nearby, row) for row in rows))
        return self._bounds[key]

    def shells(self, radii: Sequence[float], *rows: Tensor) -> Shells:
        """The curvature bounds of a row, or of several rows together, on some of the balls."""
        return Shells.of(radii, [self.curvature(radius, *rows).bound for radius in radii])

    def shares(self, radius: float, row: Tensor) -> dict[str, tuple[float, float]]:
        """What each activation has of κ: at the point itself, and what is added in the ball."""
        nearby, ball = self._balls[radius]
        return ball.shares(self.curvature(radius, row), self._found(nearby, row))

    def _found(self, nearby: Neighbourhood, row: Tensor) -> dict[str, Coefficient]:
        key = (id(nearby), tuple(row.tolist()))
        if key not in self._coefficients:
            self._coefficients[key] = coefficients(nearby, row[None])
        return self._coefficients[key]
