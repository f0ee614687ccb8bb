"""A set of inputs for each row of a batch: a ball, cut by a box and by a slab.

    {x : ‖(x − x₀) ⊘ s‖_p ≤ r,   lo ≤ x ≤ hi,   a ≤ u·(x − x₀) ≤ b}

Everything that a caller learns of a region is proved in float64: minima of linear functions are
rounded down, enclosures outward, and a point is called a member only if it is one in real
arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor

from ..arithmetic.outward import SMALLEST, UNIT_ROUNDOFF, down, times_up
from ..errors import InputError
from .ball_kind import BallKind
from .bound import lower_bound
from .checks import checked, radius_of, refuse, rows_of
from .extents import extents
from .geometry import Geometry, Slab, geometry, scaled_rows
from .rounding import add_down, add_up, distance_up, divide_up, norm2_up, sum_up
from .search import solve

_BLOCK_ENTRIES = 2**18
"""Of linear functions so many entries are treated at a time: what stays in the cache is faster."""

_INWARD = (0.0, 2.0**-48, 2.0**-40, 2.0**-30, 2.0**-20, 2.0**-10)
"""Shares by which a region is drawn inward, in turn, until a point in it is proved a member."""

_FAR = 1e60
"""A point further away than so many extents of the region is moved nearer before projecting it."""


@dataclass(frozen=True, eq=False)
class Region:
    """Sets of inputs, one for each of B rows. :func:`Ball` and :func:`Box` make and check them.

    All tensors are in float64 and flat; ``shape`` is the shape of an input, of D entries.

    Args:
        kind: The kind of ball.
        shape: The shape of one input.
        center: x₀, (B, D).
        radius: r, (B,); infinite where there is only a box.
        box: lo and hi, (B, D) each, or None.
        slab: u, a and b, or None.
        scales: s, (B, D); None stands for ones. A feature of scale zero is frozen at x₀.
    """

    kind: BallKind
    shape: tuple[int, ...]
    center: Tensor
    radius: Tensor
    box: tuple[Tensor, Tensor] | None = None
    slab: Slab | None = None
    scales: Tensor | None = None

    def __len__(self) -> int:
        return len(self.center)

    @cached_property
    def geometry(self) -> Geometry:
        """The region in coordinates that are safe to compute in."""
        return geometry(self.kind, self.center, self.radius, self.box, self.scales, self.slab)

    # Bounds

    def minimum(self, g: Tensor, error: Tensor | None = None, *, quick: bool = False) -> Tensor:
        """Proved lower bounds of min g·(x − x₀) over the region, shape (B, K).

        The function vanishes at x₀, so that a small region has a small minimum and nothing cancels;
        the caller adds the value at x₀. Where g is not finite, the bound is −∞. A row's bound
        depends on that row alone, except for the order in which torch adds up the products, which
        may depend on the number of rows: both results are proved.

        Args:
            g: K linear functions for each row, (B, K, D) or (B, K, *shape).
            error: Bounds of the 2-norm error of each g, (B, K); None if g is exact.
            quick: Whether bounds that are nearly as good will do, where the best ones have to be
                searched: in a ball that a box clips.

        Raises:
            InputError: A wrong shape, or a negative error.
        """
        functions, _ = self._points(g, "linear functions", several=True)
        count = functions.shape[1]
        if self.is_ball and error is None:
            return self._ball_minimum(functions)
        flat = functions.reshape(-1, functions.shape[2])
        owner = torch.arange(len(self), device=flat.device).repeat_interleave(count)
        rows = max(1, _BLOCK_ENTRIES // max(1, flat.shape[1]))
        blocks = [
            lower_bound(
                self.geometry.rows(owner[start : start + rows]),
                flat[start : start + rows],
                quick=quick,
            )
            for start in range(0, len(flat), rows)
        ]
        bounds = torch.cat(blocks) if blocks else flat.new_empty(0)
        bounds = bounds.reshape(len(self), count)
        if error is None:
            return bounds
        if error.shape != bounds.shape or bool((error < 0.0).any()):
            raise InputError(
                f"errors of linear functions must be nonnegative and of the shape "
                f"{tuple(bounds.shape)}, got {tuple(error.shape)}"
            )
        lost = times_up(error.to(bounds), self.farthest()[:, None].expand_as(bounds))
        return torch.nan_to_num(down(bounds - lost), nan=-torch.inf, neginf=-torch.inf)

    @property
    def is_ball(self) -> bool:
        """Whether the region is a ball and nothing else, with one radius for all features."""
        return self.box is None and self.slab is None and self.scales is None

    def _ball_minimum(self, g: Tensor) -> Tensor:
        """−r‖g‖_*."""
        least = -times_up(self.radius[:, None], self.kind.dual_norm(g))
        least = least.clamp(min=-torch.finfo(least.dtype).max)
        return torch.where(g.isfinite().all(-1), least, -torch.inf)

    @cached_property
    def extents(self) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds of the coordinates in the geometry, those of a slab as well."""
        return extents(self.geometry)

    def farthest(self) -> Tensor:
        """Upper bounds (B,) of ‖x − x₀‖₂ over the region, rounded up."""
        region, (lower, upper) = self.geometry, self.extents
        extent = torch.maximum(lower.abs(), upper.abs())
        scales = torch.ones_like(extent) if self.scales is None else self.scales
        corner = times_up(norm2_up(times_up(extent, scales)), region.unit)
        return torch.minimum(corner, times_up(self.radius, self.kind.reach(scales)))

    def interval(self) -> tuple[Tensor, Tensor]:
        """An enclosing box: lower and upper ends, (B, D) each, rounded outward.

        It is that of the ball, cut by the user's box, and by what the slab leaves of both alone:
        the smallest one of l1 and l2 balls with a slab, and of boxes with a slab.
        """
        region, scales = self.geometry, self.scales
        down_by, up_by = self.extents[0].neg(), self.extents[1]
        if scales is not None:
            down_by, up_by = _signed_times_up(down_by, scales), _signed_times_up(up_by, scales)
        unit = region.unit[:, None]
        lower = add_down(self.center, -_signed_times_up(down_by, unit, exact=True))
        upper = add_up(self.center, _signed_times_up(up_by, unit, exact=True))
        if self.box is not None:
            lower, upper = torch.maximum(lower, self.box[0]), torch.minimum(upper, self.box[1])
        return lower, upper

    def contains(self, x: Tensor) -> Tensor:
        """Whether points are proved to lie in the region.

        Args:
            x: One point for each row, (B, *shape) or (B, D), or n points, (B, n, *shape).

        Returns:
            (B,) or (B, n); False where float64 cannot tell, or x is not finite.

        Raises:
            InputError: A wrong shape.
        """
        points, single = self._points(x, "points")
        center = self.center[:, None]
        away = distance_up(points, center.expand_as(points))
        if self.scales is not None:
            scales = self.scales[:, None].expand_as(points)
            there = divide_up(away, torch.where(scales == 0.0, 1.0, scales))
            away = torch.where((scales == 0.0) & (away > 0.0), torch.inf, there)
        inside = (self.kind.norm(away) <= self.radius[:, None]) & points.isfinite().all(-1)
        if self.box is not None:
            low, high = (end[:, None] for end in self.box)
            inside &= ((low <= points) & (points <= high)).all(-1)
        if self.slab is not None:
            direction, low, high = (part[:, None] for part in self.slab)
            offset = points - center
            products = direction * offset
            size = sum_up(products.abs())
            slack = 4.0 * (points.shape[-1] + 4) * UNIT_ROUNDOFF * size + 2.0 * SMALLEST * (
                offset != 0.0
            ).sum(-1)
            position = products.sum(-1)
            inside &= (add_down(position, -slack) >= low) & (add_up(position, slack) <= high)
        return inside[:, 0] if single else inside

    # Points

    def argmin(self, g: Tensor) -> Tensor:
        """Points of the region where g·(x − x₀) is nearly least; shaped as g, (B, K, …).

        Raises:
            InputError: A wrong shape, or a region in which no float64 point can be proved to lie.
        """
        functions, _ = self._points(g, "linear functions", several=True)
        scale = functions.abs().amax(-1, keepdim=True)
        functions = functions / torch.where(scale > 0.0, scale, 1.0)

        def least(region: Geometry, g: Tensor) -> Tensor:
            scaled = g if region.scales is None else g * region.scales
            return solve(region, scaled).point

        return self._made(functions, least).reshape(g.shape)

    def descent(self, g: Tensor) -> Tensor:
        """Offsets x − x₀ (B, K, D) at which g·(x − x₀) is nearly least, without any promise.

        It is what a search needs of :meth:`minimum`: the gradient of the minimum with respect to g.

        Args:
            g: K linear functions for each row, (B, K, D).
        """
        batch, count, size = g.shape
        if self.kind.is_box and self.slab is None:
            ends = (end - self.center for end in self.interval())
            low, high = (end.to(g.dtype)[:, None] for end in ends)
            return torch.where(g > 0.0, low, high)
        flat = g.detach().to(self.center).reshape(-1, size)
        owner = torch.arange(batch, device=flat.device).repeat_interleave(count)
        rows = max(1, _BLOCK_ENTRIES // max(1, size))
        found = []
        for start in range(0, len(flat), rows):
            region = self.geometry.rows(owner[start : start + rows])
            scaled, _ = scaled_rows(flat[start : start + rows], region.scales)
            offset = _rough_minimiser(region, scaled) * region.unit[:, None]
            found.append(offset if region.scales is None else offset * region.scales)
        return torch.cat(found).reshape(g.shape) if found else torch.zeros_like(flat)

    def project(self, x: Tensor) -> Tensor:
        """The points of the region nearest to x in the 2-norm, up to rounding; shaped as x.

        A point that :meth:`contains` proves a member stays; every returned point is one.

        Raises:
            InputError: A wrong shape, or a region in which no float64 point can be proved to lie.
        """
        points, _ = self._points(x, "points")
        center = self.center[:, None]

        def nearest(region: Geometry, offset: Tensor) -> Tensor:
            offset = offset / region.unit[:, None]
            # From very far away only the direction counts, and its square must not overflow.
            size = offset.abs().amax(-1, keepdim=True)
            offset = offset * torch.clamp(_FAR / size, max=1.0)
            if region.scales is None:
                return solve(region, -offset, offset.new_ones(1)).point
            return solve(region, -region.scales * offset, region.scales.square()).point

        made = self._made(points - center, nearest)
        members = self.contains(points.reshape(*points.shape[:2], *self.shape))
        return torch.where(members[..., None], points, made).reshape(x.shape)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Random points of the region, (B, count, *shape).

        Points of the ball (or box), spread evenly before the features' scales, are projected onto
        the rest of the region: no distribution is promised, and faces get more than their share.

        Raises:
            InputError: A region in which no float64 point can be proved to lie.
        """
        size = self.center.shape[1]
        drawn = self.kind.draw(len(self) * count, size, generator)
        drawn = drawn.reshape(len(self), count, size).to(self.center)
        if self.radius.isinf().any():
            low, high = self.interval()
            middle, half = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
            points = middle[:, None] + half[:, None] * drawn
        else:
            scales = 1.0 if self.scales is None else self.scales[:, None]
            points = self.center[:, None] + self.radius[:, None, None] * (scales * drawn)
        return self.project(points).reshape(len(self), count, *self.shape)

    # Other regions

    def scaled(self, radius: float | Tensor) -> Region:
        """The same region with another radius, a number or (B,).

        Raises:
            InputError: A region without a ball, a radius that is not one, or an empty region.
        """
        if self.radius.isinf().any():
            raise InputError("a box has no radius to change")
        return checked(replace(self, radius=radius_of(radius, self.center)))

    def split(
        self, at: float | Tensor | None = None, coordinate: int | Tensor | None = None
    ) -> tuple[Region, Region]:
        """Two regions that cover this one and meet in a plane, cut at the same float64 number.

        A part may be empty where the other parts of the region leave nothing of it. That is no
        fault here: what is proved of it holds all the same.

        Args:
            at: Where to cut, a number or (B,): a value of the coordinate, or of u·(x − x₀). The
                middle of the region's extent if None.
            coordinate: The entry of the flat input to cut along, one for all or (B,); the slab's
                direction if None.

        Raises:
            InputError: No slab and no coordinate, or a cut outside the enclosing box or the slab.
        """
        if coordinate is None:
            if self.slab is None:
                raise InputError("a region without a slab is split along a coordinate: name one")
            direction, low, high = self.slab
            if at is None:
                ends = self.minimum(torch.stack([direction, -direction], 1))
                at = torch.clamp(0.5 * (ends[:, 0] - ends[:, 1]), low, high)
            cut = rows_of("place of the cut", at, self.center)
            refuse(~((low <= cut) & (cut <= high)), "place of the cut", "lies outside the slab")
            slabs = Slab(direction, low, cut), Slab(direction, cut, high)
            return replace(self, slab=slabs[0]), replace(self, slab=slabs[1])
        index = torch.as_tensor(coordinate, device=self.center.device).expand(len(self))[:, None]
        lower, upper = self.interval()
        ends = torch.cat([lower.gather(1, index), upper.gather(1, index)], 1)
        cut = rows_of("place of the cut", ends.mean(1) if at is None else at, self.center)
        within = (ends[:, 0] <= cut) & (cut <= ends[:, 1])
        refuse(~within, "place of the cut", "lies outside the region")
        below = lower, upper.scatter(1, index, cut[:, None])
        above = lower.scatter(1, index, cut[:, None]), upper
        return replace(self, box=below), replace(self, box=above)

    def rows(self, index: Tensor | slice) -> Region:
        """The regions of some rows."""
        return self._each(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Region:
        """The same regions on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Region:
        changed: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = change(value)
            elif isinstance(value, Slab):
                changed[field.name] = Slab(*map(change, value))
            elif field.name == "box" and value is not None:
                changed[field.name] = tuple(map(change, value))
        return replace(self, **changed)  # type: ignore[arg-type]

    def _points(self, x: Tensor, name: str, several: bool = False) -> tuple[Tensor, bool]:
        """x as (B, n, D) in float64, and whether it had one point for each row."""
        batch, size = self.center.shape
        for shape in (self.shape, (size,)):
            lead = x.ndim - len(shape)
            if lead in ((2,) if several else (1, 2)) and x.shape[lead:] == shape:
                if len(x) == batch:
                    middle = x.shape[1] if lead == 2 else 1
                    return x.detach().to(self.center).reshape(batch, middle, size), lead == 1
                break
        raise InputError(
            f"{name} must have the shape ({batch}, {'K' if several else '[n]'}, "
            f"{', '.join(map(str, self.shape))}), got {tuple(x.shape)}"
        )

    def _made(self, data: Tensor, make: Callable[[Geometry, Tensor], Tensor]) -> Tensor:
        """Points (B, n, D) that ``make`` finds from data (B, n, D), moved until they are members.

        Making a point rounds; the region is drawn inward until the rounded point is inside.
        """
        batch, count, size = data.shape
        owner = torch.arange(batch, device=data.device).repeat_interleave(count)
        flat = data.reshape(-1, size)
        points = torch.empty_like(flat)
        missing = torch.arange(len(flat), device=data.device)
        for share in _INWARD:
            if not len(missing):
                break
            of = self.rows(owner[missing])
            region = of.geometry if share == 0.0 else of.geometry.shrunk(share)
            found = of._placed(make(region, flat[missing]))
            member = of.contains(found.reshape(len(found), *self.shape))
            points[missing[member]] = found[member]
            missing = missing[~member]
        if len(missing):
            raise InputError(
                f"no float64 point can be proved to lie in the region of row "
                f"{int(owner[missing[0]])}: it is too thin, or empty"
            )
        return points.reshape(batch, count, size)

    def _placed(self, y: Tensor) -> Tensor:
        """x₀ + t s ⊙ y, each entry rounded towards x₀, and clipped to the box."""
        offset = y * self.geometry.unit[:, None]
        if self.scales is not None:
            offset = offset * self.scales
        point = self.center + offset
        beyond = distance_up(point, self.center) > offset.abs()
        point = torch.where(beyond, torch.nextafter(point, self.center), point)
        return point if self.box is None else torch.clamp(point, *self.box)


def _rough_minimiser(region: Geometry, g: Tensor) -> Tensor:
    """A point (N, D) at which g·y is nearly least, in the region or near it."""
    if region.slab is not None:
        nu = region.kind.slab_multiplier(g, region.radius, *region.slab)
        if nu is not None:  # the best one without the box
            g = g - nu[:, None] * region.slab.direction
            region = replace(region, slab=None)
    if region.kind.smooth and region.slab is None and not region.clipped:
        mu = region.kind.multiplier_scale(g, region.radius)
        return region.kind.shrink(g, g.new_zeros(1), mu, region.lower, region.upper)
    return solve(region, g).point


def _signed_times_up(a: Tensor, factor: Tensor, exact: bool = False) -> Tensor:
    """a · factor for factor ≥ 0 and any sign of a, rounded up; ``exact`` for powers of two."""
    product = a * factor
    rounded = torch.nextafter(product, torch.full_like(product, torch.inf))
    zero = (a == 0.0) | (factor == 0.0)
    if exact:
        zero |= product / factor == a
    return torch.where(zero, product, rounded)
