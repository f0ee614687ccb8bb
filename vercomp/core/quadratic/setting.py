"""Pieces of balls with all that is known of a network there; bounds of rows on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..arithmetic.outward import UNIT_ROUNDOFF
from ..arithmetic.rounded import Rounded, exact
from ..domains.intervals import RowNorms
from ..domains.refined_intervals import Relaxation, relax
from ..domains.rounding import Gradients
from ..graph import Graph
from ..regions.region import Region
from ..walk import backward
from .beginnings import SlopesOfLines, beginning
from .optimiser import optimise
from .parameters import ByNode, Parameters
from .proof import Piece, Place, lower_bound, values_at
from .search import Pieces, Search
from .structure import activations, in_type


@dataclass(frozen=True)
class Network:
    """What the bounds are about.

    Args:
        graph: The graph over float64 operators.
        search: The same in the type that searches compute in.
        rows: Dual norms of rows of the maps that read the input.
    """

    graph: Graph
    search: Graph
    rows: RowNorms

    @staticmethod
    def of(graph: Graph, dtype: torch.dtype, rows: RowNorms) -> Network:
        """The network, with a copy of its maps in another type."""
        return Network(graph, in_type(graph, dtype), rows)


@dataclass(frozen=True)
class Setting:
    """Pieces of balls with what is known of the network there.

    Args:
        network: The network.
        relaxation: Intervals and lines over the pieces.
        values: At their points.
        pieces: The pieces.
        owner: The row of the relaxation and of the values that belongs to each piece.
    """

    network: Network
    relaxation: Relaxation
    values: Mapping[str, Rounded]
    pieces: Sequence[Piece]
    owner: Sequence[int]

    def search(self, piece: Tensor, rows: Tensor, offsets: Tensor) -> Search:
        """The search of rows on pieces, by number."""
        graph, dtype = self.network.search, self._dtype
        numbers = piece.tolist()
        index = torch.tensor([self.owner[k] for k in numbers])
        outputs = self.values[graph.output].value[index]
        start = (rows * outputs).sum(1) + offsets
        read = [node.parent for node in activations(graph)]
        centers = {name: self.values[name].value[index].to(dtype) for name in read}
        intervals = {
            name: Interval(*(end[index].to(dtype) for end in self.relaxation.intervals[name]))
            for name in read
        }
        some = [self.pieces[k] for k in numbers]
        radius, low, high, middle = (
            torch.tensor(numbers_of, dtype=dtype)
            for numbers_of in zip(*map(_ends, some), strict=True)
        )
        direction = torch.stack([each.direction for each in some]).to(dtype)
        pieces = Pieces(radius, direction, low, high, middle)
        return Search(graph, rows.to(dtype), start.to(dtype), centers, intervals, pieces)

    def beginning(self, search: Search, piece: Tensor) -> tuple[Parameters, ByNode]:
        """Where a search of rows on pieces begins."""
        return beginning(search, self.lines(piece))

    def lines(self, piece: Tensor) -> SlopesOfLines:
        """The slopes of the lines of linear relaxation on pieces, by number."""
        index = torch.tensor([self.owner[k] for k in piece.tolist()])
        known, dtype = self.relaxation.lines, self._dtype
        return {
            name: (
                known[name].below.slope[index].to(dtype),
                known[name].above.slope[index].to(dtype),
            )
            for name in (node.name for node in activations(self.network.search))
        }

    @property
    def _dtype(self) -> torch.dtype:
        terms = (term for node in self.network.search.nodes for term in getattr(node, "terms", ()))
        return next((t.map.dtype for t in terms if t.map.values), torch.float64)

    def proved(self, piece: int, row: Tensor, offset: float, parameters: Parameters) -> float:
        """A proved lower bound of a row on a piece."""
        one = slice(self.owner[piece], self.owner[piece] + 1)
        values = {
            name: Rounded(each.value[one], each.error[one]) for name, each in self.values.items()
        }
        intervals = {
            name: Interval(low[one], high[one])
            for name, (low, high) in self.relaxation.intervals.items()
        }
        place = Place(self.pieces[piece], values, intervals)
        return lower_bound(self.network.graph, row, offset, place, parameters)


def bounds_on(network: Network, region: Region, C: Tensor, d: Tensor, steps: int) -> Tensor:
    """Proved lower bounds (1, R) of C z + d over one l2 ball, cut by a slab or not.

    The direction that is kept exact is the slab's, or the gradient of each row at the center. A box
    that cuts the region is left out of account, which only enlarges it.

    Args:
        network: The network.
        region: The region of one input.
        C: The rows (R, outputs).
        d: Their offsets (R,).
        steps: Optimisation steps.
    """
    x0, R = region.center[0], float(region.radius[0])
    relaxation = relax(network.graph, region, network.rows)
    if region.slab is None:
        points, low, high = x0[None], -math.inf, math.inf
        values = values_at(network.graph, points)
        directions = torch.nn.functional.normalize(_gradients(network, values, C), dim=1)
        directions = torch.where(directions.norm(dim=1, keepdim=True) > 0.5, directions, _first(x0))
        middle = 0.0
    else:
        u, ends = region.slab.direction[0], (region.slab.low[0], region.slab.high[0])
        length = float(u.norm())
        low, high = (float(end) / length for end in ends)
        middle = 0.5 * (max(low, -R) + min(high, R))
        points = (x0 + middle * (u / length))[None]
        values = values_at(network.graph, points)
        directions = (u / length).expand(len(C), -1)
        # The length is off by at most (D + 8)u, and the division rounds: the ends move outward.
        doubt = 4.0 * (len(u) + 8) * UNIT_ROUNDOFF
        low, high = low - doubt * (R + abs(low)), high + doubt * (R + abs(high))
    count = len(C)
    pieces = [Piece(x0, R, directions[k], low, high, points[0]) for k in range(count)]
    setting = Setting(network, relaxation, values, pieces, [0] * count)
    everyone = torch.arange(count)
    search = setting.search(everyone, C, d)
    best, _ = optimise(search, *setting.beginning(search, everyone), steps)
    found = [setting.proved(k, C[k], float(d[k]), best.row(k)) for k in range(count)]
    return torch.tensor([found], dtype=torch.float64)


def _first(x: Tensor) -> Tensor:
    unit = torch.zeros_like(x)
    unit[0] = 1.0
    return unit


def _gradients(network: Network, values: Mapping[str, Rounded], C: Tensor) -> Tensor:
    """The gradients (R, D) of rows at a point; proves nothing."""
    norms = {term.name: 0.0 for node in network.graph.nodes for term in getattr(node, "terms", ())}
    arrived = backward(Gradients(norms, values), network.graph, exact(C))
    first = network.graph.nodes[0]
    none = torch.zeros(len(C), math.prod(first.shape), dtype=C.dtype)
    return arrived[first.name].value if first.name in arrived else none


def _ends(piece: Piece) -> tuple[float, float, float, float]:
    """R, a and b cut to ±R, and m."""
    R = piece.radius
    middle = float((piece.point - piece.center) @ piece.direction)
    return R, max(piece.low, -R), min(piece.high, R), middle
