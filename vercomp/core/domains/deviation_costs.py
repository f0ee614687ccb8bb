"""What rounding takes from linear forms in deviations, node by node (:mod:`.deviation_forms`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..arithmetic.outward import UNIT_ROUNDOFF
from ..graph import Activate, Affine, AnyNode, Graph, Term
from ..maps.typed import (
    TypedOperator,
    amplification,
    products_are_single,
    typed_operator,
    unit_roundoff,
)
from ..regions.region import Region
from ..walk import forward
from .linear_forms import Lines
from .references import Reference, References

_TERMS = 64
"""So many products are added in float32, before float64 goes on."""

UNDERFLOW = 2.0**-100
"""More than flushing to zero takes from a sum of 2²⁰ products."""

_AMPLIFIED = 2.0**40
"""Operators that make more than this of what underflows in float32 are taken in float64."""

_GUARD = 1.0 + 1e-6
"""Covers the rounding of error bounds, sums of thousands of terms among them."""


class Step(NamedTuple):
    """An activation's lines in the type of the coefficients, (B, n): c ↦ c ⊙ middle + |c| ⊙ half.

    Args:
        middle: The mean of both slopes.
        half: Half of their difference.
        center: The mean of τ and τ′.
        spread: Half of their difference, less all that rounding takes.
        lost: Where nothing is known of τ or τ′; None if that is nowhere.
    """

    middle: Tensor
    half: Tensor
    center: Tensor
    spread: Tensor
    lost: Tensor | None


class DeviationCosts:
    """What forms in deviations need to know of a graph over a region.

    Args:
        graph: The graph, over float64 operators.
        region: The inputs.
        intervals: Of every node that is reached; they may still be added.
        lines: Of every activation that is reached.
        maps: The operators in the type of the coefficients, by the names of their terms.
        dtype: That type.
    """

    def __init__(
        self,
        graph: Graph,
        region: Region,
        intervals: Mapping[str, Interval],
        lines: Mapping[str, Lines],
        maps: Mapping[str, TypedOperator],
        dtype: torch.dtype,
    ) -> None:
        self.dtype, self.unit = dtype, unit_roundoff(dtype)
        self.graph, self.region = graph, region
        self.intervals, self.lines, self.maps = intervals, lines, maps
        self._floor = UNDERFLOW * max((each.amplified for each in maps.values()), default=1.0)
        self.references: dict[str, Reference] = forward(References(region.center), graph)
        self._reaches: dict[str, Tensor] = {}
        self._images: dict[str, Tensor] = {}
        self._prices: dict[str, Tensor] = {}
        self._steps: dict[str, Step] = {}
        self._floors: dict[str, Tensor] = {}

    def reach(self, name: str) -> Tensor:
        """ρ, (B, n): how far a node's values may be from their references."""
        if name not in self._reaches:
            value, (lower, upper) = self.references[name].value, self.intervals[name]
            self._reaches[name] = torch.maximum(upper - value, value - lower) * _GUARD
        return self._reaches[name]

    def price(self, node: AnyNode) -> Tensor:
        """What the products of a node take of |c| = 1, for each entry, (B, n); 0 but for affine."""
        if node.name not in self._prices:
            self._prices[node.name] = self._priced(node, [m.lost for m in self._maps_of(node)])
        return self._prices[node.name]

    def price_of_rows(self, node: Affine) -> Tensor:
        """What the rows of an affine node take that are written out, (B, n)."""
        return self._priced(node, [m.rows_lost for m in self._maps_of(node)])

    def _maps_of(self, node: AnyNode) -> list[TypedOperator]:
        return [self.maps[term.name] for term in node.terms] if isinstance(node, Affine) else []

    def _priced(self, node: AnyNode, shares: list[float]) -> Tensor:
        """What a node takes whose maps take these shares of |A| ρ, (B, n)."""
        price = self.references[node.name].residual
        terms = node.terms if isinstance(node, Affine) else ()
        for term, share in zip(terms, shares, strict=True):
            reach = self.reach(term.parent)
            if share > 0.0:
                price = price + share * self._image(term)
            lost = term.map.error * reach.norm(dim=1) + self._floor * reach.sum(1)
            price = price + lost[:, None]
        return (price * _GUARD).expand(-1, math.prod(node.shape))

    def underflow(self, names: Collection[str]) -> Tensor:
        """What flushing numbers to zero may take at nodes of these names, (B,)."""
        for name in names:
            if name not in self._floors:
                amount = self.reach(name).sum(1) + self.price(self.graph.node(name)).sum(1)
                self._floors[name] = self._floor * (1.0 + amount)
        return torch.stack([self._floors[name] for name in names]).sum(0)

    def _image(self, term: Term) -> Tensor:
        """|A| ρ of a term, (B, m)."""
        if term.name not in self._images:
            self._images[term.name] = term.map.abs_apply(self.reach(term.parent))
        return self._images[term.name]

    def step(self, node: Activate) -> Step:
        """The lines of an activation as deviations."""
        if node.name not in self._steps:
            self._steps[node.name] = self._stepped(node)
        return self._steps[node.name]

    def _stepped(self, node: Activate) -> Step:
        below, above = self.lines[node.name]
        z, a = self.references[node.parent].value, self.references[node.name].value
        low, high = (line.slope * z + line.intercept - a for line in (below, above))
        steep = below.slope.abs() + above.slope.abs()
        size = steep * z.abs() + below.intercept.abs() + above.intercept.abs() + 2.0 * a.abs()
        parent = self.graph.node(node.parent)
        charged = (8.0 * self.unit * steep + UNDERFLOW) * self.reach(node.parent)
        largest = torch.maximum(below.slope.abs(), above.slope.abs())
        charged = charged + largest * self.price(parent)
        # A constant line has no slope that could lose anything, whatever the interval.
        charged = torch.where(steep == 0.0, 0.0, charged) + 4.0 * UNIT_ROUNDOFF * size
        sums = (terms_at_once(self.dtype, z.shape[1]) + 8.0) * self.unit
        charged = charged + sums * (low.abs() + high.abs() + charged)
        middle, half = 0.5 * (below.slope + above.slope), 0.5 * (below.slope - above.slope)
        center, spread = 0.5 * (low + high), 0.5 * (low - high) - charged * _GUARD - UNDERFLOW
        kind = self.dtype
        step = Step(middle.to(kind), half.to(kind), center.to(kind), spread.to(kind), None)
        lost = ~(step.center.isfinite() & step.spread.isfinite())
        if bool(lost.any()):
            center, spread = (torch.where(lost, 0.0, each) for each in (step.center, step.spread))
            step = step._replace(center=center, spread=spread, lost=lost.to(self.dtype))
        return step


def terms_at_once(dtype: torch.dtype, length: int) -> int:
    """How many of so many products are added in a type, before float64 goes on."""
    return min(_TERMS, length) if dtype == torch.float32 else max(1, length)


def deviation_costs(
    graph: Graph,
    region: Region,
    intervals: Mapping[str, Interval],
    lines: Mapping[str, Lines],
) -> DeviationCosts | None:
    """What forms in deviations need; None where an operator's products promise too little.

    The coefficients are float32 over boxes: there the deviations of all nodes together are worth
    little more than the widths of their intervals. Over other balls they are worth much more, and
    what float32 loses would be seen.
    """
    if region.center.device.type != "cpu":
        return None
    terms = [t for node in graph.nodes if isinstance(node, Affine) for t in node.terms]
    narrow = region.kind.is_box and products_are_single()
    narrow = narrow and all(amplification(term.map) <= _AMPLIFIED for term in terms)
    dtype = torch.float32 if narrow else torch.float64
    maps: dict[str, TypedOperator] = {}
    for term in terms:
        typed = typed_operator(term.map, dtype)
        if typed is None:
            return None
        maps[term.name] = typed
    return DeviationCosts(graph, region, intervals, lines, maps, dtype)
