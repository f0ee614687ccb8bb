"""Margins at points, rounded up: what makes a point that a search found a witness."""

from __future__ import annotations

import torch
from torch import Tensor

from ..bounds import BoundedNetwork
from ..network import VerifiedNetwork
from ..regions.constructors import Ball
from ..specifications import Specification
from .interval import IntervalBounds
from .pairs import Margins

_COMPETES = 1e-4
"""Logits closer than this, relative to the largest, may swap when evaluated in float64."""


def upper_margins(margins: Margins, x: Tensor, label: Tensor, target: Tensor) -> Tensor:
    """Upper bounds (P,) of z_y − z_t at flat points x (P, D) in float64, rounding included.

    Networks with bounds of their norms are evaluated with an error; others as intervals.
    """
    network = margins.network
    if not isinstance(network, VerifiedNetwork) or isinstance(network, BoundedNetwork):
        found = margins.linearize(x, label, target)
        return found.value + found.value_error
    points = x.reshape(len(x), *network.input_shape)
    rows = margins.coefficients(label, target)[:, None]
    return -IntervalBounds().bound(network, Ball(points, 0.0, "linf"), Specification.of(-rows))[
        :, 0
    ]


def least_upper_margin(
    margins: Margins, x: Tensor, label: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """min over K targets (B, K) of z_y − z_t at flat points x (B, D), rounded up; and its column.

    Only targets whose screened logits compete for the minimum are evaluated in float64; leaving
    one out can only raise the result, which stays an upper bound.
    """
    logits = margins.logits(x).to(x)
    others = logits.gather(1, targets)
    room = _COMPETES * (1.0 + logits.abs().amax(1, keepdim=True))
    # Written so that NaN competes.
    row, k = (~(others < others.amax(1, keepdim=True) - room)).nonzero(as_tuple=True)
    upper = x.new_full(targets.shape, torch.inf)
    if len(row) > 0:
        upper[row, k] = upper_margins(margins, x[row], label[row], targets[row, k])
    return upper.min(1)
