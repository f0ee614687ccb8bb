"""Where searches in a region begin: at tangents' worst points, off stationary points, at random."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..regions.moves import Moves
from .pairs import Margins, Screen
from .screening import values

_CANDIDATES = 6
"""Targets with the smallest margins, of which tangents are taken."""

_FLAT = 1e-2
"""A margin is stationary where its tangent falls by less than this share of it in the region."""

_PLAIN, _SHIFTED = 3, 8
"""Steps of power iteration: for the largest curvature in magnitude, then for the least."""

_SPREAD = 0.05
"""Curvature is taken from gradients at this share of the region's size to both sides."""

_DRAWN = 8
"""Random points, of which a search begins at the best."""


class Tangents(NamedTuple):
    """Worst points of the tangents at the centers of N regions, those that fall lowest first.

    Args:
        point: Offsets (N, T, D).
        column: Of the targets that they are for, (N, T).
        flat: Whether no tangent falls by a hundredth of its margin, (N,).
    """

    point: Tensor
    column: Tensor
    flat: Tensor


def tangents(margins: Margins, moves: Moves, label: Tensor, targets: Tensor) -> Tangents:
    """For the T targets with the smallest margins: where their tangents are least in the region."""
    found = values(margins, moves.center, label, targets)
    column = found.topk(min(_CANDIDATES, targets.shape[1]), dim=1, largest=False).indices
    value, gradient = Screen(margins, moves.center).margins(label, targets.gather(1, column))
    value = torch.nan_to_num(value, nan=torch.inf)
    gradient = torch.nan_to_num(gradient)
    point = moves.least(gradient)
    fall = (gradient * point).sum(2)
    order = (value + fall).argsort(1)
    flat = (fall.abs() <= _FLAT * value.abs()).all(1)
    wide = order[:, :, None].expand_as(point)
    return Tangents(point.gather(1, wide), column.gather(1, order), flat)


def escapes(margins: Margins, moves: Moves, label: Tensor, target: Tensor) -> Tensor:
    """Offsets (N, 2, D) as far as the region goes along the least curvature of f at its centers.

    Power iteration on differences of gradients, first as they are, for |λ|_max, then on
    H − |λ|_max: no second derivative is needed, and piecewise linear functions bend, too.
    """
    size = moves.center.shape[1]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(size, generator=generator, dtype=torch.float64).to(moves.center)
    v = torch.nn.functional.normalize(drawn, dim=0).expand_as(moves.center)
    far = _SPREAD * moves.region.farthest().to(v)[:, None]
    shift = torch.zeros_like(far)
    for step in range(_PLAIN + _SHIFTED):
        _, ahead = margins.screen(moves.center + far * v, label, target)
        _, behind = margins.screen(moves.center - far * v, label, target)
        product = torch.nan_to_num((ahead - behind) / (2.0 * far))
        if step < _PLAIN:
            shift = torch.maximum(shift, torch.linalg.vector_norm(product, dim=1, keepdim=True))
        else:
            product = product - shift * v
        turned = torch.nn.functional.normalize(product, dim=1)
        v = torch.where((turned == 0.0).all(1, keepdim=True), v, turned)
    return moves.least(torch.stack([v, -v], 1))


def best_of(
    margins: Margins, moves: Moves, label: Tensor, targets: Tensor, points: Tensor
) -> Tensor:
    """Of T offsets (N, T, D), the one with the least margin over all targets: (N, D)."""
    least = torch.stack(
        [
            values(margins, moves.center + points[:, t], label, targets).amin(1)
            for t in range(points.shape[1])
        ],
        1,
    )
    chosen = least.argmin(1)
    return points[torch.arange(len(points), device=points.device), chosen]


def random_starts(moves: Moves, seed: int) -> Tensor:
    """Random offsets (N, T, D).

    They are the same in each region up to its shape, so that no row depends on the others.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = moves.region.kind.draw(_DRAWN, moves.center.shape[1], generator)
    return torch.stack([moves.spread(unit) for unit in drawn], 1)
