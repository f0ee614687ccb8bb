"""Gradients over regions: how far each entry moves from where it is at the point.

With F_w = ∂f/∂a_w, the Jacobians P_jw = ∂z_j/∂a_w and B_j = ∂z_j/∂x at the point, and
σ′(z_j) = s_j + δ_j for every activation j,

    F_w(x) − F_w = Σ_j P_jwᵀ (δ_j ⊙ F_j(x))            over the activations j behind w,

where F_w stands for the coefficient at the point: an identity. Relaxing it in one line gives
|F_w(x) − F_w| ≤ Σ_j |P_jw|ᵀ (Δ_j ⊙ max |F_j|). The first order is kept exact instead,

    δ_j F_j(x) = F_j h_j B_j(x − x₀) + F_j h_j (v_j − B_j(x − x₀)) + F_j (δ_j − h_j v_j)
                 + δ_j (F_j(x) − F_j),

so that, with G_w = Σ_j P_jwᵀ diag(F_j h_j) B_j (for the input, the Hessian at x₀),

    |F_w(x) − F_w| ≤ max |G_w (x − x₀)| + Σ_j |P_jw|ᵀ (|F_j h_j| ε_j + |F_j| ρ_j + Δ_j φ_j),

φ_j the bound of |F_j(x) − F_j|. The smaller one of the two counts, entry by entry: a linear
relaxation of the Jacobian's graph (compare Shi et al., *Efficiently Computing Local Lipschitz
Constants of Neural Networks via Bound Propagation*, 2022, which relax in one line).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from ..arithmetic.rounded import Rounded
from .neighbourhood import Neighbourhood
from .products import GUARD, Matrix

_TINY = 1e-150


class Coefficient(NamedTuple):
    """∂f/∂a of an activation, or ∂f/∂x, over regions: within φ of its value at the point.

    Args:
        value: At the point, (B, n), to the nearest.
        away: φ, (B, J, n).
    """

    value: Tensor
    away: Tensor


def coefficients(neighbourhood: Neighbourhood, c: Tensor) -> dict[str, Coefficient]:
    """The coefficients of f = c·z for one row c (B, C) or (1, C) of each point, by activation.

    The input's own, under its name, is the gradient. A node on which f does not depend has none.
    """
    expansion = neighbourhood.expansion
    start = {
        name: Rounded(each.value[:, 0], each.error[:, 0])
        for name, each in expansion.coefficients(c[:, None]).items()
    }
    found: dict[str, Coefficient] = {}
    names = [node.name for node in expansion.activations]
    for name in [*reversed(names), expansion.first]:
        if name in start:
            found[name] = _coefficient(neighbourhood, name, start, found)
    return found


def _coefficient(
    neighbourhood: Neighbourhood,
    name: str,
    start: dict[str, Rounded],
    found: dict[str, Coefficient],
) -> Coefficient:
    """One of them, from those behind it."""
    expansion, count = neighbourhood.expansion, neighbourhood.count
    value, error = start[name]
    batch = len(expansion.x)
    value = value.expand(batch, -1)
    straight = value.new_zeros(batch, count, value.shape[1])
    bent = straight
    G: Matrix | None = None
    for node in expansion.activations:
        if node.name not in found:
            continue
        if name == expansion.first:
            P = expansion.jacobian(node.parent)
        else:
            P = expansion.before(node.parent).get(name)
        if P is None:
            continue
        motion, F = neighbourhood.motions[node.name], found[node.name]
        at = F.value[:, None].abs()
        straight = straight + P.spread(motion.slope * (at + F.away) * GUARD, adjoint=True)
        slopes = (at * motion.bend[:, None].abs()) * motion.drift
        tau = (slopes + at * motion.remainder + motion.slope * F.away) * GUARD
        bent = bent + P.spread(tau, adjoint=True)
        B = expansion.jacobian(node.parent)
        if B is not None:
            G = added(G, sandwich(P, F.value * motion.bend, B))
    if G is not None:
        bent = bent + neighbourhood.reach(G)
    away = torch.minimum(straight, bent) * GUARD
    away = (away + error.expand(batch)[:, None, None]) * GUARD
    return Coefficient(value, torch.where(away.isnan(), torch.inf, away))


def sandwich(P: Matrix, weights: Tensor, B: Matrix) -> Matrix:
    """Pᵀ diag(w) B, for weights (B, n) that may be off by a few roundings."""
    left = P.value.mT * weights[:, None, :]
    value = left @ B.value
    largest = weights.abs().amax(1)
    terms = 2.0 * (weights.shape[1] + 8) * UNIT_ROUNDOFF
    size = torch.linalg.vector_norm(left, dim=(1, 2)) * GUARD + _TINY
    error = size * (terms * B.size + B.error) + largest * P.error * B.size
    return Matrix(value, (error + _TINY) * GUARD)


def added(one: Matrix | None, other: Matrix) -> Matrix:
    """The sum; None stands for zero."""
    if one is None:
        return other
    value = one.value + other.value
    lost = UNIT_ROUNDOFF * torch.linalg.vector_norm(value, dim=(1, 2))
    return Matrix(value, (one.error + other.error + lost) * GUARD)
