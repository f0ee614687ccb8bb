"""The linear dual network of an affine node, as far as a few random directions see it.

Over parallel lines σ(z) = s z + m + ε with |ε| ≤ w, so the value of an affine node is

    z = middle + Σ ε_j c_j,

a sum over the input's directions and all activations before it, with c_j what a dual variable is.
The half-width of the interval of z_i is ‖(w_j c_ji)_j‖₁, over a box of inputs; over an l2 ball the
input's part is r‖·‖₂. A vector of random numbers, sent forward once, multiplies all of them at
once: Σ_j R_j w_j c_ji for every i (Wong et al., *Scaling provable adversarial defenses*, 2018,
section 3.2). So intervals of n units cost k walks, and not n.

The input and all activations share one projection: the paper has one of each layer, and adds the
estimates. Its sum of positive parts is the same as here, 2 [x]₊ = |x| + x.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..arithmetic.outward import UNIT_ROUNDOFF, down, times_up, up
from ..graph import Activate, Affine, Graph, Input
from ..projections import Law
from ..regions.region import Region
from ..walk import Domain, rule
from .intervals import Intervals, RowNorms, number
from .linear_forms import Lines

_GUARD = 1.0 + 2.0**-40
"""Covers the rounding of the few operations that make up an error bound."""


class Spread(NamedTuple):
    """What directions of the input are worth: x = middle + Σ_j e_j w_j, ‖e‖ ≤ 1.

    Args:
        middle: (B, D).
        width: w, (B, D), rounded up.
        law: Of the projection that estimates a width: by the norm that is dual to that of e.
    """

    middle: Tensor
    width: Tensor
    law: Law


def spread_of(region: Region) -> Spread:
    """A ball or box that holds a region: the l2 ball for l2 and l1, the enclosing box for others.

    Slabs, and the box that cuts an l2 or l1 ball, are left out: a larger region is sound.
    """
    if region.kind.name in ("l1", "l2") and not bool(region.radius.isinf().any()):
        scales = torch.ones_like(region.center) if region.scales is None else region.scales
        return Spread(region.center, times_up(scales, region.radius[:, None]), Law.NORMAL)
    lower, upper = region.interval()
    middle = 0.5 * lower + 0.5 * upper
    return Spread(middle, up(torch.maximum(upper - middle, middle - lower)), Law.CAUCHY)


def strips(lines: Lines) -> tuple[Tensor, Tensor, Tensor]:
    """s, m and w of parallel lines, |σ(z) − s z − m| ≤ w."""
    below, above = lines.below.intercept, lines.above.intercept
    middle = 0.5 * below + 0.5 * above
    open_ends = ~(below.isfinite() & above.isfinite())
    width = up(torch.maximum(above - middle, middle - below))
    return (
        lines.below.slope,
        torch.where(open_ends, 0.0, middle),
        torch.where(open_ends, math.inf, width),
    )


class Middle(Intervals):
    """The table of values at the middle: intervals that rounding alone makes wide.

    Args:
        graph: The graph.
        region: The inputs.
        spread: Their middle.
        lines: Parallel lines of every activation.
    """

    title = "middles of the dual network"

    def __init__(
        self, graph: Graph, region: Region, spread: Spread, lines: Mapping[str, Lines]
    ) -> None:
        super().__init__(graph, region, RowNorms())
        self.spread, self.lines = spread, lines

    @rule(Input)
    def input(self, node: Input) -> Interval:
        """The middle of the region."""
        return Interval(self.spread.middle, self.spread.middle)

    @rule(Activate)
    def activation(self, node: Activate, z: Interval) -> Interval:
        """s z + m."""
        slope, middle, _ = strips(self.lines[node.name])
        ends = torch.stack([slope * z.lower, slope * z.upper])
        return number(down(down(ends.amin(0)) + middle), up(up(ends.amax(0)) + middle))

    def _within_ball(self, term: object, box: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The middle is a point."""
        return box


class Products(NamedTuple):
    """Products of random vectors with the dual variables of every unit of a node.

    Args:
        value: (B, q, n).
        error: What rounding may have changed each of them by, (B, n).
    """

    value: Tensor
    error: Tensor


class ProjectedDual(Domain[Products]):
    """The table: q random vectors sent forward.

    Args:
        spread: The inputs.
        lines: Parallel lines of every activation.
        law: Of the random numbers: Cauchy for all directions that count by their absolute values,
            normal for those of an l2 ball alone.
        rows: q.
        generator: Of the random numbers, which are the same for all inputs.
    """

    title = "projections of the dual network"

    def __init__(
        self,
        spread: Spread,
        lines: Mapping[str, Lines],
        law: Law,
        rows: int,
        generator: torch.Generator,
    ) -> None:
        self.spread, self.lines, self.law = spread, lines, law
        self.rows, self.generator = rows, generator

    @rule(Input)
    def input(self, node: Input) -> Products:
        """w R."""
        if self.law is not self.spread.law:
            zero = torch.zeros_like(self.spread.width)
            return Products(zero[:, None].expand(-1, self.rows, -1), zero)
        return self._drawn(self.spread.width)

    @rule(Affine)
    def affine(self, node: Affine, *parents: Products) -> Products:
        """Σ A p."""
        value: Tensor | float = 0.0
        error: Tensor | float = 0.0
        for term, part in zip(node.terms, parents, strict=True):
            size = part.value.abs().amax(1) + part.error
            count = 2.0 * (term.map.fan_in + len(node.terms) + 2) * UNIT_ROUNDOFF
            value = value + term.map.apply(part.value)
            lost = term.map.abs_apply(part.error + count * size) * (1.0 + 2.0 * count)
            length = torch.linalg.vector_norm(size, dim=-1, keepdim=True) * (1.0 + 1e-9)
            error = error + lost + term.map.error * length + term.map.underflow
        return Products(value, error * _GUARD)  # type: ignore[arg-type]

    @rule(Activate)
    def activation(self, node: Activate, z: Products) -> Products:
        """s p, and w R of the activation's own."""
        slope, _, width = strips(self.lines[node.name])
        value = slope[:, None] * z.value
        error = slope.abs() * z.error
        if self.law is Law.CAUCHY:
            own = self._drawn(width)
            value, error = value + own.value, error + own.error
        size = value.abs().amax(1)
        return Products(value, (error + 4.0 * UNIT_ROUNDOFF * size) * _GUARD)

    def _drawn(self, width: Tensor) -> Products:
        """w R for fresh random numbers."""
        drawn = self.law.draw(self.rows, width.shape[-1], self.generator).to(width.device)
        value = torch.where(width[:, None] == 0.0, 0.0, width[:, None] * drawn)
        return Products(value, 2.0 * UNIT_ROUNDOFF * value.abs().amax(1))


def laws(spread: Spread) -> Iterator[Law]:
    """The laws whose projections an interval needs: activations count by absolute values."""
    yield Law.CAUCHY
    if spread.law is not Law.CAUCHY:
        yield spread.law
