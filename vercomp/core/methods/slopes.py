"""The search for slopes: every row of a specification has its own line at every activation.

A line below σ with slope s has the intercept t(s) = min over [l, u] of σ(z) − s z, and the bound of
a row is a function of the slopes alone. Where the minimum is taken, at z*, the derivative of t is
−z* (the envelope theorem), so that a gradient costs one walk (Xu et al., *Fast and Complete:
Enabling Complete Verification with Rapid and Massively Parallel Incomplete Verifiers*, 2021). A
line is only useful if it supports the convex envelope: its slope lies between the slopes of the
envelope at the two ends. For ReLU that is the adaptive slope in [0, 1], and the chord above.

The search promises nothing: it says which slopes to prove.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..domains.linear_forms import LinearForms
from ..domains.refined_intervals import Relaxation
from ..graph import Activate, Graph
from ..relaxation.lines import Line, slope_range
from ..relaxation.minimum import least
from ..walk import backward
from .touching import Touching, chosen_side

RATES = (0.1, 0.5)
"""The first step of a slope as a share of the range of useful slopes: of a smooth activation, and
where σ′ jumps."""

DECAY = 0.98
"""What the steps shrink by, each time."""

_MEMORY = (0.9, 0.999)
"""How long Adam remembers gradients, and their squares."""


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
            chosen_side(below, base), chosen_side(below, share), chosen_side(below, width)
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
        self.touching: dict[str, Touching] = {}
        self.shares: dict[str, Tensor] = {}
        for name, part in near.items():
            node = graph.node(name)
            assert isinstance(node, Activate)  # noqa: S101
            z = relaxation.intervals[node.parent]
            ends = (end[:, None].to(coefficients.dtype) for end in z)
            self.touching[name] = Touching(node.function, *ends)
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
            intercept = torch.where(touching.open, chosen_side(below, near.intercept), intercept)
        return Line(slope, intercept)

    def proved_lines(self, rows: slice) -> Callable[[Activate, Tensor], Line]:
        """The active lines of some rows with the best slopes, with proved intercepts."""

        def lines(node: Activate, c: Tensor) -> Line:
            part = self.slopes[node.name]
            share = self.best[node.name][:, :, rows].double()
            below = c > 0.0
            slope = part.at(share, below)
            intercept = chosen_side(below, part.intercept).expand(c.shape).clone()
            free = chosen_side(below, part.free)
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


def adam(gradient: Tensor, moment: tuple[Tensor, Tensor], step: int) -> Tensor:
    """The direction of Adam's step (Kingma and Ba, 2015); the moments are updated in place."""
    mean, square = moment
    mean.lerp_(gradient, 1.0 - _MEMORY[0])
    square.lerp_(gradient.square(), 1.0 - _MEMORY[1])
    scale = (square / (1.0 - _MEMORY[1] ** (step + 1))).sqrt_().add_(1e-8)
    return (mean / (1.0 - _MEMORY[0] ** (step + 1))).div_(scale)
