"""The method of linear bounds with slopes that are optimised, for every row by itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..domains.intervals import RowNorms
from ..domains.refined_intervals import RefinedIntervals, Relaxation
from ..graph import Activate, Affine, Graph
from ..memory import working_set
from ..network import VerifiedNetwork
from ..regions.region import Region
from ..specifications import Specification
from ..walk import forward
from .crown import Crown
from .slopes import SlopeSearch, Useful, useful_slopes

ITERATIONS = 20
"""How often the bounds of a row are evaluated in the search for its slopes."""

INTERMEDIATE = 20
"""How often those of the inputs of activations are, in the search for their slopes."""

_ENTRIES = 2**20
"""Coefficients of activations that are searched at once: few enough for the cache."""

_COPIES = 40
"""Numbers that the search holds for each coefficient of an activation, about."""


class Alpha(Crown):
    """CROWN with the slopes of all lines optimised by gradient (α-CROWN), intervals included.

    The search is in the network's own type and promises nothing; the best slopes that it finds are
    proved in float64. No bound is below that of :class:`~.crown.Crown`.
    """

    name = "alpha"
    on_request = True

    def _relaxed(self, network: VerifiedNetwork, region: Region) -> Relaxation:
        graph = network.in_double()[1]
        domain = OptimisedIntervals(network, region, self._row_norms(network, graph))
        forward(domain, graph)
        return domain.relaxation

    def _bound(
        self, network: VerifiedNetwork, relaxation: Relaxation, specification: Specification
    ) -> Tensor:
        """Proved lower bounds over the region of a relaxation."""
        bounds = super()._bound(network, relaxation, specification)
        C, d = specification.coefficients, specification.offsets
        rows = C if specification.batched else C[None].expand(len(relaxation.region), -1, -1)
        search = RowBounds(network, relaxation, ITERATIONS)
        proved = search.of(relaxation.graph.output, rows)
        proved = torch.nextafter(proved + d, proved.new_tensor(-torch.inf))
        return torch.fmax(bounds, proved)


class RowBounds:
    """Proved lower bounds of rows by the best slopes of each.

    Args:
        network: The network.
        relaxation: Its intervals and lines; both may still grow.
        iterations: How often a row's bound is evaluated in search.
    """

    def __init__(self, network: VerifiedNetwork, relaxation: Relaxation, iterations: int) -> None:
        self.relaxation, self.iterations = relaxation, iterations
        single = network.dtype == torch.float32
        self.dtype = torch.float32 if single else torch.float64
        self.graph = network.nodes() if single else relaxation.graph
        self.slopes: dict[str, Useful] = {}

    def of(self, node: str, rows: Tensor) -> Tensor:
        """Proved lower bounds (B, R) of C a at a node, for rows C (B, R, n); −∞ for no search."""
        names = _bending(self.relaxation.graph, node)
        self.slopes.update(useful_slopes(self.relaxation, names - set(self.slopes)))
        slopes = {name: self.slopes[name] for name in names}
        if not any(bool(part.free.any()) for part in slopes.values()):
            return rows.new_full(rows.shape[:2], -torch.inf)
        part = _before(self.graph, node)
        found = []
        for block in torch.split(rows, self._at_once(names), 1):
            search = SlopeSearch(
                self.relaxation, part, slopes, block.to(self.dtype), self.iterations
            )
            found.append(self.relaxation.lower_bounds(node, block, search.proved_lines))
        return torch.cat(found, 1)

    def _at_once(self, names: set[str]) -> int:
        """How many rows are searched at once."""
        region = self.relaxation.region
        size = sum(math.prod(self.relaxation.graph.node(name).shape) for name in names)
        each = self.dtype.itemsize * _COPIES * size * len(region)
        fits = working_set(region.center.device) // max(1, each)
        return max(1, min(fits, _ENTRIES // max(1, size * len(region))))


class OptimisedIntervals(RefinedIntervals):
    """Refined intervals, each with its own slopes.

    Args:
        network: The network.
        region: The inputs.
        rows: Dual norms of the rows of maps that read the input.
    """

    def __init__(self, network: VerifiedNetwork, region: Region, rows: RowNorms) -> None:
        super().__init__(network.in_double()[1], region, rows)
        self.search = RowBounds(network, self.relaxation, INTERMEDIATE)

    def _refined(self, node: Affine, found: Interval) -> Interval:
        found = super()._refined(node, found)
        bent = self._bent(node, found)
        entries = torch.nonzero(bent.any(0))[:, 0]
        if len(entries) == 0:
            return found
        unit = torch.zeros(len(entries), found.lower.shape[1]).to(found.lower)
        unit[torch.arange(len(entries), device=unit.device), entries] = 1.0
        rows = torch.cat([unit, -unit])[None].expand(len(found.lower), -1, -1)
        bounds = self.search.of(node.name, rows)
        lower = torch.full_like(found.lower, -torch.inf)
        upper = -lower
        lower[:, entries], upper[:, entries] = bounds[:, : len(entries)], -bounds[:, len(entries) :]
        return self._cut(found, lower, upper)


def _before(graph: Graph, node: str) -> Graph:
    """The graph up to a node."""
    names = [each.name for each in graph.nodes]
    return Graph(graph.nodes[: names.index(node) + 1], node)


def _bending(graph: Graph, output: str) -> set[str]:
    """The activations on which a node depends, but for those whose slopes stay as they are."""
    needed = graph.ancestors(output) | {output}
    found = set()
    for node in graph.nodes:
        if isinstance(node, Activate) and node.name in needed:
            pieces = node.function.pieces
            if pieces is not None and pieces[1].period is None:
                found.add(node.name)
    return found
