"""How far values and slopes of activations move in regions around a point.

With v = z(x) − z(x₀) of an activation's input, s its slope at x₀ and [l, u] an interval that holds
z over the region and z(x₀), on it

    |σ′(z) − s| ≤ Δ
    |σ(z) − σ(z(x₀)) − s v| ≤ ω = min(Δ |v|, ½ max |σ″| v² + e |v|),      e ≥ |σ′(z(x₀)) − s|
    |σ′(z) − s − h v| ≤ ρ = min(Δ + |h v|, max |σ″ − h| |v| + e)          for any h, here h ≈ σ″

so that v is B(x − x₀), with the Jacobian B at the point, but for ε = Σ |P_w| ω_w over the
activations w before it, and |v| is at most max |B(x − x₀)| + ε. Intervals come from linear
relaxation over the same region, and are cut with what follows of |v|.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..arithmetic.outward import UNIT_ROUNDOFF, times_up
from ..arithmetic.rounded import Rounded
from ..domains.intervals import RowNorms
from ..domains.refined_intervals import relax
from ..functions import Elementwise
from ..graph import Activate
from ..regions.region import Region
from .products import GUARD, Expansion, Matrix


class Motion(NamedTuple):
    """What is known of one activation over N = B · J regions, J for each of B points: (B, J, n).

    Args:
        slope: Δ.
        value: ω.
        bend: h, (B, n); zero where there is no σ″.
        remainder: ρ.
        drift: ε.
        second: Bounds of σ″; None where there is none.
    """

    slope: Tensor
    value: Tensor
    bend: Tensor
    remainder: Tensor
    drift: Tensor
    second: tuple[Tensor, Tensor] | None


class Neighbourhood:
    """Regions around the points of an expansion.

    Args:
        expansion: The network around B points.
        region: B · J regions, those of one point one after the other, with the point as center.
        rows: Dual norms of rows of the maps that read the input, kept between calls.
    """

    def __init__(self, expansion: Expansion, region: Region, rows: RowNorms | None = None) -> None:
        self.expansion, self.region = expansion, region
        self.count = len(region) // len(expansion.x)
        self.far = region.farthest().reshape(-1, self.count)
        self.intervals = relax(expansion.graph, region, rows).intervals
        self.motions: dict[str, Motion] = {}
        for node in expansion.activations:
            self.motions[node.name] = self._motion(node)

    def reach(self, matrix: Matrix) -> Tensor:
        """Upper bounds (B, J, n) of |M (x − x₀)| over the balls of the regions."""
        region, shape = self.region, (-1, self.count, 1)
        lost = times_up(self.far, matrix.error[:, None].expand_as(self.far))[..., None]
        if bool(region.radius.isinf().any()):
            low, high = region.interval()
            away = torch.maximum(high - region.center, region.center - low)
            away = away * (1.0 + 4.0 * UNIT_ROUNDOFF)
            return matrix.spread(away.reshape(-1, self.count, away.shape[1])) + lost
        if region.scales is None:
            norms = region.kind.dual_norm(matrix.value)[:, None]
        else:
            scales = region.scales.reshape(-1, self.count, region.scales.shape[1])[:, 0]
            scaled = times_up(matrix.value.abs(), scales[:, None].expand_as(matrix.value))
            norms = region.kind.dual_norm(scaled)[:, None]
        return (region.radius.reshape(shape) * norms + lost) * GUARD

    def _motion(self, node: Activate) -> Motion:
        expansion, function = self.expansion, node.function
        at = expansion.values[node.parent]
        slope = expansion.slopes[node.name][:, None]
        drift = self._drift(node)
        away = self._moved(node, at, drift)
        low, high = self._ends(node.parent, at, away)
        doubt = (low.new_zeros(()) + at.error)[:, None, None]
        center = at.value[:, None]
        away = torch.minimum(away, (torch.maximum(high - center, center - low) + doubt) * GUARD)
        least, most = function.range(1, low, high)
        delta = torch.maximum(most - slope, slope - least).clamp_min(0.0) * GUARD
        value, bend, remainder, second = delta * away, torch.zeros_like(slope), delta, None
        if function.second is not None:
            second = function.range(2, low, high)
            bend = function.second(center)
            off = self._slope_error(function, at)[:, None]
            steep = torch.maximum(second[0].abs(), second[1].abs())
            value = torch.minimum(value, 0.5 * steep * away.square() + off * away)
            turn = torch.maximum(second[1] - bend, bend - second[0]).clamp_min(0.0)
            remainder = torch.minimum(delta + bend.abs() * away, turn * away + off)
        return Motion(delta, value * GUARD, bend[:, 0], remainder * GUARD, drift, second)

    def _drift(self, node: Activate) -> Tensor:
        """ε."""
        n = self.expansion.values[node.parent].value.shape[1]
        total = self.far.new_zeros(len(self.far), self.count, n)
        for source, matrix in self.expansion.before(node.parent).items():
            total = (total + matrix.spread(self.motions[source].value)) * GUARD
        return total

    def _moved(self, node: Activate, at: Rounded, drift: Tensor) -> Tensor:
        """|v| by the Jacobian at the point."""
        jacobian = self.expansion.jacobian(node.parent)
        return drift if jacobian is None else (self.reach(jacobian) + drift) * GUARD

    def _ends(self, name: str, at: Rounded, away: Tensor) -> Interval:
        """[l, u]: of the values over the region, and of the value at the point."""
        found = self.intervals[name]
        low, high = (end.reshape(-1, self.count, end.shape[-1]) for end in found)
        doubt = at.error[:, None, None] * GUARD
        center = at.value[:, None]
        reach = (away + doubt) * GUARD + 4.0 * UNIT_ROUNDOFF * center.abs()
        low = torch.fmax(low, center - reach)
        high = torch.fmin(high, center + reach)
        return Interval(torch.minimum(low, center - doubt), torch.maximum(high, center + doubt))

    def _slope_error(self, function: Elementwise, at: Rounded) -> Tensor:
        """e."""
        doubt = at.error[:, None]
        low, high = function.range(1, at.value - doubt, at.value + doubt)
        slope = function.first(at.value)
        return torch.maximum(high - slope, slope - low).clamp_min(0.0) * GUARD
