"""Proved lower bounds of linear functions on a region: duality, with the last word in float64.

The minimum over an intersection is the best way to divide g among the parts: for any p and ν, with
q = g − p − νu,

    min g·y ≥ min over the ball of p·y + min over the box of q·y + min over the slab of νu·y
            = −r‖p‖_*  +  Σᵢ min(qᵢ lᵢ, qᵢ hᵢ)  +  min(νa, νb),

and some division gives equality. (With p = −μ∇φ(y) this is the Lagrangian's dual at multipliers
μ, ν.) The division is searched; what is evaluated here, rounded down, holds for each. The length of
u never enters.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF, times_up, up
from .geometry import Geometry, scaled_rows
from .rounding import scale_down, sum_up
from .search import solve

_TINY = 1e-200
"""Covers what underflows, in coordinates whose largest entries lie in [1, 2)."""

_QUICK_STEPS = 3
"""Steps of the search for a multiplier where a rough one is enough."""


def lower_bound(region: Geometry, g: Tensor, *, quick: bool = False) -> Tensor:
    """Lower bounds (N,) of min g·(x − x₀), for g (N, D); −∞ where g is not finite.

    Args:
        region: The regions.
        g: The linear functions.
        quick: Whether a few divisions are enough where the best one has to be searched.
    """
    scaled, length = scaled_rows(g, region.scales)
    if not region.clipped and region.slab is None:
        best = _ball_alone(region, scaled)
    else:
        best = torch.full_like(region.radius, -torch.inf)
        few = quick and region.clipped and region.kind.smooth
        for share, nu in (_quick_divisions if few else _divisions)(region, scaled):
            bound = _divided(region, scaled, share, nu)
            best = torch.maximum(best, torch.nan_to_num(bound, nan=-torch.inf))
    best = scale_down(scale_down(best, region.unit), length)
    best = best.clamp(max=torch.finfo(best.dtype).max)
    best = torch.where((scaled == 0.0).all(-1), 0.0, best)
    bad = best.isnan() | ~g.isfinite().all(-1)
    return torch.where(bad, -torch.inf, best)


def _ball_alone(region: Geometry, g: Tensor) -> Tensor:
    """−r‖g‖_*."""
    size = region.kind.dual_norm(g)
    if region.scales is not None:
        size = up(size * (1.0 + 4.0 * UNIT_ROUNDOFF)) + _TINY * g.shape[-1]
    return -times_up(region.radius, size)


def _divisions(region: Geometry, g: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs (p, ν) to try: each part of the region alone, and what the multipliers give."""
    kind, slab = region.kind, region.slab
    nothing = torch.zeros_like(g)
    zero = torch.zeros_like(region.radius)
    if slab is not None and not region.clipped:
        nu = kind.slab_multiplier(g, region.radius, *slab)
        if nu is not None:
            yield g, zero
            yield g - nu[:, None] * slab.direction, nu
            return
    for nu, ball in solve(region, g).multipliers:
        rest = g if slab is None else g - nu[:, None] * slab.direction
        yield nothing, nu
        if kind.is_box:
            continue
        yield rest, nu
        for mu in ball:
            point = kind.shrink(rest, g.new_zeros(1), mu, region.lower, region.upper)
            yield kind.share(rest, point, mu), nu


def _quick_divisions(region: Geometry, g: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs (p, ν) to try where the box clips a smooth ball: the parts alone, and a few steps.

    The slab's multiplier is the best one without the box, where that is known; the ball's follows
    from the norm of the minimiser, which should be r: for l2 it is inversely proportional to μ but
    for what the box clips.
    """
    kind, slab = region.kind, region.slab
    multipliers = [torch.zeros_like(region.radius)]
    if slab is not None:
        nu = kind.slab_multiplier(g, region.radius, *slab)
        multipliers += [] if nu is None else [nu]
    for nu in multipliers:
        rest = g if slab is None else g - nu[:, None] * slab.direction
        yield torch.zeros_like(g), nu
        yield rest, nu
        for mu, point in _rough_minimisers(region, rest):
            yield kind.share(rest, point, mu), nu


def _rough_minimisers(region: Geometry, g: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Multipliers of a smooth ball and minimisers (N, D) of g·y in the box for them, ever better.

    The last points lie in the box, and nearly in the ball.
    """
    kind = region.kind
    mu = kind.multiplier_scale(g, region.radius)
    for _ in range(_QUICK_STEPS):
        point = kind.shrink(g, g.new_zeros(1), mu, region.lower, region.upper)
        yield mu, point
        mu = mu * torch.nan_to_num(kind.norm(point) / region.radius)


def _divided(region: Geometry, g: Tensor, share: Tensor, nu: Tensor) -> Tensor:
    """The bound of a division (p, ν), rounded down.

    q = g − p − νu as computed is off by at most 4u(|g| + |p| + |νu|), entry by entry, the rounding
    of the scaled g and u included; that costs as much again of the largest |yᵢ| in the box. A sum
    of D products is off by at most 2(D + 4)u times the sum of their absolute values.
    """
    rest, size = g - share, g.abs() + share.abs()
    faces = torch.zeros_like(nu)
    if region.slab is not None:
        pull = nu[:, None] * region.slab.direction
        rest, size = rest - pull, size + pull.abs()
        face = torch.where(nu > 0.0, region.slab.low, region.slab.high)
        faces = torch.where(nu == 0.0, 0.0, nu * face)
    extent = torch.maximum(region.lower.abs(), region.upper.abs())
    products = torch.minimum(rest * region.lower, rest * region.upper)
    terms = 2.0 * (g.shape[-1] + 4) * UNIT_ROUNDOFF * rest.abs() + 4.0 * UNIT_ROUNDOFF * size
    underflow = _TINY * (1.0 + nu.abs()) * (extent > 0.0).sum(-1)
    slack = up(sum_up(terms * extent) * (1.0 + 8.0 * UNIT_ROUNDOFF) + underflow)
    ball = times_up(region.radius, region.kind.dual_norm(share))
    slack = slack + 8.0 * UNIT_ROUNDOFF * (ball + faces.abs() + products.sum(-1).abs())
    return products.sum(-1) + faces - ball - slack
