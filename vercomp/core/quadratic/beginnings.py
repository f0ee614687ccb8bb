"""Where searches begin: from the network's curvature, from linear relaxation, or in between.

From the curvature: tangents at ẑ, the middle chords, and the λ that makes β vanish there. From
linear relaxation: its lines, with λ = 0, which give no form at all; the bound is then that of the
lines. In between, the activations next to the output have lines and the others curvature. Of all
these the best one at the start is taken, for each problem by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..functions import Elementwise
from ..graph import Activate
from .parameters import ByNode, Parameters
from .scalar import kinks
from .search import Search

_SHARE = 0.4
"""θ at the start: T is 1/θ times as large as it must be."""

SlopesOfLines = Mapping[str, tuple[Tensor, Tensor]]
"""For each activation the slopes (P, n) of the lines below and above it."""


def beginning(search: Search, lines: SlopesOfLines) -> tuple[Parameters, ByNode]:
    """The best of the beginnings for each problem, and the scales of changes of its curvatures."""
    names = [node.name for node in search.bending]
    best, scales = mixed(search, lines, frozenset())
    value = search.checked(best)
    for count in range(1, len(names) + 1):
        other, other_scales = mixed(search, lines, frozenset(names[-count:]))
        estimate = search.checked(other)
        better = estimate > value
        value = torch.where(better, estimate, value)
        best = other.where(better, best)
        scales = {
            name: torch.where(better[:, None], scale, scales[name])
            for name, scale in other_scales.items()
        }
    return best, scales


def mixed(
    search: Search, lines: SlopesOfLines, straight: frozenset[str]
) -> tuple[Parameters, ByNode]:
    """Parameters where some activations have lines and no curvature, and the scales of changes."""
    slopes: ByNode = {}
    curvatures: ByNode = {}
    scales: ByNode = {}

    def slope(node: Activate, c: Tensor) -> Tensor:
        name = node.name
        center, ends = search.centers[node.parent], search.intervals[node.parent]
        tangent, bend, bent = _tangent(node.function, c, center, ends)
        bend = torch.where(bent, bend, search.grids[name].bend(c, tangent))
        scales[name] = 0.3 * bend + 1e-3
        if name in straight:
            below, above = lines[name]
            slopes[name] = torch.where(c > 0.0, below, above)
            curvatures[name] = torch.zeros_like(bend)
        else:
            slopes[name], curvatures[name] = tangent, bend
        return slopes[name]

    search.coefficients(slope)
    chords = {name: search.grids[name].chords() for name in search.inner}
    found = Parameters(
        slopes,
        curvatures,
        {name: middle for name, (middle, _) in chords.items()},
        {name: 1.0 / spread for name, (_, spread) in chords.items()},
        {name: torch.full_like(search.start, _SHARE) for name in search.inner},
    )
    # One scalar problem then starts no worse than two: λ takes what T needs.
    spreads = {name: chords[name][1] for name in search.inner if name not in straight}
    weights = search.forms(found, spreads)[1]
    for name, spread in spreads.items():
        found.curvatures[name] = curvatures[name] + weights[name] * spread.square()
        scales[name] = 0.3 * found.curvatures[name] + 1e-3
    return found, scales


def _tangent(
    function: Elementwise, c: Tensor, z: Tensor, ends: Interval
) -> tuple[Tensor, Tensor, Tensor]:
    """The tangent's slope at ẑ; where c σ has a concave kink inside, a parabola's, with its λ.

    Above max(0, z) lies the parabola (z + w)²/(4w) for every w > 0: its slope at ẑ is (ẑ + w)/(2w)
    and its curvature 1/(2w).
    """
    slope, bend = function.first(z), torch.zeros_like(z)
    bent = torch.zeros_like(z, dtype=torch.bool)
    for kink in kinks(function):
        below, above = (function.first(z.new_tensor(kink + side)) for side in (-1e-3, 1e-3))
        jump = above - below
        w = ((z - kink).square() + 0.2 * (0.5 * (ends.upper - ends.lower)).square()).sqrt()
        w = w.clamp_min(1e-6)
        inside = (ends.lower < kink) & (kink < ends.upper) & (c * jump < 0.0)
        share = ((z - kink + w) / (2.0 * w)).clamp(0.0, 1.0)
        slope = torch.where(inside, below + jump * share, slope)
        bend = torch.where(inside, (c * jump).abs() / (2.0 * w), bend)
        bent |= inside
    return slope, bend, bent
