"""A region in coordinates that are safe to compute in, one row for each linear function.

With x = x₀ + t s ⊙ y, s the scales of the features and t a power of two, the region is

    ‖y‖ ≤ r,    l ≤ y ≤ h,    a ≤ u·y ≤ b,

where the box [l, h] is always finite: it is the user's box cut with the extents of the ball. t and
the length of u are such that the largest entries of the box and of u lie in [1, 2), so that nothing
that matters under- or overflows. Every number is rounded outward: this region contains the user's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..arithmetic.outward import times_up
from .ball_kind import BallKind
from .rounding import add_down, add_up, divide_down, divide_up, row_unit

_LARGEST = 1e300
"""A face of a slab further out is moved here, which only enlarges the region."""


class Slab(NamedTuple):
    """a ≤ u·v ≤ b for each of N rows; infinite ends are open.

    Args:
        direction: u, (N, D), of any length.
        low: a, (N,).
        high: b, (N,).
    """

    direction: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True, eq=False)
class Geometry:
    """The region of each of N rows.

    Args:
        kind: The kind of ball.
        radius: r, (N,); infinite where there is only a box.
        lower: l, (N, D).
        upper: h, (N, D).
        unit: t, (N,).
        clipped: Whether a box of the user's may cut the ball.
        scales: s, (N, D); None stands for ones.
        slab: The slab in y: u is multiplied by s already; None if there is none.
    """

    kind: BallKind
    radius: Tensor
    lower: Tensor
    upper: Tensor
    unit: Tensor
    clipped: bool
    scales: Tensor | None = None
    slab: Slab | None = None

    def rows(self, index: Tensor) -> Geometry:
        """The rows of an index."""
        return replace(
            self,
            radius=self.radius[index],
            lower=self.lower[index],
            upper=self.upper[index],
            unit=self.unit[index],
            scales=None if self.scales is None else self.scales[index],
            slab=None if self.slab is None else Slab(*(part[index] for part in self.slab)),
        )

    def with_slab(self, direction: Tensor, low: Tensor, high: Tensor) -> Geometry:
        """The same ball and box with another slab, in these coordinates."""
        return replace(self, slab=Slab(direction, low, high))

    def shrunk(self, share: float) -> Geometry:
        """The region drawn inward by a share of its size: room for rounding in a made point."""
        nearest = torch.clamp(torch.zeros_like(self.lower), self.lower, self.upper)
        rest = self.radius - self.kind.norm(nearest)
        found = replace(
            self,
            radius=torch.where(torch.isfinite(self.radius), self.radius - share * rest, torch.inf),
            lower=self.lower + share * (nearest - self.lower),
            upper=self.upper + share * (nearest - self.upper),
        )
        if self.slab is None:
            return found
        direction = self.slab.direction
        ends = direction * self.lower, direction * self.upper
        low = torch.maximum(self.slab.low, torch.minimum(*ends).sum(-1))
        high = torch.minimum(self.slab.high, torch.maximum(*ends).sum(-1))
        inward = share * (high - low)
        return found.with_slab(direction, low + inward, high - inward)


def geometry(
    kind: BallKind,
    center: Tensor,
    radius: Tensor,
    box: tuple[Tensor, Tensor] | None,
    scales: Tensor | None,
    slab: Slab | None,
) -> Geometry:
    """The normal form of a region with center (B, D), box ends (B, D) and a slab."""
    extents = times_up(radius[:, None], kind.extents(center.shape[1]).to(center)[None])
    lower, upper = -extents, extents
    if box is not None:
        low, high = add_down(box[0], -center), add_up(box[1], -center)
        if scales is not None:
            # A frozen feature stays at the center, which lies in the box.
            frozen, divisor = scales == 0.0, torch.where(scales == 0.0, 1.0, scales)
            low = torch.where(frozen, 0.0, divide_down(low, divisor))
            high = torch.where(frozen, 0.0, divide_up(high, divisor))
        lower, upper = torch.maximum(lower, low), torch.minimum(upper, high)
    elif scales is not None:
        lower, upper = (torch.where(scales == 0.0, 0.0, end) for end in (lower, upper))
    unit = row_unit(torch.maximum(lower.abs(), upper.abs()))
    found = Geometry(
        kind,
        divide_up(radius, unit),
        divide_down(lower, unit[:, None]),
        divide_up(upper, unit[:, None]),
        unit,
        box is not None,
        scales,
    )
    return found if slab is None else _with_slab(found, *slab)


def _with_slab(found: Geometry, direction: Tensor, low: Tensor, high: Tensor) -> Geometry:
    scaled, length = scaled_rows(direction, found.scales)
    low = divide_down(divide_down(low, found.unit), length)
    high = divide_up(divide_up(high, found.unit), length)
    slab = Slab(scaled, torch.clamp(low, max=_LARGEST), torch.clamp(high, min=-_LARGEST))
    return replace(found, slab=slab)


def scaled_rows(g: Tensor, scales: Tensor | None) -> tuple[Tensor, Tensor]:
    """g ⊙ s and a power of two c for each row, so that the largest entry of g ⊙ s / c is in [1, 2).

    Each entry is rounded once, by a relative u and by at most 1e-200 of the row's largest entry
    where it underflows: scales lie between 1e-100 and 1e100, or are zero.
    """
    if scales is not None:
        g = torch.where(scales == 0.0, 0.0, g)
    first = row_unit(g)
    g = g / first[:, None]
    if scales is None:
        return g, first
    g = g * scales
    second = row_unit(g)
    return g / second[:, None], first * second
