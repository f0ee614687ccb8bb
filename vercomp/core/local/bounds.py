"""Curvature and Lipschitz constants of rows of the outputs over regions, for users.

Over a ball of the 2-norm around x₀ there are two bounds of ‖∇f‖, and the smaller one is taken:

    ‖ |∇f(x₀)| + φ ‖        where every entry moves by φ at most (:mod:`.gradients`),
    ‖∇f(x₀)‖ + Σ_j (R_j − R_{j−1}) K_j        with K_j ≥ ‖∇²f‖ on nested balls of radii R_j.

For other norms the first one, in the dual norm, is what there is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from ..domains.intervals import RowNorms
from ..errors import InputError
from ..graph import Activate, Graph
from ..regions.region import Region
from .gradients import coefficients
from .neighbourhood import Neighbourhood
from .nested import NestedBalls
from .products import GUARD, LARGEST_LAYER, Expansion

_SHELLS = 4
"""Nested balls on which the norm of the Hessian is bounded."""


def fits(graph: Graph) -> bool:
    """Whether no layer is too large for matrices."""
    return all(math.prod(node.shape) <= LARGEST_LAYER for node in graph.nodes)


def check(graph: Graph, region: Region, *, smooth: bool) -> None:
    """Refuse what local bounds cannot take.

    Raises:
        InputError: A region of another shape, a layer too large for matrices, an activation whose
            ranges are not known, or without a second derivative if ``smooth`` asks for one.
    """
    first = tuple(graph.nodes[0].shape)
    if region.shape != first:
        raise InputError(
            f"the region's inputs have the shape {region.shape}, the network's {first}"
        )
    if not fits(graph):
        raise InputError(
            f"a layer has more than {LARGEST_LAYER:,} units",
            remedy="Local bounds hold Jacobians as matrices; take a smaller network",
        )
    for node in graph.nodes:
        if isinstance(node, Activate):
            lacking = node.function.pieces is None
            if lacking or (smooth and node.function.second_range is None):
                what = "known ranges" if lacking else "a second derivative"
                raise InputError(f"the activation {node.name!r} has not {what} to bound")


def curvature(graph: Graph, region: Region, rows: Tensor) -> Tensor:
    """κ (B, R) with ∇²(c·z) ≽ −κI over each region, for rows c (R, C).

    Args:
        graph: The graph, over float64 operators.
        region: The regions; the bound holds in the balls of the 2-norm around them.
        rows: The rows.
    """
    result = torch.full((len(region), len(rows)), math.inf, dtype=torch.float64)
    kept = RowNorms()
    for b in range(len(region)):
        one = region.rows(slice(b, b + 1))
        far = float(one.farthest())
        if math.isfinite(far):
            balls = NestedBalls(graph, one.center, one.shape, kept)
            balls.add([far])
            for k, row in enumerate(rows):
                result[b, k] = balls.curvature(far, row).bound
    return result


def lipschitz(graph: Graph, region: Region, rows: Tensor) -> Tensor:
    """Upper bounds (B, R) of ‖∇(c·z)‖_* over each region, in the norm dual to the region's.

    Args:
        graph: The graph, over float64 operators.
        region: The regions; boxes count as balls of ℓ∞.
        rows: c, (R, C).
    """
    result = torch.full((len(region), len(rows)), math.inf, dtype=torch.float64)
    kept = RowNorms()
    for b in range(len(region)):
        one = region.rows(slice(b, b + 1))
        expansion = Expansion(graph, one.center)
        nearby = Neighbourhood(expansion, one, kept)
        for k, row in enumerate(rows):
            gradient = coefficients(nearby, row[None]).get(expansion.first)
            if gradient is None:
                result[b, k] = 0.0
                continue
            entries = (gradient.value.abs() + gradient.away[:, 0]) * (1.0 + 1e-12)
            scaled = entries if one.scales is None else entries * one.scales * (1.0 + 1e-12)
            result[b, k] = float(one.kind.dual_norm(scaled))
        if _curved(graph, one):
            result[b] = torch.minimum(result[b], _integrated(graph, one, rows, kept))
    return torch.where(result.isnan(), math.inf, result)


def _curved(graph: Graph, region: Region) -> bool:
    smooth = all(
        node.function.second_range is not None for node in graph.nodes if isinstance(node, Activate)
    )
    plain = region.kind.name == "l2" and region.scales is None
    return smooth and plain and bool(region.radius.isfinite().all())


def _integrated(graph: Graph, region: Region, rows: Tensor, kept: RowNorms) -> Tensor:
    """‖∇f(x₀)‖ and what curvature adds on nested balls, (R,)."""
    balls = NestedBalls(graph, region.center, region.shape, kept)
    radius = float(region.radius)
    radii = [radius * (j + 1) / _SHELLS for j in range(_SHELLS - 1)] + [radius]
    if radius > 0.0:
        balls.add(radii)
    found = []
    for row in rows:
        at = balls.expansion.linearize(row[None])
        total = float(at.gradient.norm()) * (1.0 + 1e-12) + float(at.gradient_error)
        inner = 0.0
        for outer in radii if radius > 0.0 else []:
            both = (balls.curvature(outer, sign * row).bound for sign in (1.0, -1.0))
            total += (outer - inner) * max(0.0, *both) * (1.0 + 8.0 * UNIT_ROUNDOFF)
            inner = outer
        found.append(total * GUARD)
    return torch.tensor(found, dtype=torch.float64)
