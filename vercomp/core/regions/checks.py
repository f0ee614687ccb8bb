"""Checks of a new region: shapes, NaN and empty regions are refused, with the number of the row."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from ..errors import InputError, InputTypeError
from .geometry import Slab

if TYPE_CHECKING:
    from .region import Region

_SMALLEST, _LARGEST = 1e-100, 1e100
"""Scales and directions outside would under- and overflow in products."""


def checked(region: Region) -> Region:
    """The region, unless a row of it is not a number or is provably empty.

    A region whose parts only just meet, or miss each other by less than rounding, passes; every
    bound of it is valid all the same.
    """
    if region.box is not None:
        low, high = region.box
        refuse((low.isnan() | high.isnan()).any(1), "box", "holds NaN")
        refuse((low > high).any(1), "box", "is empty: lo > hi")
    if region.scales is not None:
        usable = (region.scales >= _SMALLEST) & (region.scales <= _LARGEST)
        usable |= region.scales == 0.0
        refuse(~usable.all(1), "scales", "must be zero or between 1e-100 and 1e100")
    if region.slab is not None:
        _check_slab(region.slab)
    return _not_empty(region)


def _check_slab(slab: Slab) -> None:
    direction, low, high = slab
    largest = direction.abs().amax(1)
    usable = (largest >= _SMALLEST) & (largest <= _LARGEST)
    refuse(~usable, "direction of the slab", "must have a length between 1e-100 and 1e100")
    bad = low.isnan() | high.isnan() | (low == torch.inf) | (high == -torch.inf)
    refuse(bad, "slab", "must have ends that are numbers, a < ∞ and b > −∞")
    refuse(low > high, "slab", "is empty: a > b")


def _not_empty(region: Region) -> Region:
    if region.scales is not None and region.box is not None:
        outside = (region.center < region.box[0]) | (region.center > region.box[1])
        away = (outside & (region.scales == 0.0)).any(1)
        refuse(away, "region", "is empty: a frozen feature lies outside the box")
    form = region.geometry
    nearest = torch.clamp(torch.zeros_like(form.lower), form.lower, form.upper)
    # ``norm`` is at most the factor 1 + 4(D + 8)u too large.
    distance = form.kind.norm(nearest) * (1.0 - 8.0 * (nearest.shape[1] + 8) * UNIT_ROUNDOFF)
    empty = (form.lower > form.upper).any(1) | (distance > form.radius)
    refuse(empty, "region", "is empty: the ball does not reach the box")
    if region.slab is not None:
        direction, low, high = region.slab
        rest = replace(region, slab=None)
        ends = rest.minimum(torch.stack([direction, -direction], 1))
        empty = (ends[:, 0] > high) | (-ends[:, 1] < low)
        refuse(empty, "region", "is empty: ball and box do not reach the slab")
    return region


def rows_of(name: str, value: float | Tensor, center: Tensor) -> Tensor:
    """A number, or one for each row, as (B,) in float64.

    Raises:
        InputTypeError: Neither a number nor a tensor.
        InputError: A wrong shape.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        raise InputTypeError(f"{name} must be a number or a tensor, got {type(value).__name__}")
    tensor = torch.as_tensor(value, dtype=center.dtype, device=center.device).detach()
    if tensor.shape not in ((), (len(center),)):
        raise InputError(
            f"{name} must be a number or have the shape ({len(center)},), got {tuple(tensor.shape)}"
        )
    return tensor.expand(len(center)).clone()


def radius_of(radius: float | Tensor, center: Tensor) -> Tensor:
    """The radius of each row, (B,).

    Raises:
        InputTypeError: Neither a number nor a tensor.
        InputError: A wrong shape, or a radius that is negative, infinite or NaN.
    """
    size = rows_of("radius", radius, center)
    refuse(~(torch.isfinite(size) & (size >= 0.0)), "radius", "must be nonnegative and finite")
    return size


def refuse(rows: Tensor, name: str, reason: str) -> None:
    """Refuse an argument for the first of the rows (B,) in which it is wrong."""
    if bool(rows.any()):
        raise InputError(f"{name} of row {int(rows.nonzero()[0, 0])} {reason}")
