"""The dual network of live parameters: intervals and parallel lines that autograd sees.

As in :mod:`.projected_dual` the value of a node is its middle and a sum over directions, of the
input and of every activation before it, with what each is worth at every unit. Either all of them
are sent forward, and the half-width of an interval is the sum of their absolute values (over an l2
ball the root of the squares of the input's part, over an l1 ball the largest of it), or random
numbers stand for them, and it is the median of absolute values of Cauchy projections, or the root
mean square of normal ones (Wong et al., *Scaling provable adversarial defenses*, 2018, Theorem 2
and appendix H). The median estimates; it bounds nothing. One projection serves all layers here,
since nothing is promised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..functions import Elementwise
from ..graph import Activate, Affine, Input
from ..projections import Law
from ..regions.region import Region
from ..relaxation.lines import Line
from ..relaxation.minimum import least
from ..relaxation.parallel import chord_slope, narrowest_strip
from ..walk import Domain, rule
from .linear_forms import Lines
from .projected_dual import spread_of

_CLEAR = 1e-3
"""A strip at least so wide, in units of its interval, has a chord whose slope is no noise."""


class Live(NamedTuple):
    """The value of a node.

    Args:
        middle: (B, n).
        columns: What directions are worth at its units, (1 or B, q, n), by their source.
    """

    middle: Tensor
    columns: Mapping[str, Tensor]


class LiveDual(Domain[Live]):
    """The table with every direction.

    Args:
        region: The inputs.
        dtype: The type to compute in.

    Attributes:
        lines: The parallel lines of every activation, by name.
        weights: The half-widths (B, q) of the directions of every source.
    """

    title = "the dual network of live parameters"

    def __init__(self, region: Region, dtype: torch.dtype) -> None:
        self.region, self.dtype = region, dtype
        self.lines: dict[str, Lines] = {}
        self.weights: dict[str, Tensor] = {}
        self.first = ""

    @rule(Input)
    def input(self, node: Input) -> Live:
        """The middle, and every feature as a direction."""
        self.first = node.name
        middle, width = self.extent()
        self.weights[node.name] = width
        unit = torch.eye(width.shape[1], dtype=self.dtype, device=width.device)
        return Live(middle, {node.name: unit[None]})

    @rule(Affine)
    def affine(self, node: Affine, *parents: Live) -> Live:
        """Σ A (middle, directions) + b."""
        middle: Tensor | float = 0.0 if node.bias is None else node.bias.value
        columns: dict[str, Tensor] = {}
        for term, part in zip(node.terms, parents, strict=True):
            middle = middle + term.map.apply(part.middle)
            for name, each in part.columns.items():
                moved = term.map.apply(each)
                columns[name] = columns[name] + moved if name in columns else moved
        return Live(middle, columns)  # type: ignore[arg-type]

    @rule(Activate)
    def activation(self, node: Activate, z: Live) -> Live:
        """s (middle, directions) + m, and the activation's own directions."""
        width = self.half_width(z)
        strip = live_strip(node.function, Interval(z.middle - width, z.middle + width))
        self.lines[node.name] = strip
        below, above = strip
        middle = below.slope * z.middle + 0.5 * (below.intercept + above.intercept)
        columns = {name: below.slope[:, None] * each for name, each in z.columns.items()}
        half = 0.5 * (above.intercept - below.intercept).clamp_min(0.0)
        return Live(middle, self.with_own(node, columns, half))

    def with_own(
        self, node: Activate, columns: dict[str, Tensor], half: Tensor
    ) -> Mapping[str, Tensor]:
        """The directions, and one for each unit whose strip is open for some input."""
        places = (half > 0.0).any(0).nonzero()[:, 0]
        if len(places) == 0:
            return columns
        own = torch.zeros(len(places), half.shape[1], dtype=self.dtype, device=half.device)
        own[torch.arange(len(places), device=half.device), places] = 1.0
        self.weights[node.name] = half[:, places]
        return columns | {node.name: own[None]}

    def half_width(self, z: Live) -> Tensor:
        """Of the intervals (B, n) of a node."""
        total = torch.zeros_like(z.middle)
        for name, columns in z.columns.items():
            weights = self.weights[name][:, None]
            kind = self.region.kind.name if name == self.first else "linf"
            if kind == "l2" and self.round:
                total = total + (weights.square() @ columns.square())[:, 0].clamp_min(1e-24).sqrt()
            elif kind == "l1" and self.round:
                total = total + (weights.mT * columns.abs()).amax(1)
            else:
                total = total + (weights @ columns.abs())[:, 0]
        return total

    @property
    def round(self) -> bool:
        """Whether the region is a ball of its norm, whatever cuts it, and no box."""
        return spread_of(self.region).law is Law.NORMAL

    def extent(self) -> tuple[Tensor, Tensor]:
        """The middle of the region (B, D), and the half-widths there."""
        spread = spread_of(self.region)
        return spread.middle.to(self.dtype), spread.width.to(self.dtype)


class LiveProjections(LiveDual):
    """The table with random numbers in the place of the directions.

    Args:
        region: The inputs; an l1 ball counts as the l2 ball around it.
        dtype: The type to compute in.
        count: How many random vectors.
        generator: Of their numbers, which are the same for all inputs.
    """

    title = "the dual network of live parameters by random projections"

    def __init__(
        self, region: Region, dtype: torch.dtype, count: int, generator: torch.Generator
    ) -> None:
        super().__init__(region, dtype)
        self.count, self.generator = count, generator

    @rule(Input)
    def input(self, node: Input) -> Live:
        """The middle, and w R."""
        middle, width = self.extent()
        law = spread_of(self.region).law
        return Live(middle, {law.value: width[:, None] * self._drawn(law, width)})

    def with_own(
        self, node: Activate, columns: dict[str, Tensor], half: Tensor
    ) -> Mapping[str, Tensor]:
        """The projections, and those of the activation's own directions."""
        key = Law.CAUCHY.value
        own = half[:, None] * self._drawn(Law.CAUCHY, half)
        return columns | {key: columns[key] + own if key in columns else own}

    def half_width(self, z: Live) -> Tensor:
        """Estimates of them."""
        total = torch.zeros_like(z.middle)
        for key, columns in z.columns.items():
            if Law(key) is Law.CAUCHY:
                total = total + columns.abs().median(1).values
            else:
                total = total + columns.square().mean(1).clamp_min(1e-24).sqrt()
        return total

    def _drawn(self, law: Law, like: Tensor) -> Tensor:
        """Standard numbers (count, n)."""
        drawn = law.draw(self.count, like.shape[1], self.generator)
        return drawn.to(like.device, self.dtype)


def live_strip(function: Elementwise, z: Interval) -> Lines:
    """The narrowest strip on intervals, which moves with their ends.

    The slope follows the chord where that is its slope, and σ′ in the middle elsewhere. An
    intercept is taken where the minimum is, which has the right derivative by the envelope theorem.
    """
    lower, upper = z
    ends = lower.detach(), upper.detach()
    with torch.no_grad():
        strip = narrowest_strip(function, *ends)
        chord = chord_slope(function, *ends)
        open_strip = strip.above - strip.below > _CLEAR * (ends[1] - ends[0])
        follows = open_strip & torch.isclose(strip.slope, chord, rtol=1e-5, atol=1e-6)
    middle = function.first(0.5 * (lower + upper))
    slope = strip.slope + torch.where(
        follows, chord_slope(function, lower, upper) - chord, middle - middle.detach()
    )
    sides = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            place = least(function, sign * slope.detach(), *ends, sign=sign).place
        place = torch.where(place == ends[0], lower, torch.where(place == ends[1], upper, place))
        sides.append(Line(slope, function.value(place) - slope * place))
    return Lines(*sides)
