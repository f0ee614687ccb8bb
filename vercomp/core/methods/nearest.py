"""The nearest points found at which another class takes over: upper bounds of every radius.

For each pair of an input and a target the margin f = z_y − z_t is followed to its zero, in two
ways:

* *tangents* (DeepFool, Moosavi-Dezfooli et al. 2016; in any norm as in FAB, Croce and Hein 2020):
  towards the point nearest to x₀ on the hyperplane f(x) + ∇f(x)·(x′ − x) = 0;
* *balls* (Rony et al., *Decoupling direction and norm*, 2019): steepest descent on a sphere around
  x₀ that shrinks below the best point where f ≤ 0 and grows elsewhere.

The segment from x₀ to the nearest point found with f ≤ 0 is then halved down to the boundary.
Nothing here bounds anything from below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TypedDict

import torch
from torch import Tensor

from ..inputs import check_count, check_inputs, check_limits, target_table
from ..regions.ball_kind import BallKind, ball_kind
from ..regions.constructors import Ball
from ..regions.moves import Moves
from .pairs import Classifier, Margins, chunks, flattened, own_gradient_mode, placement
from .proved_margins import upper_margins

_TANGENTS = 8
"""Steps to tangents, before the balls."""

_GROWTH = (0.3, 0.02)
"""Shares by which a ball grows or shrinks, at first and at last."""

_STRIDE = (1.0, 0.02)
"""Steps, in radii of the ball, at first and at last."""

_HALVINGS = 16

_OUTWARD = (0.0, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
"""Shares by which a point is moved outward until f ≤ 0 is proved there."""

_UNKNOWN = 1e-2
"""Where the gradient says nothing, the first ball has this share of the input's size."""


@dataclass(frozen=True)
class Nearest:
    """What :func:`nearest` found for B inputs and K targets, float64, on the device of the inputs.

    Args:
        point: The nearest point found at which the target's logit is proved to reach the label's
            (z_y − z_t ≤ 0 in real arithmetic), (B, K, *input_shape); NaN where none was found. The
            input itself where that holds there already.
        distance: ‖point − x‖ in the norm asked for, rounded up, (B, K); ∞ where none was found.
        target: The targets, (B, K).
    """

    point: Tensor
    distance: Tensor
    target: Tensor


class NearestOptions(TypedDict, total=False):
    """The options of :func:`nearest`, by name."""

    norm: str | float
    box: tuple[float | Tensor, float | Tensor] | None
    targets: str | Tensor
    steps: int
    chunk: int | None


@own_gradient_mode()
def nearest(
    network: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    norm: str | float = "l2",
    box: tuple[float | Tensor, float | Tensor] | None = None,
    targets: str | Tensor = "all",
    steps: int = 40,
    chunk: int | None = None,
) -> Nearest:
    """Look for the nearest point at which each target takes over.

    Args:
        network: The network, a :class:`~..network.VerifiedNetwork`.
        x: Inputs, float32 or float64, shape (B, *input_shape).
        y: Labels, shape (B,).
        norm: The norm of distances: ``"l2"``, ``"linf"``, ``"l1"``, or another kind of ball.
        box: (lo, hi), numbers or tensors that broadcast to x, with x inside: points outside of it
            do not count.
        targets: ``"all"`` other classes, ``"runner-up"``, or a tensor of classes, (B,) or (B, K).
        steps: Gradient evaluations for each pair, beside some for tangents.
        chunk: Inputs treated at once; by default what fits into the memory that is free.

    Raises:
        InputTypeError: Inputs that are not float32 or float64, labels or targets that are not
            integers.
        InputError: A wrong shape, NaN or infinity, a class out of range, a box around no input, a
            norm that does not exist.
    """
    kind = ball_kind(norm)
    check_inputs(network, x, y)
    check_count("steps", steps)
    limits = None if box is None else check_limits(x, box)
    where = placement(network, x)
    margins = Margins(network, where)
    points, labels = flattened(network, x, where), y.to(where.device, torch.long).clone()
    if limits is not None:
        limits = flattened(network, limits[0], where), flattened(network, limits[1], where)
    table = target_table(network, labels, margins.logits(points), targets)
    parts = []
    for part in chunks(margins, len(x), table.shape[1], chunk):
        cut = None if limits is None else (limits[0][part], limits[1][part])
        parts.append(_nearest(margins, points[part], labels[part], table[part], kind, cut, steps))
    joined = {
        field.name: torch.cat([getattr(part, field.name) for part in parts]).to(x.device)
        for field in fields(Nearest)
    }
    joined["point"] = joined["point"].reshape(*table.shape, *x.shape[1:])
    return Nearest(**joined)


def _nearest(
    margins: Margins,
    x0: Tensor,
    label: Tensor,
    targets: Tensor,
    kind: BallKind,
    limits: tuple[Tensor, Tensor] | None,
    steps: int,
) -> Nearest:
    count = targets.shape[1]
    centers = x0.repeat_interleave(count, 0)
    box = None
    if limits is not None:
        box = limits[0].repeat_interleave(count, 0), limits[1].repeat_interleave(count, 0)
    search = _Search(
        margins, centers, label.repeat_interleave(count), targets.reshape(-1), kind, box
    )
    search.tangents()
    search.balls(steps)
    search.halve()
    point, distance = search.proved()
    return Nearest(
        point.reshape(*targets.shape, x0.shape[1]), distance.reshape(targets.shape), targets
    )


class _Search:
    """P pairs; offsets v are from x₀, in the dtype of the search."""

    def __init__(
        self,
        margins: Margins,
        x0: Tensor,
        label: Tensor,
        target: Tensor,
        kind: BallKind,
        box: tuple[Tensor, Tensor] | None,
    ) -> None:
        self.margins, self.x0, self.kind = margins, x0, kind
        self.label, self.target = label, target
        self.region = Ball(x0, 1.0, kind.name, box=box)
        self.moves = Moves(self.region, margins.where.search_dtype)
        self.center = self.moves.center
        self.v = torch.zeros_like(self.center)
        self.value, self.gradient = self._at(self.v)
        self.best = torch.full_like(self.center, torch.nan)
        self.distance = torch.full_like(self.value, torch.inf)
        self._keep(self.v, self.value)

    def tangents(self) -> None:
        """Most of the way to the point of the tangent's zero that is nearest to x₀, repeatedly."""
        value, gradient, v = self.value, self.gradient, self.v
        for _ in range(_TANGENTS):
            # With share 0 the step is the norm's own: the nearest point lies along it.
            way = self.moves.steepest(gradient, v, 0.0)
            slope = -(gradient * way).sum(1)
            length = (value - (gradient * v).sum(1)) / slope
            aim = length.clamp_min(0.0)[:, None] * way
            usable = aim.isfinite().all(1, keepdim=True)
            v = torch.where(usable, self._cut(v + 0.7 * (1.02 * aim - v)), v)
            value, gradient = self._at(v)
            self._keep(v, value)
        found = self.distance.isfinite()[:, None]
        self.v = torch.where(found, self.best, v)

    def balls(self, steps: int) -> None:
        """Descent on spheres that close in on the boundary."""
        v = self.v
        # Where the boundary has not been met, the first ball is the linear guess, or what is usual.
        usual = _UNKNOWN * (1.0 + self._norm(self.center))
        way = self.moves.steepest(self.gradient, torch.zeros_like(v), 0.0)
        guess = self.value / -(self.gradient * way).sum(1)
        guess = torch.where(guess.isfinite() & (guess > 0.0), guess.clamp(max=1e3 * usual), usual)
        radius = torch.where(self.distance.isfinite(), self.distance, guess)
        value, gradient = self._at(v)
        for step in range(steps):
            share = step / max(steps - 1, 1)
            growth, stride = _cosine(_GROWTH, share), _cosine(_STRIDE, share)
            beyond = torch.minimum(radius, self.distance) * (1.0 - growth)
            radius = torch.where(value <= 0.0, beyond, radius * (1.0 + growth))
            # Larger than the best distance a ball need not be.
            radius = torch.minimum(radius, self.distance)
            moved = v + stride * radius[:, None] * self.moves.steepest(gradient, v, 0.1 * stride)
            v = self._on_sphere(moved, radius)
            value, gradient = self._at(v)
            self._keep(v, value)

    def halve(self) -> None:
        """Towards x₀, as long as f ≤ 0."""
        low, high = torch.zeros_like(self.distance), torch.ones_like(self.distance)
        found = self.distance.isfinite()
        for _ in range(_HALVINGS if bool(found.any()) else 0):
            middle = 0.5 * (low + high)
            inside = self._values(middle[:, None] * self.best) <= 0.0
            low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
        self.best = torch.where(found[:, None], high[:, None] * self.best, self.best)

    def proved(self) -> tuple[Tensor, Tensor]:
        """Points in float64 with f ≤ 0, a little beyond the boundary, and their distances."""
        point = torch.full_like(self.x0, torch.nan)
        left = torch.nonzero(self.distance.isfinite())[:, 0]
        for share in _OUTWARD:
            if len(left) == 0:
                break
            region = self.region.rows(left)
            x = self.x0[left] + (1.0 + share) * self.best[left].double()
            if region.box is not None:
                x = torch.clamp(x, *region.box)
            upper = upper_margins(self.margins, x, self.label[left], self.target[left])
            hit = upper <= 0.0
            point[left[hit]] = x[hit]
            left = left[~hit]
        length = self.kind.norm(_away(point, self.x0))
        return point, torch.where(point.isnan().any(1), torch.inf, length)

    def _at(self, v: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = self.margins.screen(self.center + v, self.label, self.target)
        return value, torch.nan_to_num(gradient)

    def _values(self, v: Tensor) -> Tensor:
        return self.margins.values_at(self.center + v, self.label, self.target[:, None])[:, 0]

    def _keep(self, v: Tensor, value: Tensor) -> None:
        """Remember the offsets with f ≤ 0 that are shorter than those before."""
        length = self._norm(v)
        better = (value <= 0.0) & (length < self.distance)
        self.distance = torch.where(better, length, self.distance)
        self.best = torch.where(better[:, None], v, self.best)

    def _norm(self, v: Tensor) -> Tensor:
        return self.kind.norm(v.double()).to(v)

    def _cut(self, v: Tensor) -> Tensor:
        return v if self.moves.box is None else torch.clamp(v, *self.moves.box)

    def _on_sphere(self, v: Tensor, radius: Tensor) -> Tensor:
        """v at the distance r: projected where it is farther, stretched where it is nearer."""
        inside = self.kind.nearest(v, radius)
        length = self._norm(v)
        scale = (radius / length.clamp_min(torch.finfo(v.dtype).tiny))[:, None]
        stretched = torch.where(scale.isfinite(), v * scale, v)
        if inside is None:
            return self._cut(stretched)
        return self._cut(torch.where((length > radius)[:, None], inside, stretched))


def _away(point: Tensor, x0: Tensor) -> Tensor:
    """|point − x₀|, rounded up."""
    away = (point - x0).abs()
    return torch.where(away == 0.0, away, torch.nextafter(away, torch.full_like(away, torch.inf)))


def _cosine(ends: tuple[float, float], share: float) -> float:
    first, last = ends
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * share))
