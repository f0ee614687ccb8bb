"""Intervals and lines as functions of live parameters: what losses are made of.

Interval propagation that autograd sees, in the parameters' own type and without outward rounding:
it steers a training and proves nothing. At the input it is as careful as the proved one: a map A
that reads the input takes a ball to A x₀ ± r‖Aᵢ‖_*, where that is less than the image of the box
around the ball.

The slope of a line is a number that is chosen anew at each call, but for functions with a single
kink such as ReLU, whose lines have closed forms and gradients throughout; the intercept,
min σ(z) − s z over the interval, is differentiated where the minimum is taken, as are the ends of
the intervals.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..functions import Elementwise
from ..graph import Activate, Affine, Input, Term
from ..regions.region import Region
from ..relaxation.lines import Line, lower_line, upper_line
from ..relaxation.minimum import least
from ..walk import Domain, rule
from .linear_forms import Lines


class LiveIntervals(Domain[Interval]):
    """Interval propagation that autograd sees.

    Args:
        region: The inputs.
        dtype: The type to compute in.

    Attributes:
        entered: The interval of every activation's argument, by the activation's name.
    """

    title = "intervals of live parameters"

    def __init__(self, region: Region, dtype: torch.dtype) -> None:
        self.region, self.dtype = region, dtype
        self.entered: dict[str, Interval] = {}
        self._first = ""

    @rule(Input)
    def input(self, node: Input) -> Interval:
        """The box around the region."""
        self._first = node.name
        return Interval(*(end.to(self.dtype) for end in self.region.interval()))

    @rule(Affine)
    def affine(self, node: Affine, *parents: Interval) -> Interval:
        """Σ A mid ± |A| rad + b."""
        bias: Tensor | float = 0.0 if node.bias is None else node.bias.value
        lower, upper = bias, bias
        for term, a in zip(node.terms, parents, strict=True):
            middle = term.map.apply(0.5 * (a.lower + a.upper))
            radius = term.map.abs_apply(0.5 * (a.upper - a.lower))
            low, high = middle - radius, middle + radius
            reach = self._reach(term)
            if reach is not None:
                center = term.map.apply(self.region.center.to(self.dtype))
                low, high = torch.maximum(low, center - reach), torch.minimum(high, center + reach)
            lower, upper = lower + low, upper + high
        assert isinstance(lower, Tensor)  # noqa: S101 - an affine node has a bias or a parent
        assert isinstance(upper, Tensor)  # noqa: S101
        return Interval(lower, upper)

    @rule(Activate)
    def activation(self, node: Activate, z: Interval) -> Interval:
        """σ([z])."""
        self.entered[node.name] = z
        return image(node.function, z)

    def _reach(self, term: Term) -> Tensor | None:
        """r‖Aᵢ‖_* of a map that reads the input (B, m); None where the box around says as much."""
        region = self.region
        name = region.kind.name
        if term.parent != self._first or name not in _DUAL or region.scales is not None:
            return None
        if bool(region.radius.isinf().any()):
            return None
        norms = term.map.row_sizes(_DUAL[name])
        if norms is None:
            return None
        return region.radius.to(self.dtype)[:, None] * norms


def _euclidean(rows: Tensor) -> Tensor:
    """‖Aᵢ‖₂, with a finite derivative at zero."""
    return rows.square().sum(1).clamp_min(torch.finfo(rows.dtype).tiny).sqrt()


def _largest(rows: Tensor) -> Tensor:
    """max |Aᵢⱼ|."""
    return rows.abs().amax(1)


_DUAL = {"l2": _euclidean, "l1": _largest}
"""Dual norms of the rows of a matrix, by the names of balls that the box around them exceeds."""


class Kink(NamedTuple):
    """A convex function of two straight pieces: σ(z) = σ(p) + a(z − p) left of p, + b(z − p) right.

    Args:
        at: p.
        left: a.
        right: b > a.
    """

    at: float
    left: float
    right: float


def kink(function: Elementwise) -> Kink | None:
    """The kink of ReLU, LeakyReLU, |z| and their like; None of any other function."""
    if function.pieces is None or function.second is not None:
        return None
    slope = function.pieces[1]
    inner = slope.turns[1:-1]
    if set(slope.signs) != {"0"} or len(inner) != 1:
        return None
    (turn,) = inner
    exact = all(low == high for low, high in (turn.at, turn.left, turn.behind))
    found = Kink(turn.at[0], turn.left[0], turn.behind[0])
    return found if exact and found.left < found.right else None


def image(function: Elementwise, z: Interval) -> Interval:
    """σ([z]), with its gradient in the ends."""
    lower, upper = z
    if function.first_range[0] >= 0.0:
        return Interval(function.value(lower), function.value(upper))
    flat = torch.zeros_like(lower.detach())
    low, high = _moving(function, flat, z, 1.0), _moving(function, flat, z, -1.0)
    return Interval(low.intercept, high.intercept)


def lines(function: Elementwise, z: Interval) -> Lines:
    """Lines below and above σ on [z], with their gradients in the ends."""
    found = kink(function)
    if found is not None:
        return _kinked(function, found, z)
    ends = tuple(end.detach() for end in z)
    with torch.no_grad():
        below, above = lower_line(function, *ends), upper_line(function, *ends)
    return Lines(_moving(function, below.slope, z, 1.0), _moving(function, above.slope, z, -1.0))


def _kinked(function: Elementwise, found: Kink, z: Interval) -> Lines:
    """The chord above; below, the steeper or flatter piece, whichever leaves the smaller area."""
    lower, upper = z
    at = torch.full((), found.at, dtype=lower.dtype, device=lower.device)
    value = function.value(at)
    with torch.no_grad():
        right = 0.5 * (lower + upper) >= at
        slope = torch.where(right, found.right, torch.full_like(lower, found.left))
    below = Line(slope, value - slope * at)
    crossed = (lower < at) & (at < upper)
    width = torch.where(crossed, upper - lower, 1.0)
    rise = torch.where(crossed, function.value(upper) - function.value(lower), slope)
    chord = rise / width
    intercept = torch.where(crossed, function.value(upper) - chord * upper, below.intercept)
    return Lines(below, Line(chord, intercept))


def _moving(function: Elementwise, slope: Tensor, z: Interval, sign: float) -> Line:
    """The line of a slope with its intercept, which moves with the ends of the interval."""
    lower, upper = z
    with torch.no_grad():
        place = least(function, sign * slope, lower.detach(), upper.detach(), sign=sign).place
    place = torch.where(place == lower, lower, torch.where(place == upper, upper, place))
    return Line(slope, function.value(place) - slope * place)
