"""How searches move in a region: steps and projections of offsets from x₀, in any dtype.

Nothing here is proved: a point that a search returns is made a member by :meth:`Region.project`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .geometry import Slab
from .region import Region

_ROUNDS = 6
"""Rounds in which the parts of a region are brought together."""


class Moves:
    """Moves of one offset v = x − x₀ in each of N regions.

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
        self.boxed = bool(region.radius.isinf().any())
        if self.boxed:  # there is no ball: half the width of the box is the unit
            low, high = region.interval()
            self.scales = (0.5 * high - 0.5 * low).to(dtype)
            self.radius = torch.ones_like(self.radius)
        self.slab = None if region.slab is None else Slab(*(part.to(dtype) for part in region.slab))
        self.centered = around and self.slab is None

    def rows(self, index: Tensor) -> Moves:
        """The moves in the regions of some rows."""
        return Moves(self.region.rows(index), self.dtype)

    def smaller(self, share: float) -> Moves:
        """The moves in the same regions with a share of the radius; in these where there is none.

        Regions whose center may lie outside of them have no smaller ones.
        """
        if not self.centered or self.boxed:
            return self
        return Moves(self.region.scaled(share * self.region.radius), self.dtype)

    def project(self, v: Tensor) -> Tensor:
        """Offsets of points of the regions near to those of v (N, D).

        Where the center lies in the box and there is no slab, those of ball and box. Otherwise the
        point is brought into the box, the slab and the ball in turn, and may lie a little outside
        of the region.
        """
        if self.centered and not self.boxed:
            return self._into_ball_and_box(v)
        for _ in range(1 if self.centered else _ROUNDS):
            if self.box is not None:
                v = torch.clamp(v, *self.box)
            if self.slab is not None:
                direction, low, high = self.slab
                position = (direction * v).sum(1)
                beyond = position - torch.clamp(position, low, high)
                v = v - (beyond / direction.square().sum(1))[:, None] * direction
            if not self.boxed:
                v = self._into_ball(v)
        return v

    def _into_ball_and_box(self, v: Tensor) -> Tensor:
        """The nearest point of a ball that is large enough for its part in the box to fill r.

        The radius ρ grows by what the clipped point lacks. Clipping shortens, and the more the
        larger ρ is, so that the point never leaves the ball of radius r.
        """
        if self.box is None:
            return self._into_ball(v)
        rho = self.radius
        for _ in range(1 if self.region.kind.is_box else _ROUNDS):
            point = torch.clamp(self._into_ball(v, rho), *self.box)
            rho = rho + (self.radius - self._size(self._in_units(point))).clamp_min(0.0)
        return point

    def _into_ball(self, v: Tensor, radius: Tensor | None = None) -> Tensor:
        """Into the balls, in their own coordinates; frozen features do not move."""
        y, radius = self._in_units(v), self.radius if radius is None else radius
        found = self.region.kind.nearest(y, radius)
        if found is None:
            size = self._size(y).clamp_min(torch.finfo(y.dtype).tiny)
            found = y * (radius / size).clamp_max(1.0)[:, None]
        return found if self.scales is None else found * self.scales

    def _in_units(self, v: Tensor) -> Tensor:
        """y = v ⊘ s."""
        if self.scales is None:
            return v
        divisor = torch.where(self.scales == 0.0, 1.0, self.scales)
        return torch.where(self.scales == 0.0, 0.0, v / divisor)

    def _size(self, y: Tensor) -> Tensor:
        return self.region.kind.norm(y).to(y)

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
