"""The method of linear bounds: any activation with known pieces, any region, any outputs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..domains.refined_intervals import Relaxation, relax
from ..graph import Activate, Graph
from ..memory import working_set
from ..network import VerifiedNetwork
from ..regions.region import Region
from ..specifications import Specification
from .interval import IntervalBounds, lower_bounds
from .pairs import own_gradient_mode

_MOST_USUAL = 2**27
"""Networks whose walks have more coefficients than this get linear bounds on request."""

_ROWS = 64
"""So many rows of coefficients should fit into memory for all the inputs that share a walk."""


class Crown(IntervalBounds):
    """Linear bounds sent from the outputs to the inputs (CROWN), cut with interval propagation."""

    name = "crown"

    def usual(self, graph: Graph) -> bool:
        """Where a bound takes a second or so; radii take several bounds for each input."""
        return super().usual(graph) and _coefficients(graph) <= _MOST_USUAL

    @own_gradient_mode()
    def bound(
        self, network: VerifiedNetwork, region: Region, specification: Specification
    ) -> Tensor:
        """The larger of the bounds by lines and by intervals."""
        return self._in_parts(network, region, specification, self._relaxed)

    def _in_parts(
        self,
        network: VerifiedNetwork,
        region: Region,
        specification: Specification,
        relaxed: Callable[[VerifiedNetwork, Region], Relaxation],
    ) -> Tensor:
        """The bounds over relaxations of a few inputs at a time."""
        _, graph = network.in_double()
        found = []
        everyone = torch.arange(len(region), device=region.center.device)
        for part in torch.split(everyone, _inputs(graph)):
            relaxation = relaxed(network, region.rows(part))
            found.append(self._bound(network, relaxation, specification.rows(part)))
        return torch.cat(found)

    def _relaxed(self, network: VerifiedNetwork, region: Region) -> Relaxation:
        """Intervals and lines of every node."""
        graph = network.in_double()[1]
        return relax(graph, region, self._row_norms(network, graph))

    def _bound(
        self, network: VerifiedNetwork, relaxation: Relaxation, specification: Specification
    ) -> Tensor:
        """Proved lower bounds over the region of a relaxation."""
        C, d = specification.coefficients, specification.offsets
        graph = relaxation.graph
        bounds = relaxation.lower_bounds(graph.output, C if specification.batched else C[None])
        bounds = torch.nextafter(bounds + d, bounds.new_tensor(-math.inf))
        return torch.maximum(bounds, lower_bounds(graph, relaxation.intervals, specification))


def _coefficients(graph: Graph) -> int:
    """How many coefficients walks from every activation's input have, if all are sent back."""
    units = sum(math.prod(node.shape) for node in graph.nodes if isinstance(node, Activate))
    return units * max(math.prod(node.shape) for node in graph.nodes)


def _inputs(graph: Graph) -> int:
    """How many inputs share a walk."""
    largest = max(math.prod(node.shape) for node in graph.nodes)
    return max(1, working_set(torch.device("cpu")) // (8 * 8 * _ROWS * largest))
