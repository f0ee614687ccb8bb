"""The last word of a quadratic bound: one problem at a time, in float64, rounded outward.

Rows are sent backward: an affine node sends Aᵀc to each parent, an activation s ∘ c for any slopes
s. With c_v what arrives at an activation, g what arrives at the input, and d = x − x_c,

    f(x) = f(x_c) + g·d + Σ_v c_v · (σ(z_v) − σ(ẑ_v) − s_v ∘ (z_v − ẑ_v))

is an identity, and with the scalar problems of :mod:`.scalar` and the forms of :mod:`.forms`

    f(x) ≥ f(x_c) − Σβ + g·d − ½ dᵀHd.

Computed coefficients are off by rounding; whatever numbers they are, the sum above is then off by
at most their error times the reach of the node that they belong to, and that is subtracted.

The region is ‖x − x₀‖ ≤ R, a ≤ u·(x − x₀) ≤ b. Along û = u/‖u‖ nothing is bounded: with
x − x₀ = τû + y, x_c − x₀ = mû + r, y and r orthogonal to û, H = h_uu on û, h across, H_⊥ beyond,

    g·d − ½dᵀHd ≥ γ(τ − m) − ½h_uu(τ − m)² − ‖g_⊥ − (τ − m)h‖ ϱ − ½κϱ²,    ϱ = √(R² − τ²) + ‖r‖,

for κ ≥ max(0, λ_max(H_⊥)): a function of one variable, bounded on many cells of [a/‖u‖, b/‖u‖].
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..arithmetic.outward import UNIT_ROUNDOFF
from ..arithmetic.rounded import Rounded, exact
from ..domains.rounding import Values, dot, product_loss
from ..graph import Activate, Affine, Graph, Input
from ..norms.eigenvalues import frobenius_norm, largest_eigenvalue
from ..walk import Domain, backward, forward, rule
from .forms import all_forms
from .parameters import Parameters
from .scalar import Problem, deficits

_CELLS = 4096
"""Cells of the one-dimensional minimum."""

_GUARD = 1.0 + 1e-9
"""Covers the rounding of the few operations that make up an error bound."""


@dataclass(frozen=True)
class Piece:
    """A ball around x₀ cut by a slab, with the point that the bound expands around.

    Args:
        center: x₀, (D,) in float64.
        radius: R.
        direction: u, (D,), of a length near 1.
        low: a; −∞ is open.
        high: b.
        point: x_c, (D,).
    """

    center: Tensor
    radius: float
    direction: Tensor
    low: float
    high: float
    point: Tensor


def values_at(graph: Graph, points: Tensor) -> dict[str, Rounded]:
    """The values of all nodes at points (P, D), with bounds of their rounding."""
    norms = {
        term.name: term.map.absolute_norm
        for node in graph.nodes
        for term in getattr(node, "terms", ())
    }
    return forward(Values(norms, exact(points)), graph)


@dataclass(frozen=True)
class Place:
    """What is known of the network on a piece, and at its point.

    Args:
        piece: The region.
        values: The values of all nodes at the point, (1, n) each, with their rounding.
        intervals: Proved intervals of all nodes over the region, (1, n) each.
    """

    piece: Piece
    values: Mapping[str, Rounded]
    intervals: Mapping[str, Interval]

    def reach(self, name: str) -> float:
        """How far a node's value may be from that at the point, in the 2-norm."""
        at, interval = self.values[name], self.intervals[name]
        away = torch.maximum(interval.upper - at.value, at.value - interval.lower)
        return (float(away.abs().norm()) + float(at.error)) * _GUARD + 1e-150

    @property
    def farthest(self) -> float:
        """Bound of ‖x − x_c‖ over the ball."""
        shift = float((self.piece.point - self.piece.center).norm())
        return (self.piece.radius + shift) * _GUARD


def lower_bound(
    graph: Graph, row: Tensor, offset: float, place: Place, parameters: Parameters
) -> float:
    """A proved lower bound of c·outputs + offset over a piece; −∞ where nothing is proved.

    Args:
        graph: The graph, over float64 operators.
        row: c, (outputs,).
        offset: A number to add.
        place: The region, and what is known there.
        parameters: The free parameters of this problem.
    """
    proved = all_forms(graph, parameters)
    if proved is None:
        return -math.inf
    H, excess, weights = proved
    found = dot(row[None], place.values[graph.output])
    total = float(found.value) - float(found.error) * _GUARD
    remainders = Remainders(graph.nodes[0].name, place, parameters, weights)
    arrived = backward(remainders, graph, row)
    g = arrived.get(graph.nodes[0].name, torch.zeros_like(place.piece.center))
    beta, lost = remainders.beta, remainders.lost
    total = total + offset - beta - lost * _GUARD
    total -= 8.0 * UNIT_ROUNDOFF * (abs(total) + abs(offset) + abs(beta))
    bound = total + _along(place.piece, g, H, excess)
    return bound if math.isfinite(bound) else -math.inf


class Remainders(Domain[Tensor]):
    """The backward walk of one row: what arrives at a node is the coefficient c (n,) of its value.

    Args:
        first: The name of the input.
        place: The region, and what is known there.
        parameters: The free parameters of this problem.
        weights: T of the activations that have one.

    Attributes:
        beta: Σ β, rounded up.
        lost: What rounding of the coefficients takes.
    """

    title = "remainders of quadratic bounds"

    def __init__(
        self, first: str, place: Place, parameters: Parameters, weights: Mapping[str, Tensor]
    ) -> None:
        self.first, self.place = first, place
        self.parameters, self.weights = parameters, weights
        self.beta = 0.0
        self.lost = 0.0

    @rule(Input)
    def input(self, node: Input, c: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Nothing comes before the input."""
        return iter(())

    @rule(Affine)
    def affine(self, node: Affine, c: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Aᵀ c to every parent."""
        size = c.norm() * _GUARD + 1e-150
        for term in node.terms:
            self._charge(float(product_loss(term.map, term.map.fan_out, size)), term.parent)
            yield term.parent, term.map.adjoint(c[None])[0]

    @rule(Activate)
    def activation(self, node: Activate, c: Tensor) -> Iterator[tuple[str, Tensor]]:
        """s ∘ c, and β of every neuron."""
        parameters, name = self.parameters, node.name
        at, none = self.place.values[node.parent], torch.zeros_like(c)
        problem = Problem(
            c[None],
            parameters.slopes[name][None],
            self.weights.get(name, none)[None],
            (parameters.chords[name] if name in self.weights else none)[None],
            parameters.curvatures[name][None],
            at.value,
            at.error[:, None],
            *self.place.intervals[node.parent],
        )
        found = deficits(node.function, problem)
        more = found.sum() + found.abs().sum() * 2.0 * len(c) * UNIT_ROUNDOFF
        self.beta = math.nextafter(self.beta + float(more), math.inf)
        scaled = parameters.slopes[name] * c
        # The product rounds, and costs that times the reach of z.
        self._charge(2.0 * UNIT_ROUNDOFF * float(scaled.norm()), node.parent)
        yield node.parent, scaled

    def join(self, name: str, one: Tensor, other: Tensor) -> Tensor:
        """Two paths to the same node are added."""
        total = one + other
        self._charge(2.0 * UNIT_ROUNDOFF * float(total.norm()), name)
        return total

    def _charge(self, error: float, name: str) -> None:
        reach = self.place.farthest if name == self.first else self.place.reach(name)
        self.lost += error * _GUARD * reach


def _along(piece: Piece, g: Tensor, H: Tensor, excess: float) -> float:
    """A lower bound of g·d − ½dᵀ(H + εI)d over the piece."""
    u64 = UNIT_ROUNDOFF
    terms = 4.0 * (len(g) + 8) * u64
    length = float(piece.direction.norm())
    u = piece.direction / length  # of unit length up to 4 (D + 8) u
    shift = piece.point - piece.center
    m = float(u @ shift)
    tiny = terms * (float(shift.norm()) + piece.radius)
    r = float((shift - m * u).norm()) * _GUARD + tiny
    size = frobenius_norm(H)
    Hu = H @ u
    h_uu = float(u @ Hu)
    h = Hu - h_uu * u
    gamma = float(g @ u)
    across = g - gamma * u
    matrix = H - torch.outer(u, Hu) - torch.outer(Hu, u) + h_uu * torch.outer(u, u)
    matrix = 0.5 * (matrix + matrix.T)
    # Each of these is a few products with vectors of unit length.
    doubt_H, doubt_g = 8.0 * terms * size + excess, 8.0 * terms * float(g.norm())
    kappa = max(0.0, largest_eigenvalue(matrix) + doubt_H) * _GUARD
    R = piece.radius
    low = max(piece.low / length - tiny if math.isfinite(piece.low) else -R, -R)
    high = min(piece.high / length + tiny if math.isfinite(piece.high) else R, R)
    low, high = low - tiny, high + tiny
    if not low <= high:
        return math.inf
    edges = low + (high - low) * torch.linspace(0.0, 1.0, _CELLS + 1, dtype=torch.float64)
    edges[0], edges[-1] = low, high
    step = edges - m
    q = _norms(across, h, step) + doubt_g + step.abs() * doubt_H
    near = (edges.abs() - 2.0 * tiny).clamp(0.0, R)  # m is known up to tiny
    room = ((R - near) * (R + near)).sqrt()
    inner = torch.where((edges[:-1] < 0.0) & (edges[1:] > 0.0), R, 0.0)
    room = torch.maximum(torch.maximum(room[:-1], room[1:]), inner) + r + tiny
    q = torch.maximum(q[:-1], q[1:])
    bend = 0.5 * (h_uu + doubt_H)
    linear = gamma * step - doubt_g * step.abs()
    squares = torch.maximum(step[:-1].square(), step[1:].square())
    least_squares = torch.where(
        step[:-1] * step[1:] <= 0.0, 0.0, torch.minimum(step[:-1].square(), step[1:].square())
    )
    straight = torch.minimum(linear[:-1], linear[1:])
    # Concave where bend ≥ 0: then both terms together are least at an end of the cell.
    ends = linear - bend * step.square()
    along = torch.minimum(ends[:-1], ends[1:])
    if bend < 0.0:
        along = straight - bend * least_squares
    value = along - q * room - 0.5 * kappa * room.square()
    sizes = abs(gamma) * squares.sqrt() + abs(bend) * squares + q * room + kappa * room.square()
    value = value - 32.0 * u64 * sizes * _GUARD
    least = float(value.min())
    return least if not math.isnan(least) else -math.inf


def _norms(across: Tensor, h: Tensor, step: Tensor) -> Tensor:
    """‖g_⊥ − s h‖ for each s, rounded up; a convex function of s."""
    a, b, d = float(across @ across), float(across @ h), float(h @ h)
    squared = a - 2.0 * step * b + step.square() * d
    slack = 8.0 * (len(h) + 8) * UNIT_ROUNDOFF * (a + step.square() * d)
    return (squared + slack).clamp_min(0.0).sqrt() * _GUARD + 1e-150
