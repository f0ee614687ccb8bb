"""Whether rows are positive on a ball around one input: slabs cover it, each is bounded by itself.

The ball ‖x − x₀‖ ≤ R is cut across a direction u, towards the nearest boundary point that is known.
In a thin slab u hardly moves, and along u is where most of the curvature is. The outermost slabs are
open, so that together they cover the ball whatever the computed u is. Linear bounds go first; what
they leave open is searched with quadratic bounds, and proved. A slab that stays open is halved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..domains.intervals import RowNorms
from ..domains.refined_intervals import Relaxation, relax
from ..graph import Graph
from ..regions.constructors import Ball
from ..specifications import Specification
from .chain import Layer
from .proof import Piece, lower_bound, values_at
from .search import Pieces, Search, centers_of, in_type

EDGES = (-1.0, 0.3, 0.6, 0.85, 1.0)
"""Where the ball is cut, in shares of R; the outermost slabs are open."""

_HOPELESS = 0.6
"""A slab is not halved whose estimate lies below minus this share of the margin at its point."""


@dataclass(frozen=True)
class Network:
    """What the bounds are about.

    Args:
        graph: The graph over float64 operators.
        layers: The same as a chain.
        search: The layers in the type that searches compute in.
        rows: Dual norms of rows of the maps that read the input.
    """

    graph: Graph
    layers: Sequence[Layer]
    search: Sequence[Layer]
    rows: RowNorms

    @staticmethod
    def of(graph: Graph, layers: Sequence[Layer], dtype: torch.dtype, rows: RowNorms) -> Network:
        """The network, with a copy of its matrices in another type."""
        return Network(graph, layers, in_type(layers, dtype), rows)


@dataclass(frozen=True)
class Effort:
    """How much is tried before an answer is no.

    Args:
        steps: Optimisation steps of each search.
        halvings: How often a slab may be halved.
    """

    steps: int = 60
    halvings: int = 2


def is_positive(
    network: Network,
    center: Tensor,
    radius: float,
    direction: Tensor,
    specification: Specification,
    effort: Effort,
) -> bool:
    """Whether C z + d > 0 is proved, row by row, on the whole ball.

    Args:
        network: The network.
        center: x₀, (*shape) in float64.
        radius: R.
        direction: u, (D,), of a length near 1.
        specification: The rows, the same for every input.
        effort: How much is tried.
    """
    pending = [(radius * a, radius * b) for a, b in zip(EDGES, EDGES[1:], strict=False)]
    for halving in range(effort.halvings + 1):
        slabs = Slabs(network, center, radius, direction, pending)
        left, hopeless = slabs.open_slabs(specification, effort.steps)
        if not left:
            return True
        if hopeless or halving == effort.halvings:
            return False
        pending = [part for k in left for part in _halves(*pending[k])]
    return False


def _halves(low: float, high: float) -> list[tuple[float, float]]:
    middle = 0.5 * (low + high)
    return [(low, middle), (middle, high)]


class Slabs:
    """Some slabs of one ball.

    Args:
        network: The network.
        center: x₀.
        radius: R.
        direction: u.
        cuts: a and b of each slab; those at ±R are open.
    """

    def __init__(
        self,
        network: Network,
        center: Tensor,
        radius: float,
        direction: Tensor,
        cuts: Sequence[tuple[float, float]],
    ) -> None:
        self.network, self.radius, self.direction = network, radius, direction
        self.flat = center.reshape(-1)
        low = [-math.inf if a <= -radius else a for a, _ in cuts]
        high = [math.inf if b >= radius else b for _, b in cuts]
        ends = torch.tensor([low, high], dtype=torch.float64)
        self.middle = torch.tensor([0.5 * (a + b) for a, b in cuts], dtype=torch.float64)
        self.points = self.flat + self.middle[:, None] * direction
        batch = center[None].expand(len(cuts), *center.shape)
        slab = direction.reshape(center.shape)[None].expand_as(batch), ends[0], ends[1]
        region = Ball(batch, radius, "l2", slab=slab)
        self.relaxation: Relaxation = relax(network.graph, region, network.rows)
        self.values = values_at(network.graph, self.points)
        self.ends = ends

    def open_slabs(self, specification: Specification, steps: int) -> tuple[list[int], bool]:
        """The numbers of the slabs with a row that stays open, and whether one is hopeless."""
        C, d = specification.coefficients, specification.offsets
        linear = self.relaxation.lower_bounds(self.network.graph.output, C[None]) + d
        pairs = torch.nonzero(~(linear > 0.0))
        if len(pairs) == 0:
            return [], False
        slab, row = pairs[:, 0], pairs[:, 1]
        search = self._search(slab, C[row], d[row])
        best, estimate = search.optimise(search.initial(), steps)
        margin = search.start.abs()
        if bool((estimate <= -_HOPELESS * margin).any()):
            return sorted(set(slab.tolist())), True
        left: set[int] = set()
        for k in estimate.argsort().tolist():
            s = int(slab[k])
            if s in left:
                continue
            if (
                not float(estimate[k]) > 0.0
                or not self._proved(s, C[row[k]], float(d[row[k]]), best.row(k)) > 0.0
            ):
                left.add(s)
        return sorted(left), False

    def _search(self, slab: Tensor, rows: Tensor, offsets: Tensor) -> Search:
        network = self.network
        dtype = network.search[0].matrix.dtype
        outputs = self.values[network.graph.output].value[slab]
        start = (rows * outputs).sum(1) + offsets
        values = {name: each.value[slab].to(dtype) for name, each in self.values.items()}
        intervals = [
            Interval(*(end[slab].to(dtype) for end in self.relaxation.intervals[layer.before]))
            for layer in network.search[:-1]
        ]
        radius = torch.full_like(start, self.radius)
        low = self.ends[0][slab].clamp_min(-self.radius)
        high = self.ends[1][slab].clamp_max(self.radius)
        direction = self.direction[None].expand(len(slab), -1)
        pieces = Pieces(
            *(each.to(dtype) for each in (radius, direction, low, high, self.middle[slab]))
        )
        centers = centers_of(network.search, values)
        return Search(network.search, rows.to(dtype), start.to(dtype), centers, intervals, pieces)

    def _proved(self, slab: int, row: Tensor, offset: float, parameters: object) -> float:
        piece = Piece(
            self.flat,
            self.radius,
            self.direction,
            float(self.ends[0][slab]),
            float(self.ends[1][slab]),
            self.points[slab],
        )
        one = slice(slab, slab + 1)
        values = {
            name: type(each)(each.value[one], each.error[one]) for name, each in self.values.items()
        }
        intervals = {
            name: Interval(*(end[one] for end in ends))
            for name, ends in self.relaxation.intervals.items()
        }
        return lower_bound(
            self.network.layers,
            row,
            offset,
            piece,
            values,
            intervals,
            parameters,  # type: ignore[arg-type]
        )
