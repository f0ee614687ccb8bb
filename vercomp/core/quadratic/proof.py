"""The last word of a quadratic bound: one problem at a time, in float64, rounded outward.

For any slopes s_k, with c_n = c, c_{k−1} = W_kᵀ(s_k ∘ c_k), g = W₁ᵀ(s₁ ∘ c₁), and d = x − x_c,

    f(x) = f(x_c) + g·d + Σ_k c_k · (σ(z_k) − σ(ẑ_k) − s_k ∘ v_k)

is an identity, and with the scalar problems of :mod:`.scalar` and the forms of :mod:`.forms`

    f(x) ≥ f(x_c) − Σβ + g·d − ½ dᵀHd.

Computed c_k are off by rounding; whatever numbers they are, the sum above is then off by at most
‖W_kᵀ(s_k ∘ c_k) − c_{k−1}‖ times the reach of a_{k−1}, and that is subtracted.

The region is ‖x − x₀‖ ≤ R, a ≤ u·(x − x₀) ≤ b. Along û = u/‖u‖ nothing is bounded: with
x − x₀ = τû + y, x_c − x₀ = mû + r, y and r orthogonal to û, H = h_uu on û, h across, H_⊥ beyond,

    g·d − ½dᵀHd ≥ γ(τ − m) − ½h_uu(τ − m)² − ‖g_⊥ − (τ − m)h‖ ϱ − ½κϱ²,    ϱ = √(R² − τ²) + ‖r‖,

for κ ≥ max(0, λ_max(H_⊥)): a function of one variable, bounded on many cells of [a/‖u‖, b/‖u‖].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..arithmetic.outward import UNIT_ROUNDOFF, frobenius
from ..arithmetic.rounded import Rounded, exact
from ..domains.rounding import Values, dot, product_loss
from ..graph import Graph
from ..maps.operators import Dense
from ..walk import forward
from .chain import Layer
from .eigenvalues import largest_eigenvalue
from .forms import Form, all_forms
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


def lower_bound(
    layers: Sequence[Layer],
    row: Tensor,
    offset: float,
    piece: Piece,
    values: Mapping[str, Rounded],
    intervals: Mapping[str, Interval],
    parameters: Parameters,
) -> float:
    """A proved lower bound of c·outputs + offset over a piece; −∞ where nothing is proved.

    Args:
        layers: The chain, the outputs last.
        row: c, (outputs,).
        offset: A number to add.
        piece: The region.
        values: The values of all nodes at the piece's point, (1, n) each, with their rounding.
        intervals: Proved intervals of all nodes over the piece, (1, n) each.
        parameters: The free parameters of this problem.
    """
    hidden, last = layers[:-1], layers[-1]
    proved = all_forms(
        hidden,
        parameters.curvatures,
        parameters.chords,
        parameters.weights,
        [float(share) for share in parameters.shares],
    )
    if proved is None:
        return -math.inf
    H, weights = proved
    found = dot(row[None], values[last.before])
    total = float(found.value) - float(found.error) * _GUARD
    c = row @ last.matrix
    lost = _loss(last, row) * _reach(intervals[hidden[-1].name], values[hidden[-1].name])
    beta = torch.zeros((), dtype=torch.float64)
    for k in range(len(hidden) - 1, -1, -1):
        layer, at = hidden[k], values[hidden[k].before]
        none = torch.zeros_like(c)
        problem = Problem(
            c[None],
            parameters.slopes[k][None],
            (weights[k] if k < len(weights) else none)[None],
            (parameters.chords[k] if k < len(weights) else none)[None],
            parameters.curvatures[k][None],
            at.value,
            at.error[:, None],
            *intervals[layer.before],
        )
        assert layer.function is not None  # noqa: S101 - only the last layer has none
        deficit = deficits(layer.function, problem)
        beta = beta + deficit.sum() + deficit.abs().sum() * 2.0 * len(c) * UNIT_ROUNDOFF
        scaled = parameters.slopes[k] * c
        # The product s c rounds too: that costs u |s c| times the reach of v.
        v = _reach(intervals[layer.before], at)
        lost += 2.0 * UNIT_ROUNDOFF * float(scaled.norm()) * v
        if k:
            a = _reach(intervals[hidden[k - 1].name], values[hidden[k - 1].name])
        else:
            a = _farthest(piece)
        lost += _loss(layer, scaled) * a
        c = scaled @ layer.matrix
    total = total + offset - float(beta) - lost * _GUARD
    total -= 8.0 * UNIT_ROUNDOFF * (abs(total) + abs(offset) + abs(float(beta)))
    bound = total + _along(piece, c, H)
    return bound if math.isfinite(bound) else -math.inf


def _loss(layer: Layer, s: Tensor) -> float:
    """What computing Ŵᵀ s loses of Wᵀ s, in the 2-norm."""
    size = s.norm() * _GUARD + 1e-150
    return float(product_loss(Dense(layer.matrix, layer.error), len(s), size)) * _GUARD


def _reach(interval: Interval, at: Rounded) -> float:
    """How far a node's value may be from that at the point, in the 2-norm."""
    away = torch.maximum(interval.upper - at.value, at.value - interval.lower)
    return (float(away.abs().norm()) + float(at.error)) * _GUARD + 1e-150


def _farthest(piece: Piece) -> float:
    """Bound of ‖x − x_c‖ over the ball."""
    return (piece.radius + float((piece.point - piece.center).norm())) * _GUARD


def _along(piece: Piece, g: Tensor, H: Form) -> float:
    """A lower bound of g·d − ½dᵀHd over the piece."""
    u64 = UNIT_ROUNDOFF
    terms = 4.0 * (len(g) + 8) * u64
    length = float(piece.direction.norm())
    u = piece.direction / length  # of unit length up to 4 (D + 8) u
    shift = piece.point - piece.center
    m = float(u @ shift)
    tiny = terms * (float(shift.norm()) + piece.radius)
    r = float((shift - m * u).norm()) * _GUARD + tiny
    size = frobenius(H.matrix)
    Hu = H.matrix @ u
    h_uu = float(u @ Hu)
    h = Hu - h_uu * u
    gamma = float(g @ u)
    across = g - gamma * u
    matrix = H.matrix - torch.outer(u, Hu) - torch.outer(Hu, u) + h_uu * torch.outer(u, u)
    matrix = 0.5 * (matrix + matrix.T)
    # Each of these is a few products with vectors of unit length.
    doubt_H, doubt_g = 8.0 * terms * size + H.excess, 8.0 * terms * float(g.norm())
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
