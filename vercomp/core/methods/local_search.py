"""The search for radii of one input by curvature bounds of balls around it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..domains.intervals import RowNorms
from ..graph import Graph
from ..local.nested import NestedBalls
from ..local.shells import Shells, ray_radius, tangent_radius
from .tasks import Task

_BOUNDARY_STEPS = 10
"""Gradients of the search for the boundary."""

_PROBES = (1e-3, 0.6)
"""Balls that the model of κ is made from, as shares of the distance of the boundary."""

_FRACTIONS = (0.4, 0.65, 0.85, 1.0)
"""Radii of the nested balls, as shares of the largest one."""

_BEYOND = 1.2
"""The largest ball, as a share of the radius that the model promises along rays, if not more."""

_ON_THE_WAY = (0.5, 0.7, 0.85, 0.95)
"""Points on the way to the boundary at which cuts are tried, as shares of the way."""

_REFINEMENTS = 8
"""Gradient steps to better points."""

_FARTHEST = 1e6
"""Nothing is tried beyond so many sizes of the input."""


class _Pair(NamedTuple):
    """One pair of an input.

    Args:
        column: Its number.
        row: c, (C,).
        value: A lower bound of f(x₀).
        slope: An upper bound of ‖∇f(x₀)‖.
        boundary: A point near the boundary, (D,).
        distance: Its distance; nothing that is proved rests on it.
        steepness: About ‖∇f‖ there.
    """

    column: int
    row: Tensor
    value: float
    slope: float
    boundary: Tensor
    distance: float
    steepness: float


class InputSearch:
    """Radii of all pairs of one input.

    Args:
        graph: The graph, over float64 operators.
        rows: Dual norms of rows of the maps that read the input.
        task: The chunk that the input is in.
        b: Its number there.
    """

    def __init__(self, graph: Graph, rows: RowNorms, task: Task, b: int) -> None:
        self.task, self.b = task, b
        self.x0 = task.x0[b]
        shape = tuple(graph.nodes[0].shape)
        self.balls = NestedBalls(graph, self.x0[None], shape, rows)
        self.label, self.targets = task.label[b : b + 1], task.targets[b]

    def radii(self, known: Tensor, enough: float | None = None) -> Tensor:
        """Proved radii (K,) of all pairs: the smallest in full, others as far as they matter.

        Args:
            known: Radii that are proved already, (K,).
            enough: A radius beyond which nothing is asked.
        """
        radius = known.clone()
        pairs = sorted(self._pairs(), key=lambda pair: pair.distance)
        first, others = pairs[0], pairs[1:]
        limit = first.distance if enough is None else enough * (1.0 + 1e-9)
        if first.value > 0.0 and float(known[first.column]) < limit:
            top = self._top(first, limit)
            self.balls.add([share * top for share in _FRACTIONS])
            radii = [radius for radius in self.balls.radii if radius <= top]
            found = self._best(self.balls.shells(radii, first.row), first, refine=True)
            radius[first.column] = max(found, float(known[first.column]))
        least = float(radius[first.column])
        others = [pair for pair in others if float(radius[pair.column]) < least]
        if others and (enough is None or least > enough):
            for pair, found in zip(others, self._compared(others, least), strict=True):
                radius[pair.column] = max(found, float(radius[pair.column]))
        return radius

    def _compared(self, pairs: list[_Pair], least: float) -> list[float]:
        """Radii of pairs whose boundaries are farther away: what matters is which are smaller.

        One κ for all of them decides most, their own κ in one ball or in all balls the others.
        """
        outer = [r for r in self.balls.radii if r >= least][:1]
        if not outer:
            outer = [least]
            self.balls.add(outer)
        inner = [r for r in self.balls.radii if r < least]
        together = self.balls.shells(outer, *(pair.row for pair in pairs))
        radii = []
        for pair in pairs:
            best = self._best(together, pair, refine=False)
            for some in (outer, [*inner, *outer]):
                if best < least:
                    shells = self.balls.shells(some, pair.row)
                    best = max(best, self._best(shells, pair, refine=some != outer))
                    least = min(least, best) if some != outer else least
            radii.append(best)
        return radii

    def _top(self, pair: _Pair, limit: float) -> float:
        """The largest ball: a little beyond what a model of κ promises along rays.

        A cut at the boundary point itself loses nothing where κ R ≤ ‖∇f‖ there: up to such an R
        the ball may be larger.
        """
        low, high = (share * limit for share in _PROBES)
        self.balls.add([low, high])
        start, end = (self.balls.curvature(r, pair.row).bound for r in (low, high))
        start = max(start, 0.0)
        growth = max(end - start, 0.0) / high
        if not math.isfinite(growth):
            return high

        def left(s: float) -> float:
            return pair.value - pair.slope * s - s * s * (0.5 * start + growth * s / 6.0)

        inner, outer = 0.0, limit
        for _ in range(40):
            middle = 0.5 * (inner + outer)
            inner, outer = (middle, outer) if left(middle) > 0.0 else (inner, middle)
        level = 2.0 * pair.steepness
        touched = level / (start + math.sqrt(start * start + 2.0 * growth * level) + 1e-300)
        return min(limit, max(_BEYOND * outer, touched))

    def _best(self, shells: Shells, pair: _Pair, *, refine: bool) -> float:
        """The best radius along rays, and from cuts at a few points."""
        best = ray_radius(shells, pair.value, pair.slope)
        top = shells.largest
        if best >= top:
            return best
        way = pair.boundary - self.x0
        length = float(way.norm())
        if not 0.0 < length < math.inf:
            return best
        reach = min(length, top * (1.0 - 1e-6))
        start, step = self.x0, 0.0
        for share in _ON_THE_WAY:
            point = self.x0 + way * (share * reach / length)
            found, _ = self._cut(shells, pair, point)
            if found >= best:
                best, start = found, point
                step = 1.0 / max(1e-300, 2.0 * shells.curvatures[-1])
        if refine and step > 0.0 and best < top:
            best = max(best, self._refined(shells, pair, start, step, top))
        return best

    def _refined(
        self, shells: Shells, pair: _Pair, point: Tensor, step: float, top: float
    ) -> float:
        """The best radius from points towards the minimum of q (Barzilai and Borwein's steps)."""
        best, last = 0.0, None
        for _ in range(_REFINEMENTS):
            found, gradient = self._cut(shells, pair, point)
            best = max(best, found)
            if last is not None:
                moved, turned = point - last[0], gradient - last[1]
                bend = float(moved @ turned)
                if bend > 0.0:
                    step = float(moved @ moved) / bend
            last = (point, gradient)
            away = point - step * gradient - self.x0
            size = float(away.norm())
            if not math.isfinite(size):
                break
            point = self.x0 + away * min(1.0, 0.999 * top / max(size, 1e-300))
        return best

    def _cut(self, shells: Shells, pair: _Pair, point: Tensor) -> tuple[float, Tensor]:
        """The radius that a cut at a point of the largest ball proves, and ∇q there."""
        away = point - self.x0
        distance = float(away.norm())
        kappa = shells.at(distance)
        found = self.task.margins.linearize(
            point[None], self.label, self.targets[pair.column : pair.column + 1]
        )
        gradient = found.gradient[0]
        if kappa is None:
            return 0.0, gradient
        total = gradient + kappa * away
        size = float(total.norm()) * (1.0 + 1e-12)
        # The gradient is off by so much, and κ(x̂ − x₀) by a few roundings.
        error = float(found.gradient_error[0]) + 1e-14 * (kappa * distance + size)
        inner = float(total @ away)
        terms = 4e-16 * (len(away) + 8)
        constant = float(found.value[0]) + shells.moment(distance * (1.0 - 1e-12)) - inner
        lost = float(found.value_error[0]) + error * distance * 2.0
        lost += terms * size * distance + 1e-11 * shells.moment(distance)
        lost += 1e-15 * (abs(float(found.value[0])) + abs(inner))
        return tangent_radius(shells, constant - lost, size + error), total

    def _pairs(self) -> list[_Pair]:
        """All pairs of the input with points near their boundaries."""
        margins, targets = self.task.margins, self.targets
        found = margins.linearize_all(self.x0[None], self.label, targets[None])
        value = (found.value - found.value_error)[0]
        slope = torch.linalg.vector_norm(found.gradient[0], dim=-1) * (1.0 + 1e-12)
        slope = slope + found.gradient_error[0]
        points, steepness = self._boundaries(value, found.gradient[0])
        distance = torch.linalg.vector_norm(points - self.x0, dim=-1)
        cap = _FARTHEST * (1.0 + float(self.x0.norm()))
        distance = torch.where(distance > 0.0, distance, value / slope)
        distance = torch.nan_to_num(distance, nan=cap, posinf=cap).clamp(max=cap)
        label = self.label.expand(len(targets))
        rows = margins.coefficients(label, targets)
        measured = (value.tolist(), slope.tolist(), distance.tolist(), steepness.tolist())
        return [
            _Pair(k, rows[k], *numbers[:2], points[k], *numbers[2:])
            for k, numbers in enumerate(zip(*measured, strict=True))
        ]

    def _boundaries(self, value: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Points (K, D) at which the pairs' functions about vanish, and their slopes there.

        They are found by steps to the zero of the linearised function (the HLRF iteration).
        """
        margins, targets = self.task.margins, self.targets
        label = self.label.expand(len(targets))
        points = self.x0.expand(len(targets), -1)
        best, nearest = points, torch.full_like(value, math.inf)
        steepness = torch.linalg.vector_norm(gradient, dim=-1)
        for _ in range(_BOUNDARY_STEPS):
            away = points - self.x0
            squared = gradient.square().sum(-1).clamp_min(1e-300)
            factor = ((gradient * away).sum(-1) - value) / squared
            points = self.x0 + (factor[:, None] * gradient).nan_to_num(0.0, 0.0, 0.0)
            found = margins.linearize(points, label, targets)
            value, gradient = found.value, found.gradient
            distance = torch.linalg.vector_norm(points - self.x0, dim=-1)
            # A point counts where one step more would hardly move it.
            slope = torch.linalg.vector_norm(gradient, dim=-1)
            left = value.abs() / slope.clamp_min(1e-300)
            better = (left < 0.05 * distance) & (distance + left < nearest)
            nearest = torch.where(better, distance + left, nearest)
            best = torch.where(better[:, None], points, best)
            steepness = torch.where(better, slope, steepness)
        return best, steepness
