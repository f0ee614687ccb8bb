"""Whether rows are positive on a ball around one input: slabs cover it, each is bounded by itself.

The ball ‖x − x₀‖ ≤ R is cut across a direction u, towards the nearest boundary point that is
known. In a thin slab u hardly moves, and along u is where most of the curvature is. The outermost
slabs are open, so that together they cover the ball whatever the computed u is. Linear bounds go
first; what they leave open is searched with quadratic bounds, and proved. A slab that stays open is
halved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..arithmetic.outward import UNIT_ROUNDOFF
from ..arithmetic.rounded import Rounded
from ..domains.intervals import RowNorms
from ..domains.refined_intervals import Relaxation, relax
from ..graph import Graph
from ..regions.constructors import Ball
from ..regions.region import Region
from ..specifications import Specification
from .chain import Layer
from .parameters import Parameters
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
        specification: The rows, of this one input.
        effort: How much is tried.
    """
    C, d = _rows(specification)
    pending = [(radius * a, radius * b) for a, b in pairwise(EDGES)]
    for halving in range(effort.halvings + 1):
        slabs = _slabs(network, center, radius, direction, pending)
        left, hopeless = _open_pieces(slabs, C, d, effort.steps)
        if not left:
            return True
        if hopeless or halving == effort.halvings:
            return False
        pending = [part for k in left for part in _halves(*pending[k])]
    return False


def lower_bounds(
    network: Network, region: Region, specification: Specification, steps: int
) -> Tensor:
    """Proved lower bounds (1, R) of C z + d over one l2 ball, cut by a slab or not.

    The direction that is kept exact is the slab's, or the gradient of each row at the center. A box
    that cuts the region is left out of account, which only enlarges it.

    Args:
        network: The network.
        region: The region of one input.
        specification: The rows, of this one input or of every one.
        steps: Optimisation steps.
    """
    C, d = _rows(specification)
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
    setting = _Setting(network, relaxation, values, pieces, [0] * count)
    everyone = torch.arange(count)
    search = setting.search(everyone, C, d)
    best, _ = search.optimise(search.initial(), steps, until=torch.inf)
    found = [setting.proved(k, C[k], float(d[k]), best.row(k)) for k in range(count)]
    return torch.tensor([found], dtype=torch.float64)


def _rows(specification: Specification) -> tuple[Tensor, Tensor]:
    C, d = specification.coefficients, specification.offsets
    return (C[0], d[0]) if specification.batched else (C, d)


def _halves(low: float, high: float) -> list[tuple[float, float]]:
    middle = 0.5 * (low + high)
    return [(low, middle), (middle, high)]


def _first(x: Tensor) -> Tensor:
    unit = torch.zeros_like(x)
    unit[0] = 1.0
    return unit


def _gradients(network: Network, values: Mapping[str, Rounded], C: Tensor) -> Tensor:
    """The gradients (R, D) of rows at a point."""
    c = C @ network.layers[-1].matrix
    for layer in reversed(network.layers[:-1]):
        assert layer.function is not None  # noqa: S101 - only the last layer has none
        c = (c * layer.function.first(values[layer.before].value)) @ layer.matrix
    return c


def _slabs(
    network: Network,
    center: Tensor,
    radius: float,
    direction: Tensor,
    cuts: Sequence[tuple[float, float]],
) -> _Setting:
    """The slabs of a ball between these cuts; those that reach ±R are open."""
    x0 = center.reshape(-1)
    low = [-math.inf if a <= -radius else a for a, _ in cuts]
    high = [math.inf if b >= radius else b for _, b in cuts]
    points = torch.stack([x0 + 0.5 * (a + b) * direction for a, b in cuts])
    batch = center[None].expand(len(cuts), *center.shape)
    slab = (
        direction.reshape(center.shape)[None].expand_as(batch),
        torch.tensor(low, dtype=torch.float64),
        torch.tensor(high, dtype=torch.float64),
    )
    relaxation = relax(network.graph, Ball(batch, radius, "l2", slab=slab), network.rows)
    values = values_at(network.graph, points)
    pieces = [
        Piece(x0, radius, direction, a, b, point)
        for a, b, point in zip(low, high, points, strict=True)
    ]
    return _Setting(network, relaxation, values, pieces, list(range(len(cuts))))


def _open_pieces(setting: _Setting, C: Tensor, d: Tensor, steps: int) -> tuple[list[int], bool]:
    """The numbers of the pieces with a row that stays open, and whether one is hopeless."""
    linear = setting.relaxation.lower_bounds(setting.network.graph.output, C[None]) + d
    pairs = torch.nonzero(~(linear > 1e-9 * (1.0 + d.abs())))
    if len(pairs) == 0:
        return [], False
    piece, row = pairs[:, 0], pairs[:, 1]
    search = setting.search(piece, C[row], d[row])
    best, estimate = search.optimise(search.initial(), steps)
    if bool((estimate <= -_HOPELESS * search.start.abs()).any()):
        return sorted(set(piece.tolist())), True
    left: set[int] = set()
    for k in estimate.argsort().tolist():  # the least first: it is the likeliest to fail
        number = int(piece[k])
        if number not in left and not (
            float(estimate[k]) > 0.0
            and setting.proved(number, C[row[k]], float(d[row[k]]), best.row(k)) > 0.0
        ):
            left.add(number)
    return sorted(left), False


@dataclass(frozen=True)
class _Setting:
    """Pieces of balls with what is known of the network there.

    Args:
        network: The network.
        relaxation: Intervals over the pieces.
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
        layers = self.network.search
        dtype = layers[0].matrix.dtype
        numbers = piece.tolist()
        index = torch.tensor([self.owner[k] for k in numbers])
        outputs = self.values[self.network.graph.output].value[index]
        start = (rows * outputs).sum(1) + offsets
        values = {name: each.value[index].to(dtype) for name, each in self.values.items()}
        intervals = [
            Interval(*(end[index].to(dtype) for end in self.relaxation.intervals[layer.before]))
            for layer in layers[:-1]
        ]
        some = [self.pieces[k] for k in numbers]
        radius, low, high, middle = (
            torch.tensor(numbers_of, dtype=dtype)
            for numbers_of in zip(*map(_ends, some), strict=True)
        )
        direction = torch.stack([each.direction for each in some]).to(dtype)
        pieces = Pieces(radius, direction, low, high, middle)
        centers = centers_of(layers, values)
        return Search(layers, rows.to(dtype), start.to(dtype), centers, intervals, pieces)

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
        layers = self.network.layers
        return lower_bound(layers, row, offset, self.pieces[piece], values, intervals, parameters)


def _ends(piece: Piece) -> tuple[float, float, float, float]:
    """R, a and b cut to ±R, and m."""
    R = piece.radius
    middle = float((piece.point - piece.center) @ piece.direction)
    return R, max(piece.low, -R), min(piece.high, R), middle
