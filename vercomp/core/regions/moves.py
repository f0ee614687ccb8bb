"""How searches move in a region: steps and projections of offsets from x₀, in any dtype.

Nothing here is proved: a point that a search returns is made a member by :meth:`Region.project`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .region import Region


class Moves:
    """Moves of one offset v = x − x₀ in each of N regions.

    A ball that is cut by a box around its center has closed forms: offsets are clipped, then
    brought into the ball, which gives a point of both, and the nearest where the box clips nothing.
    Other intersections are left to the region.

    Args:
        region: The regions.
        dtype: What the search computes in.
    """

    def __init__(self, region: Region, dtype: torch.dtype) -> None:
        self.region, self.dtype = region, dtype
        self.center = region.center.to(dtype)
        self.box: tuple[Tensor, Tensor] | None = None
        around = True
        if region.box is not None:
            low, high = (end - region.center for end in region.box)
            around = bool(((low <= 0.0) & (high >= 0.0)).all())
            self.box = low.to(dtype), high.to(dtype)
        self.scales = None if region.scales is None else region.scales.to(dtype)
        self.radius = region.radius.to(dtype)
        if bool(region.radius.isinf().any()):  # a box alone: half its width is the unit
            low, high = region.interval()
            self.scales, self.radius = (
                (0.5 * high - 0.5 * low).to(dtype),
                torch.ones_like(self.radius),
            )
        self.closed = around and region.slab is None and region.scales is None
        self.closed = (
            self.closed and region.kind.nearest(self.center[:0], self.radius[:0]) is not None
        )

    def rows(self, index: Tensor) -> Moves:
        """The moves in the regions of some rows."""
        return Moves(self.region.rows(index), self.dtype)

    def project(self, v: Tensor) -> Tensor:
        """Offsets of points of the regions near to those of v (N, D)."""
        if not self.closed:
            points = self.region.project(self.region.center + v.double())
            return (points - self.region.center).to(v)
        if self.box is not None:
            v = torch.clamp(v, *self.box)
        if self.region.radius.isinf().any():
            return v
        found = self.region.kind.nearest(v, self.radius)
        assert found is not None  # noqa: S101 - that is what ``closed`` says
        return found

    def steepest(self, g: Tensor, v: Tensor, share: float = 0.05) -> Tensor:
        """Steps (N, D) of the length of the radius along which g·v falls fast.

        Coordinates that would leave the box at once stay. See :meth:`BallKind.steepest`.
        """
        if self.scales is not None:
            g = g * self.scales
        if self.box is not None:
            low, high = self.box
            g = torch.where(((v <= low) & (g > 0.0)) | ((v >= high) & (g < 0.0)), 0.0, g)
        step = self.radius[:, None] * self.region.kind.steepest(g, share)
        return step if self.scales is None else step * self.scales

    def least(self, g: Tensor) -> Tensor:
        """Offsets (N, K, D) where g·v is nearly least, for linear functions g (N, K, D)."""
        points = self.region.argmin(g.double())
        return (points - self.region.center[:, None]).to(g)

    def spread(self, unit: Tensor) -> Tensor:
        """Offsets (N, D) of points of the unit ball (D,) or (N, D), brought into the regions."""
        v = self.radius[:, None] * unit.to(self.radius)
        return self.project(v if self.scales is None else v * self.scales)
