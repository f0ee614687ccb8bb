"""The method of interval propagation: any activation with known ranges, any region, any outputs."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..arithmetic.outward import UNIT_ROUNDOFF, down, times_up, up
from ..arithmetic.rounded import Rounded, exact
from ..domains.intervals import RowNorms, intervals
from ..domains.rounding import adjoint
from ..graph import Activate, Affine, Graph
from ..network import VerifiedNetwork
from ..regions.region import Region
from ..specifications import Specification
from .method import Obstacle
from .pairs import own_gradient_mode
from .region_method import RegionMethod


class IntervalBounds(RegionMethod):
    """Interval propagation, with the last linear map taken together with what is asked."""

    name = "interval"

    def __init__(self) -> None:
        self._rows: WeakKeyDictionary[VerifiedNetwork, tuple[Graph, RowNorms]] = WeakKeyDictionary()

    def requires(self, graph: Graph) -> tuple[Obstacle, ...]:
        """The monotone pieces of every activation."""
        return tuple(
            Obstacle(node.name, "the range of its activation on an interval is not known")
            for node in graph.nodes
            if isinstance(node, Activate) and node.function.pieces is None
        )

    @own_gradient_mode()
    def bound(
        self, network: VerifiedNetwork, region: Region, specification: Specification
    ) -> Tensor:
        """min C z + d over the intervals of what the last layer reads."""
        _, graph = network.in_double()
        found = intervals(graph, region, self._row_norms(network, graph))
        return lower_bounds(graph, found, specification)

    def _row_norms(self, network: VerifiedNetwork, graph: Graph) -> RowNorms:
        """Those of the graph, as long as the weights are the same."""
        held = self._rows.get(network)
        if held is None or held[0] is not graph:
            held = (graph, RowNorms())
            self._rows[network] = held
        return held[1]


def lower_bounds(graph: Graph, found: dict[str, Interval], specification: Specification) -> Tensor:
    """Lower bounds (B, R) of C z + d from intervals of the nodes.

    Where the output is affine, z = Σ A_k a_k + b, the rows C A_k meet the intervals of the a_k:
    what C subtracts is subtracted before the worst case is taken.

    Args:
        graph: The graph.
        found: Intervals (B, n) of its nodes.
        specification: The rows.
    """
    output = graph.node(graph.output)
    C, d = specification.coefficients, specification.offsets
    rows = exact(C if specification.batched else C[None])
    if not isinstance(output, Affine):
        return down(_least(rows, found[output.name]) + d)
    total = d.expand(len(found[output.name].lower), specification.count)
    if output.bias is not None:
        total = down(total + _at(rows, output.bias))
    for term in output.terms:
        g = adjoint(term.map, term.map.absolute_norm, rows)
        total = down(total + _least(g, found[term.parent]))
    return torch.nan_to_num(total, nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)


def _least(g: Rounded, interval: Interval) -> Tensor:
    """min g·a over the interval (B, n), rounded down, for rows g (B or 1, R, n): (B, R)."""
    lower, upper = interval.lower[:, None], interval.upper[:, None]
    value = g.value
    products = torch.where(value > 0.0, value * lower, value * upper)
    products = torch.where(value == 0.0, 0.0, products)
    count = value.shape[-1]
    size = products.abs().sum(-1)
    slack = 2.0 * (count + 4) * UNIT_ROUNDOFF * size + count * 1e-300
    largest = torch.maximum(interval.lower.abs(), interval.upper.abs())
    length = up(largest.norm(dim=1) * (1.0 + (count + 8) * UNIT_ROUNDOFF) + 1e-150)
    lost = torch.where(g.error > 0.0, times_up(g.error, length[:, None]), 0.0)
    return down(products.sum(-1) - up(slack + lost))


def _at(g: Rounded, bias: Rounded) -> Tensor:
    """g·b for a bias known up to rounding, rounded down: (1 or B, R)."""
    products = g.value * bias.value
    count = products.shape[-1]
    slack = 2.0 * (count + 4) * UNIT_ROUNDOFF * products.abs().sum(-1) + count * 1e-300
    slack = slack + times_up(up(g.value.norm(dim=-1) * (1.0 + 1e-9)), bias.error)
    return down(products.sum(-1) - up(slack))
