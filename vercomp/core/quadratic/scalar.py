"""One scalar problem a neuron: the smallest β that makes a quadratic inequality hold.

    φ(z) = c (σ(z) − σ(ẑ) − s v) − ½ T (σ(z) − σ(ẑ) − D v)² + ½ λ v² ≥ −β  on [l, u],    v = z − ẑ

With T = λ = 0 this is the intercept of a line of slope s, with T = β = 0 a bound of the curvature.
ẑ may lie outside the interval; then β may be negative.

Proved, the interval is cut into cells, at kinks first. On a cell with centre m and radius r,

    φ(z) ≥ φ(m) + φ′(m)(z − m) + ½κ (z − m)²,    κ ≤ φ″ = cσ″ − T((σ′ − D)² + wσ″) + λ,

and the minimum of that quadratic function has a closed form: it is off by the third order of r. The
cells with the lowest bounds are cut further. Where σ is a line κ is φ″ and nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from ..functions import Elementwise

_CELLS = 16
"""Cells that an interval is cut into at first."""

_LOWEST = 3
"""Cells that are cut further each time, into :data:`_PARTS`."""

_PARTS = 8
_ROUNDS = 3
_GRID = 24
"""Steps of the grid on which a search looks for minima."""


@dataclass(frozen=True)
class Problem:
    """The scalar problems of a layer: every field (P, n) or broadcasting to it.

    Args:
        c: The coefficient of σ.
        s: The slope.
        T: The weight T ≥ 0 of the second error.
        D: Its slope.
        curvature: λ.
        center: ẑ, up to ``doubt``.
        doubt: Bound of what the true ẑ differs by, (P, 1).
        lower: l.
        upper: u.
    """

    c: Tensor
    s: Tensor
    T: Tensor
    D: Tensor
    curvature: Tensor
    center: Tensor
    doubt: Tensor
    lower: Tensor
    upper: Tensor


def is_straight(function: Elementwise) -> bool:
    """Whether σ is a line between finitely many kinks at float64 numbers."""
    if function.pieces is None or function.pieces[1].period is not None:
        return False
    first = function.pieces[1]
    inner = first.turns[1:-1]
    return set(first.signs) == {"0"} and all(turn.at[0] == turn.at[1] for turn in inner)


def takes(function: Elementwise) -> bool:
    """Whether the scalar problems of σ can be proved."""
    smooth = function.second_range is not None
    return function.pieces is not None and (smooth or is_straight(function))


def kinks(function: Elementwise) -> list[float]:
    """Where the slope of a function of straight pieces jumps; empty for a smooth one."""
    if not is_straight(function) or function.pieces is None:
        return []
    return [turn.at[0] for turn in function.pieces[1].turns[1:-1]]


def deficits(function: Elementwise, problem: Problem) -> Tensor:
    """Proved upper bounds of β, (P, n), in float64; ∞ where it is not a number."""
    cells = _Cells(function, problem)
    lower, upper = problem.lower[..., None], problem.upper[..., None]
    if is_straight(function):
        ends = [lower, *(lower.new_tensor(k).clamp(lower, upper) for k in kinks(function)), upper]
        edges = torch.cat([end.expand_as(lower) for end in ends], -1)
        least = cells.bound(edges[..., :-1], edges[..., 1:]).amin(-1)
        return torch.where(least.isnan(), torch.inf, -least)
    share = torch.linspace(0.0, 1.0, _CELLS + 1, dtype=lower.dtype, device=lower.device)
    edges = lower + (upper - lower) * share
    edges[..., 0], edges[..., -1] = lower[..., 0], upper[..., 0]
    start, end = edges[..., :-1], edges[..., 1:]
    done = torch.full_like(problem.lower, torch.inf)
    parts = torch.linspace(0.0, 1.0, _PARTS + 1, dtype=lower.dtype, device=lower.device)
    for step in range(_ROUNDS + 1):
        found = cells.bound(start, end)
        found = torch.where(found.isnan(), -torch.inf, found)
        if step == _ROUNDS:
            done = torch.minimum(done, found.amin(-1))
            break
        lowest = found.topk(min(_LOWEST, found.shape[-1]), -1, largest=False).indices
        rest = found.scatter(-1, lowest, torch.inf)
        done = torch.minimum(done, rest.amin(-1))
        p, q = start.gather(-1, lowest)[..., None], end.gather(-1, lowest)[..., None]
        edges = p + (q - p) * parts
        edges[..., 0], edges[..., -1] = p[..., 0], q[..., 0]
        start, end = edges[..., :-1].flatten(-2), edges[..., 1:].flatten(-2)
    return torch.where(done.isnan(), torch.inf, -done)


class _Cells:
    """Lower bounds of φ on cells (P, n, K) of the intervals of a layer."""

    def __init__(self, function: Elementwise, problem: Problem) -> None:
        self.function = function
        shape = torch.broadcast_tensors(*vars(problem).values())[0].shape  # type: ignore[no-untyped-call]
        self.c, self.s, self.T, self.D, self.curvature, self.center, self.doubt, _, _ = (
            value.expand(shape)[..., None] for value in vars(problem).values()
        )
        self.value = function.value(self.center)
        self.straight = is_straight(function)
        self.lost = function.rounding(0, self.center, self.value) + 2.0 * function.deviation
        assert function.pieces is not None  # noqa: S101 - takes has looked
        self.steepest = function.pieces[0].steepest

    def bound(self, start: Tensor, end: Tensor) -> Tensor:
        """min φ over cells, rounded down."""
        function, c, T, D = self.function, self.c, self.T, self.D
        m = 0.5 * start + 0.5 * end
        r = torch.maximum(end - m, m - start) * (1.0 + 4.0 * UNIT_ROUNDOFF)
        value, slope = function.value(m), function.first(m)
        v = m - self.center
        rise = value - self.value
        w = rise - D * v
        remainder = rise - self.s * v
        phi = c * remainder - 0.5 * T * w.square() + 0.5 * self.curvature * v.square()
        first = c * (slope - self.s) - T * w * (slope - D) + self.curvature * v
        if self.straight:
            low, high = function.range(1, m, m)
            bend = torch.zeros_like(m)
        else:
            low, high = function.range(1, start, end)
            h_low, h_high = function.range(2, start, end)
            bend = torch.minimum(c * h_low, c * h_high)
        off = torch.maximum((low - D).abs(), (high - D).abs())
        if not self.straight:
            reach = off * r + self._rise_error(m, value, v)[1]
            most = torch.maximum(h_low.abs(), h_high.abs())
            twist = torch.maximum(
                torch.maximum((w - reach) * h_low, (w - reach) * h_high),
                torch.maximum((w + reach) * h_low, (w + reach) * h_high),
            )
            bend = bend - T * twist
            bend = bend - 8.0 * UNIT_ROUNDOFF * (c.abs() * most + T * (w.abs() + reach) * most)
        kappa = bend - T * off.square() + self.curvature
        kappa = kappa - 8.0 * UNIT_ROUNDOFF * (T * off.square() + self.curvature.abs() + bend.abs())
        lost, lost_first = self._lost(m, value, slope, v, w, kappa, r)
        size = first.abs() + lost_first
        inside = (kappa > 0.0) & (size < kappa * r)
        dip = torch.where(
            inside,
            size.square() / (2.0 * torch.where(kappa > 0.0, kappa, 1.0)),
            size * r - 0.5 * kappa * r.square(),
        )
        least: Tensor = phi - dip - lost - 8.0 * UNIT_ROUNDOFF * (phi.abs() + dip.abs())
        return least

    def _lost(
        self,
        m: Tensor,
        value: Tensor,
        slope: Tensor,
        v: Tensor,
        w: Tensor,
        kappa: Tensor,
        r: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """What rounding, and the doubt about ẑ, take from φ(m) and from φ′(m).

        σ(z) − σ(ẑ) is off by e = the rounding of both and g·doubt; v by the doubt.
        """
        function, c, T, D = self.function, self.c.abs(), self.T, self.D.abs()
        u = 4.0 * UNIT_ROUNDOFF
        rise, w_error, away = self._rise_error(m, value, v)
        v_size = v.abs() + away
        w_size = w.abs() + w_error
        s = self.s.abs()
        remainder = rise + s * away + u * (value.abs() + self.value.abs() + s * v_size)
        bent = self.curvature.abs()
        lost = c * remainder + T * w_size * w_error + bent * v_size * away
        lost = lost + u * (c * (value.abs() + self.value.abs() + s * v_size))
        lost = lost + u * (T * w_size.square() + bent * v_size.square())
        steep = function.rounding(1, m, slope) + u * (slope.abs() + s + D)
        lost_first = c * steep + T * (w_error * (slope.abs() + D) + w_size * steep) + bent * away
        lost_first = lost_first + u * (
            c * (slope.abs() + s) + T * w_size * (slope.abs() + D) + bent * v_size
        )
        return 2.0 * lost, 2.0 * lost_first

    def _rise_error(self, m: Tensor, value: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What σ(m) − σ(ẑ), w and v are off by."""
        u, D = 4.0 * UNIT_ROUNDOFF, self.D.abs()
        rise = self.function.rounding(0, m, value) + 2.0 * self.function.deviation + self.lost
        rise = rise + self.steepest * self.doubt
        away = self.doubt + u * (m.abs() + self.center.abs())
        sizes = value.abs() + self.value.abs() + D * (v.abs() + away)
        return rise, rise + D * away + u * sizes, away


@dataclass(frozen=True)
class Grid:
    """Points of the intervals of a layer, on which a search evaluates φ; (K, P, n) each.

    Args:
        v: z − ẑ.
        rise: σ(z) − σ(ẑ).
    """

    v: Tensor
    rise: Tensor

    @staticmethod
    def of(function: Elementwise, center: Tensor, lower: Tensor, upper: Tensor) -> Grid:
        """Points spread evenly, with the kinks."""
        share = torch.linspace(0.0, 1.0, _GRID + 1, dtype=lower.dtype, device=lower.device)
        z = lower + (upper - lower) * share[:, None, None]
        inner = [lower.new_tensor(kink).clamp(lower, upper)[None] for kink in kinks(function)]
        z = torch.cat([z, *inner])
        return Grid(z - center, function.value(z) - function.value(center))

    def deficits(
        self, c: Tensor, s: Tensor, T: Tensor | float, D: Tensor, curvature: Tensor
    ) -> Tensor:
        """β on the grid, (P, n), differentiable in everything but the points."""
        with torch.no_grad():
            place = self._phi(c, s, T, D, curvature, self.v, self.rise).argmin(0)[None]
        v, rise = self.v.gather(0, place)[0], self.rise.gather(0, place)[0]
        return -self._phi(c, s, T, D, curvature, v, rise)

    @staticmethod
    def _phi(
        c: Tensor,
        s: Tensor,
        T: Tensor | float,
        D: Tensor,
        curvature: Tensor,
        v: Tensor,
        rise: Tensor,
    ) -> Tensor:
        w = rise - D * v
        return c * (rise - s * v) - 0.5 * T * w * w + 0.5 * curvature * v * v

    def chords(self) -> tuple[Tensor, Tensor]:
        """The middle of the chord slopes (σ(z) − σ(ẑ))/(z − ẑ), and half of their spread."""
        near = self.v.abs() < 1e-6
        slope = self.rise / torch.where(near, 1.0, self.v)
        low = torch.where(near, torch.inf, slope).amin(0)
        high = torch.where(near, -torch.inf, slope).amax(0)
        none = low.isinf()
        low, high = torch.where(none, 0.0, low), torch.where(none, 0.0, high)
        return 0.5 * (low + high), (0.5 * (high - low)).clamp_min(1e-6)

    def bend(self, c: Tensor, s: Tensor) -> Tensor:
        """The smallest λ ≥ 0 for which β = 0 suffices at T = 0, on the grid; at most 1,000 |c|."""
        near = self.v.abs() < 1e-3
        lacking = -2.0 * c * (self.rise - s * self.v) / torch.where(near, 1.0, self.v).square()
        most = torch.where(near, 0.0, lacking).amax(0).clamp_min(0.0)
        return torch.minimum(most, 1e3 * c.abs())
