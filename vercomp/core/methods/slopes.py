"""The search for slopes: every row of a specification has its own line at every activation.

A line below σ with slope s has the intercept t(s) = min over [l, u] of σ(z) − s z, and the bound of a
row is a function of the slopes alone. Where the minimum is taken, at z*, the derivative of t is −z*
(the envelope theorem), so that a gradient costs one walk, as in Xu et al., *Fast and Complete:
Enabling Complete Verification with Rapid and Massively Parallel Incomplete Verifiers*, 2021. A line
is only useful if it supports the convex envelope: its slope lies between the slopes of the envelope
at the two ends. For ReLU that is the adaptive slope in [0, 1], and the chord above.

The search promises nothing: it says which slopes to prove.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from ..domains.linear_forms import LinearForms
from ..domains.refined_intervals import Relaxation
from ..functions import Elementwise
from ..graph import Activate, Graph
from ..relaxation import Line, least, slope_range
from ..walk import backward

RATES = (0.1, 0.5)
"""The first step of a slope as a share of the range of useful slopes: of a smooth activation, and
where σ′ jumps."""

DECAY = 0.98
"""What the steps shrink by, each time."""

_MEMORY = (0.9, 0.999)
"""How long Adam remembers gradients, and their squares."""

_NEWTON = 2
"""Steps towards the place where a line touches, after each change of its slope."""


class Useful(NamedTuple):
    """The slopes of lines on both sides of an activation that are worth trying.

    Tensors are (2, B, 1, n): those of lines below, and those of lines above.

    Args:
        low: The smallest slope.
        high: The largest one, larger than ``low`` where the slope is free.
        start: The slope of the line to begin with.
        intercept: The intercept of that line.
    """

    low: Tensor
    high: Tensor
    start: Tensor
    intercept: Tensor

    @property
    def free(self) -> Tensor:
        """Which slopes may vary."""
        return self.low < self.high

    def at(self, share: Tensor, below: Tensor) -> Tensor:
        """Slopes (B, R, n) at shares (2, B, R, n) in [0, 1] of the range; fixed ones stay.

        Args:
            share: For lines below, and for lines above.
            below: Where the line below is meant, (B, R, n).
        """
        free = self.free
        base = torch.where(free, self.low, self.start)
        width = torch.where(free, self.high - self.low, 0.0)
        return torch.addcmul(
            torch.where(below, *base), torch.where(below, *share), torch.where(below, *width)
        )


def useful_slopes(relaxation: Relaxation, names: set[str]) -> dict[str, Useful]:
    """The range of useful slopes of activations (by name) on their intervals."""
    found = {}
    for name in names:
        node = relaxation.graph.node(name)
        assert isinstance(node, Activate)  # noqa: S101 - only activations have lines
        sides = []
        for side, line in zip((1.0, -1.0), relaxation.lines[name], strict=True):
            low, high = slope_range(node.function, *relaxation.intervals[node.parent], sign=side)
            # The bound of the first line holds already; it is the last to be given up.
            low, high = torch.minimum(low, line.slope), torch.maximum(high, line.slope)
            wide = high - low > 1e-9 * (high.abs() + low.abs())
            low, high = (torch.where(wide, end, line.slope) for end in (low, high))
            sides.append(Useful(low, high, line.slope, line.intercept))
        found[name] = Useful(*(torch.stack(pair)[:, :, None] for pair in zip(*sides, strict=True)))
    return found


class SlopeSearch:
    """Slopes of R rows for each of B inputs.

    Args:
        relaxation: The intervals and the lines to begin with.
        graph: The network over operators in the type to search in.
        slopes: The useful slopes of every activation, float64.
        coefficients: C, (B, R, n).
        iterations: How often the bounds are evaluated.
    """

    def __init__(
        self,
        relaxation: Relaxation,
        graph: Graph,
        slopes: dict[str, Useful],
        coefficients: Tensor,
        iterations: int,
    ) -> None:
        self.relaxation, self.graph = relaxation, graph
        self.slopes = slopes
        near = {
            name: Useful(*(end.to(coefficients.dtype) for end in part))
            for name, part in slopes.items()
        }
        self.near = near
        shape = coefficients.shape[:2]
        self.touching: dict[str, _Touching] = {}
        self.shares: dict[str, Tensor] = {}
        for name, part in near.items():
            node = graph.node(name)
            assert isinstance(node, Activate)  # noqa: S101
            z = relaxation.intervals[node.parent]
            ends = (end[:, None].to(coefficients.dtype) for end in z)
            self.touching[name] = _Touching(node.function, *ends)
            width = torch.where(part.free, part.high - part.low, 1.0)
            start = ((part.start - part.low) / width).clamp(0.0, 1.0)
            self.shares[name] = start.expand(2, *shape, -1).clone()
        self.best = {name: share.clone() for name, share in self.shares.items()}
        self.bounds = coefficients.new_full(shape, -torch.inf)
        self._run(coefficients, iterations)

    def _run(self, coefficients: Tensor, iterations: int) -> None:
        leaves = list(self.shares.values())
        moments = [(torch.zeros_like(leaf), torch.zeros_like(leaf)) for leaf in leaves]
        for step in range(iterations):
            with torch.enable_grad():
                for leaf in leaves:
                    leaf.requires_grad_()
                bounds = self._bounds(coefficients)
                last = step + 1 == iterations or not bounds.requires_grad
                gradients = (
                    () if last else torch.autograd.grad(bounds.sum(), leaves, allow_unused=True)
                )
            for leaf in leaves:
                leaf.requires_grad_(False)
            self._keep(bounds.detach())
            if last:
                break
            for name, gradient, moment in zip(self.shares, gradients, moments, strict=True):
                if gradient is not None:
                    rate = RATES[bool(self.touching[name].kinks)] * DECAY**step
                    move = adam(gradient, moment, step)
                    self.shares[name].add_(move, alpha=rate).clamp_(0.0, 1.0)

    def _keep(self, bounds: Tensor) -> None:
        """The slopes with which a bound is the best so far."""
        better = bounds > self.bounds
        self.bounds = torch.where(better, bounds, self.bounds)
        for name, share in self.shares.items():
            self.best[name] = torch.where(better[..., None], share, self.best[name])

    def _bounds(self, coefficients: Tensor) -> Tensor:
        """The bounds (B, R) with the slopes as they are."""
        domain = LinearForms(self._lines)
        g = backward(domain, self.graph, coefficients).get(self.graph.nodes[0].name)
        total = torch.zeros_like(self.bounds) + domain.constant
        if g is None:
            return total
        region = self.relaxation.region
        with torch.no_grad():
            point = region.center[:, None] + region.descent(g.expand(len(region), -1, -1))
        return total + (g * point.to(g.dtype)).sum(-1)

    def _lines(self, node: Activate, c: Tensor) -> Line:
        near, touching = self.near[node.name], self.touching[node.name]
        below = c > 0.0
        slope = near.at(self.shares[node.name], below)
        with torch.no_grad():
            place, value = touching.at(slope, below)
        intercept = value - slope * place
        if touching.open is not None:
            intercept = torch.where(touching.open, torch.where(below, *near.intercept), intercept)
        return Line(slope, intercept)

    def proved_lines(self, rows: slice) -> Callable[[Activate, Tensor], Line]:
        """The active lines of some rows with the best slopes, with proved intercepts."""

        def lines(node: Activate, c: Tensor) -> Line:
            part = self.slopes[node.name]
            share = self.best[node.name][:, :, rows].double()
            below = c > 0.0
            slope = part.at(share, below)
            intercept = torch.where(below, *part.intercept).expand(c.shape).clone()
            free = torch.where(below, *part.free)
            z = self.relaxation.intervals[node.parent]
            lower, upper = (end[:, None].expand(c.shape) for end in z)
            hint = self.touching[node.name].last(rows)
            for sign, here in ((1.0, free & below), (-1.0, free & ~below)):
                found = least(
                    node.function,
                    sign * slope[here],
                    lower[here],
                    upper[here],
                    sign=sign,
                    hint=None if hint is None else hint[here],
                )
                intercept[here] = sign * found.value
            return Line(slope, intercept)

        return lines


class _Touching:
    """Where lines touch an activation on intervals, from one slope to the next.

    Args:
        function: σ, not periodic.
        lower: The lower ends, (B, 1, n).
        upper: The upper ends.
    """

    def __init__(self, function: Elementwise, lower: Tensor, upper: Tensor) -> None:
        self.function = function
        # An interval without an end has a constant line that nothing here may spoil.
        finite = lower.isfinite() & upper.isfinite()
        self.open = None if bool(finite.all()) else ~finite
        self.lower, self.upper = (torch.where(finite, end, 0.0) for end in (lower, upper))
        self.ends = function.value(self.lower), function.value(self.upper)
        assert function.pieces is not None  # noqa: S101 - a method says that it needs them
        pieces = function.pieces[1]
        starts = [turn.at[0] for turn in pieces.turns]
        parts = list(zip(pieces.signs, pairwise(starts), strict=False))
        rising, falling = ([ends for sign, ends in parts if sign == s] for s in "+-")
        # A line below touches where σ′ rises, a line above where it falls: one search serves both.
        nowhere = (-math.inf, -math.inf)
        self.stretches = [
            tuple(
                torch.stack([self.lower.new_tensor(end) for end in ends])
                .reshape(2, 1, 1, 1)
                .clamp(self.lower, self.upper)
                for ends in zip(*pair, strict=True)
            )
            for pair in zip_longest(rising, falling, fillvalue=nowhere)
        ]
        self.places: list[Tensor | None] = [None] * len(self.stretches)
        self.kinks = [turn.at[0] for turn in pieces.turns if turn.right is not None]

    def last(self, rows: slice) -> Tensor | None:
        """Where lines touched last, a start for the next search; None if there is one place only."""
        place = self.places[0] if len(self.places) == 1 else None
        return None if place is None else place[:, rows].double()

    def at(self, slope: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
        """Where σ(z) − s z is least for lines below, largest for those above, and σ there."""
        sign = torch.where(below, 1.0, -1.0).to(slope)
        shape = slope.shape
        # At the ends of the range of slopes a line touches twice, at an end of the interval and
        # inside: the derivative towards other useful slopes is that of the place inside.
        place, value = self.lower.expand(shape), self.ends[0].expand(shape)
        place, value = self._better(sign, slope, place, value, self.upper, self.ends[1])
        for kink in self.kinks:
            z = self.lower.new_tensor(kink).clamp(self.lower, self.upper)
            place, value = self._better(sign, slope, place, value, z, self.function.value(z))
        for k, (start, end) in enumerate(self.stretches):
            p, q = torch.where(below, *start), torch.where(below, *end)
            z = self._root(self.places[k], slope, below, p, q)
            self.places[k] = z
            place, value = self._better(sign, slope, place, value, z, self.function.value(z))
        return place, value

    def _root(
        self, start: Tensor | None, slope: Tensor, below: Tensor, p: Tensor, q: Tensor
    ) -> Tensor:
        """Where σ′ is nearly s in [p, q]: a few steps of Newton's method, or of halving."""
        z = 0.5 * p + 0.5 * q if start is None else torch.minimum(torch.maximum(start, p), q)
        for _ in range(5 * _NEWTON if start is None else _NEWTON):
            excess = self.function.first(z) - slope
            end = torch.where((excess > 0.0) == below, p, q)
            halved = 0.5 * z + 0.5 * end
            if self.function.second is None:
                aim = halved
            else:
                aim = z - excess / self.function.second(z)
                aim = torch.where((aim - z) * (aim - end) <= 0.0, aim, halved)
            z = torch.where(excess == 0.0, z, aim)
        return z

    @staticmethod
    def _better(
        sign: Tensor, slope: Tensor, place: Tensor, value: Tensor, z: Tensor, there: Tensor
    ) -> tuple[Tensor, Tensor]:
        moves = sign * ((there - value) - slope * (z - place)) <= 0.0
        return torch.where(moves, z, place), torch.where(moves, there, value)


def adam(gradient: Tensor, moment: tuple[Tensor, Tensor], step: int) -> Tensor:
    """The direction of Adam's step (Kingma and Ba, 2015); the moments are updated in place."""
    mean, square = moment
    mean.lerp_(gradient, 1.0 - _MEMORY[0])
    square.lerp_(gradient.square(), 1.0 - _MEMORY[1])
    scale = (square / (1.0 - _MEMORY[1] ** (step + 1))).sqrt_().add_(1e-8)
    return (mean / (1.0 - _MEMORY[0] ** (step + 1))).div_(scale)
