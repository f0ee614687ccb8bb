"""The method of linear bounds with slopes that are optimised, for every row by itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..domains.refined_intervals import Relaxation
from ..graph import Activate, Graph
from ..memory import working_set
from ..network import VerifiedNetwork
from ..specifications import Specification
from .crown import Crown
from .slopes import SlopeSearch, useful_slopes

ITERATIONS = 20
"""How often the bounds of a row are evaluated in the search for its slopes."""

_COPIES = 40
"""Numbers that the search holds for each coefficient of an activation, about."""


class Alpha(Crown):
    """CROWN with the slopes of all lines optimised by gradient (α-CROWN), intervals fixed.

    The search is in the network's own type and promises nothing; the best slopes that it finds are
    proved in float64. No bound is below that of :class:`~.crown.Crown`.
    """

    name = "alpha"
    on_request = True

    def _bound(
        self, network: VerifiedNetwork, relaxation: Relaxation, specification: Specification
    ) -> Tensor:
        """Proved lower bounds over the region of a relaxation."""
        bounds = super()._bound(network, relaxation, specification)
        graph = network.in_double()[1]
        names = _bending(graph)
        if not names or not len(relaxation.region):
            return bounds
        near = network.nodes() if network.dtype == torch.float32 else graph
        dtype = torch.float32 if near is not graph else torch.float64
        slopes = useful_slopes(relaxation, names)
        C, d = specification.coefficients, specification.offsets
        rows = C if specification.batched else C[None].expand(len(relaxation.region), -1, -1)
        found = []
        for block in torch.split(rows, self._at_once(relaxation, names), 1):
            search = SlopeSearch(relaxation, near, slopes, block.to(dtype), ITERATIONS)
            found.append(relaxation.lower_bounds(graph.output, block, search.proved_lines))
        proved = torch.cat(found, 1) + d
        proved = torch.nextafter(proved, proved.new_tensor(-torch.inf))
        return torch.fmax(bounds, proved)

    def _at_once(self, relaxation: Relaxation, names: set[str]) -> int:
        """How many rows are searched at once."""
        size = sum(math.prod(relaxation.graph.node(name).shape) for name in names)
        each = 4 * _COPIES * size * len(relaxation.region)
        return max(1, working_set(relaxation.region.center.device) // each)


def _bending(graph: Graph) -> set[str]:
    """The activations on which the output depends, but for those whose slopes stay as they are."""
    needed = graph.ancestors(graph.output) | {graph.output}
    found = set()
    for node in graph.nodes:
        if isinstance(node, Activate) and node.name in needed:
            pieces = node.function.pieces
            if pieces is not None and pieces[1].period is None:
                found.add(node.name)
    return found
