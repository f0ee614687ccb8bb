"""Intervals of every node, refined by linear bounds where an activation is undecided.

Interval propagation comes first. Where an activation bends on the interval that it gives (σ′ is not
constant there), the interval of its input is cut with linear bounds from that node back to the
input, over the lines of the activations before it. One walk serves every specification.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..functions import Elementwise
from ..graph import Activate, Affine, Graph, Input
from ..memory import working_set
from ..regions.region import Region
from ..relaxation.lines import lower_line, upper_line
from ..walk import backward, forward, onward, rule
from .deviation_costs import deviation_costs
from .deviation_forms import Cells, entry_bounds
from .intervals import Intervals, RowNorms
from .linear_forms import ActiveLines, Lines, ProvedForms
from .windows import IMAGE, factors, most_coefficients

_BENT = 1e-6
"""An activation whose slope changes by less than this on an interval is not refined."""

_ENTRIES = 2**20
"""Coefficients that a walk treats at once: few enough for the cache, many enough for the products.
"""

_COPIES = 8
"""Arrays as large as the coefficients that a backward walk holds at once, about."""


class Relaxation:
    """What linear bounds of a network over a region rest on.

    Args:
        graph: The graph, over float64 operators.
        region: The inputs, B of them.
        intervals: Of every node, (B, n).
        lines: Of every activation.
    """

    def __init__(
        self,
        graph: Graph,
        region: Region,
        intervals: dict[str, Interval],
        lines: dict[str, Lines],
    ) -> None:
        self.graph, self.region = graph, region
        self.intervals, self.lines = intervals, lines
        self.costs = deviation_costs(graph, region, intervals, lines)

    def lower_bounds(
        self,
        node: str,
        coefficients: Tensor,
        lines: Callable[[slice], ActiveLines] | None = None,
    ) -> Tensor:
        """Proved lower bounds (B, R) of C a at a node.

        Args:
            node: The name of the node.
            coefficients: C, (B or 1, R, n).
            lines: The active lines of some of the rows; None for the lines that all rows share.
        """
        part = self.before(node)
        found: list[Tensor] = []
        start = 0
        for block in torch.split(coefficients, self._rows(part), 1):
            rows = slice(start, start + block.shape[1])
            start = rows.stop
            domain = ProvedForms(self.lines if lines is None else lines(rows), self.intervals)
            found.append(self._least(domain, backward(domain, part, block), block.shape[1]))
        return torch.cat(found, 1)

    def entry_bounds(self, node: Affine, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Proved lower and upper bounds (B, n) of an affine node; ±∞ where none are wanted.

        Args:
            node: The node.
            wanted: Which entries, (B, n).
        """
        part = self.before(node.name)
        lower = torch.full(wanted.shape, -math.inf, dtype=torch.float64, device=wanted.device)
        upper = -lower
        for place, (low, high) in self._entry_bounds(part, node, wanted):
            lower[place], upper[place] = low, high
        # What is found beside it depends on the other regions, which no bound should.
        return torch.where(wanted, lower, -math.inf), torch.where(wanted, upper, math.inf)

    def _entry_bounds(
        self, part: Graph, node: Affine, wanted: Tensor
    ) -> Iterator[tuple[tuple[Tensor | slice, Tensor], tuple[Tensor, Tensor]]]:
        """Bounds of some entries, with their places, until all that are wanted are among them."""
        if self.costs is not None:
            for cells in self._cells(part, node, wanted):
                bounds = entry_bounds(self.costs, part, node, cells)
                yield (cells.owner[:, None], cells.entries), bounds
            return
        entries = torch.nonzero(wanted.any(0))[:, 0]
        for index in torch.split(entries, max(1, self._rows(part) // 2)):
            domain = ProvedForms(self.lines, self.intervals)
            arrived = onward(domain, part, domain.entries(node, index))
            found = self._least(domain, arrived, 2 * len(index), quick=True)
            yield (slice(None), index), (found[:, : len(index)], -found[:, len(index) :])

    def _cells(self, part: Graph, node: Affine, wanted: Tensor) -> Iterator[Cells]:
        """The wanted entries, cells with as many of them together, as many as a walk takes."""
        area = 1
        if len(node.shape) == IMAGE and all(factors(term.map) is not None for term in node.terms):
            area = math.prod(node.shape[1:])
        # A cell has all channels of one place, or all entries of the node.
        table = wanted.reshape(len(wanted), -1, area).mT.reshape(len(wanted) * area, -1)
        counts = table.sum(1)
        order = counts.argsort(stable=True)
        order = order[counts[order] > 0]
        size = most_coefficients(part, node) if area > 1 else _most(part)
        limit = max(1, self._fitting(size) // 2)
        while len(order):
            some = order[: max(1, limit // max(1, int(counts[order[0]])))]
            while len(some) > 1 and len(some) * int(counts[some[-1]]) > limit:
                some = some[: max(1, limit // int(counts[some[-1]]))]
            order = order[len(some) :]
            owner, place = some // area, some % area
            # Those that are wanted come first; others fill the rows up.
            first = table[some].to(torch.uint8).argsort(dim=1, descending=True, stable=True)
            for channels in torch.split(first[:, : int(counts[some[-1]])], limit, 1):
                index = channels * area + place[:, None]
                if area == 1:
                    yield Cells(owner, index, None)
                else:
                    width = node.shape[-1]
                    yield Cells(owner, index, (place // width, place % width))

    def before(self, node: str) -> Graph:
        """The graph up to a node."""
        names = [each.name for each in self.graph.nodes]
        return Graph(self.graph.nodes[: names.index(node) + 1], node)

    def _rows(self, part: Graph) -> int:
        """How many rows for each region a backward walk takes at once."""
        return self._fitting(_most(part) * max(1, len(self.region)))

    def _fitting(self, size: int) -> int:
        """How many rows of so many coefficients a backward walk takes at once."""
        fits = working_set(self.region.center.device) // (_COPIES * 8 * size)
        return max(1, min(fits, _ENTRIES // size))

    def _least(
        self, domain: ProvedForms, arrived: dict[str, Tensor], count: int, *, quick: bool = False
    ) -> Tensor:
        first = self.graph.nodes[0].name
        bound = domain.minimum(self.region, arrived, first, quick=quick)
        return bound.expand(len(self.region), count)


def relax(graph: Graph, region: Region, rows: RowNorms | None = None) -> Relaxation:
    """Intervals and lines of every node over a region.

    Args:
        graph: The graph, over float64 operators.
        region: The inputs.
        rows: Dual norms of rows of the maps that read the input, kept between calls.
    """
    with torch.no_grad():
        domain = RefinedIntervals(graph, region, rows or RowNorms())
        forward(domain, graph)
    return domain.relaxation


class RefinedIntervals(Intervals):
    """The table.

    Args:
        graph: The graph.
        region: The inputs.
        rows: Dual norms of the rows of maps that read the input.
    """

    title = "refined intervals"

    def __init__(self, graph: Graph, region: Region, rows: RowNorms) -> None:
        super().__init__(graph, region, rows)
        self.graph = graph
        self.relaxation = Relaxation(graph, region, {}, {})

    @rule(Input)
    def input(self, node: Input) -> Interval:
        """The box around the region."""
        return self._kept(self.first, super().input(node))

    @rule(Affine)
    def affine(self, node: Affine, *parents: Interval) -> Interval:
        """Σ A [a] + b, cut with linear bounds."""
        found = self._kept(node.name, super().affine(node, *parents))
        if not self._is_tight(node):
            found = self._kept(node.name, self._refined(node, found))
        return found

    @rule(Activate)
    def activation(self, node: Activate, z: Interval) -> Interval:
        """σ([z]), and the lines there."""
        self.relaxation.lines[node.name] = self.lines_of(node.function, z)
        return self._kept(node.name, super().activation(node, z))

    def lines_of(self, function: Elementwise, z: Interval) -> Lines:
        """Lines below and above an activation on intervals of its input."""
        return Lines(lower_line(function, *z), upper_line(function, *z))

    def _kept(self, name: str, interval: Interval) -> Interval:
        self.relaxation.intervals[name] = interval
        return interval

    def _is_tight(self, node: Affine) -> bool:
        """Whether interval propagation is exact: one map of the input, on a ball or a box alone."""
        region = self.region
        if node.parents != (self.first,) or region.slab is not None:
            return False
        if region.kind.is_box or bool(region.radius.isinf().all()):
            return True
        return region.box is None and self.rows.of(node.terms[0], region) is not None

    def _bent(self, node: Affine, found: Interval) -> Tensor:
        """On which of the intervals the slope of an activation changes, (B, n)."""
        bent = torch.zeros_like(found.lower, dtype=torch.bool)
        for reader in self.graph.children(node.name):
            if isinstance(reader, Activate):
                low, high = reader.function.range(1, *found)
                bent |= ~(high - low <= _BENT)
        return bent

    def _refined(self, node: Affine, found: Interval) -> Interval:
        """The interval, cut with linear bounds where it matters."""
        bent = self._bent(node, found)
        if not bool(bent.any()):
            return found
        return self._cut(found, *self.relaxation.entry_bounds(node, bent))

    @staticmethod
    def _cut(found: Interval, low: Tensor, high: Tensor) -> Interval:
        """The interval cut with proved bounds (B, n)."""
        lower, upper = torch.maximum(found.lower, low), torch.minimum(found.upper, high)
        # Of an empty region, or of two bounds that rounding parts, the wider pair stays.
        crossed = lower > upper
        return Interval(
            torch.where(crossed, found.lower, lower), torch.where(crossed, found.upper, upper)
        )


def _most(graph: Graph) -> int:
    """The entries of the largest node."""
    return max(math.prod(node.shape) for node in graph.nodes)
