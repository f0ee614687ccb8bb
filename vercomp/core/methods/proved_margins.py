"""Margins in float64: rounded up at points, which makes a witness, and bounded over regions."""

from __future__ import annotations

import torch
from torch import Tensor

from ..bounds import BoundedNetwork
from ..network import VerifiedNetwork
from ..regions.constructors import Ball
from ..regions.region import Region
from ..specifications import Specification
from .curvature import Curvature
from .interval import IntervalBounds
from .pairs import Classifier, Margins

_COMPETES = 1e-4
"""Logits closer than this, relative to the largest, may swap when evaluated in float64."""


def is_bounded(network: Classifier) -> bool:
    """Whether a network has bounds of its curvature, its norms and its rounding."""
    return isinstance(network, BoundedNetwork) or not isinstance(network, VerifiedNetwork)


def upper_margins(margins: Margins, x: Tensor, label: Tensor, target: Tensor) -> Tensor:
    """Upper bounds (P,) of z_y − z_t at flat points x (P, D) in float64, rounding included.

    Networks with bounds of their norms are evaluated with an error; others as intervals.
    """
    network = margins.network
    if is_bounded(network) or not isinstance(network, VerifiedNetwork):
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


def least_lower_bound(margins: Margins, region: Region, label: Tensor, targets: Tensor) -> Tensor:
    """Proved: in no region is the least of the K margins (B, K) smaller than this, (B,).

    From the bounds that take one look at the region; −∞ where none can take the network.
    """
    network = margins.network
    bound = torch.full_like(region.radius, -torch.inf)
    if not isinstance(network, VerifiedNetwork) or len(label) == 0:
        return bound
    _, graph = network.in_double()
    rows = Specification.of(margins.coefficients(label[:, None], targets))
    for method in (Curvature(), IntervalBounds()):
        if not method.requires(graph) and (is_bounded(network) or method.name != "curvature"):
            bound = torch.maximum(bound, method.bound(network, region, rows).amin(1))
    return bound
