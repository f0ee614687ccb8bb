"""Linear lower bounds as a function of live parameters: a loss that raises what can be proved.

Intervals come from interval propagation and the bound of a row from one backward walk over lines,
in the form of CROWN-IBP (Zhang et al., *Towards Stable and Efficient Training of Verifiably Robust
Neural Networks*, 2020), for any activation with known pieces. The slope of a line is a number that
is chosen anew at each call; its intercept, min σ(z) − s z over the interval, is differentiated
where the minimum is taken, as are the ends of the intervals and the minimum over the region.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..domains.linear_forms import LinearForms, Lines
from ..functions import Elementwise
from ..graph import Activate, Affine, Graph, Input
from ..network import VerifiedNetwork
from ..regions.region import Region
from ..relaxation.lines import Line, lower_line, upper_line
from ..relaxation.minimum import least
from ..specifications import Specification
from ..walk import Domain, backward, forward, rule


def crown_lower_bounds(
    network: VerifiedNetwork, region: Region, specification: Specification
) -> Tensor:
    """Lower bounds (B, R) of C z + d over a region, with gradients for the network's parameters.

    They are computed in the network's type and so hold up to its rounding: a loss, not a proof.

    Args:
        network: The network, in training or not.
        region: The inputs, B of them.
        specification: C and d.
    """
    graph = network.nodes()
    domain = LiveIntervals(region, network.dtype)
    forward(domain, graph)
    C = specification.coefficients if specification.batched else specification.coefficients[None]
    rows = C.to(domain.dtype).expand(len(region), -1, -1)
    return _least(graph, region, domain.lines, rows) + specification.offsets.to(domain.dtype)


class LiveIntervals(Domain[Interval]):
    """Interval propagation that autograd sees, and the lines of every activation.

    Args:
        region: The inputs.
        dtype: The type to compute in.

    Attributes:
        lines: Of every activation, by name.
    """

    title = "intervals of live parameters"

    def __init__(self, region: Region, dtype: torch.dtype) -> None:
        self.region, self.dtype = region, dtype
        self.lines: dict[str, Lines] = {}

    @rule(Input)
    def input(self, node: Input) -> Interval:
        """The box around the region."""
        return Interval(*(end.to(self.dtype) for end in self.region.interval()))

    @rule(Affine)
    def affine(self, node: Affine, *parents: Interval) -> Interval:
        """Σ A mid ± |A| rad + b."""
        middle: Tensor | float = 0.0 if node.bias is None else node.bias.value
        radius: Tensor | float = 0.0
        for term, a in zip(node.terms, parents, strict=True):
            middle = middle + term.map.apply(0.5 * (a.lower + a.upper))
            radius = radius + term.map.abs_apply(0.5 * (a.upper - a.lower))
        return Interval(middle - radius, middle + radius)  # type: ignore[arg-type]

    @rule(Activate)
    def activation(self, node: Activate, z: Interval) -> Interval:
        """σ([z]), and the lines there."""
        function = node.function
        ends = tuple(end.detach() for end in z)
        with torch.no_grad():
            below, above = lower_line(function, *ends), upper_line(function, *ends)
        flat = torch.zeros_like(ends[0])
        self.lines[node.name] = Lines(
            _live(function, below.slope, z, 1.0), _live(function, above.slope, z, -1.0)
        )
        low, high = _live(function, flat, z, 1.0), _live(function, flat, z, -1.0)
        return Interval(low.intercept, high.intercept)


def _live(function: Elementwise, slope: Tensor, z: Interval, sign: float) -> Line:
    """The line of a slope with its intercept, which moves with the ends of the interval."""
    lower, upper = z
    with torch.no_grad():
        place = least(function, sign * slope, lower.detach(), upper.detach(), sign=sign).place
    place = torch.where(place == lower, lower, torch.where(place == upper, upper, place))
    return Line(slope, function.value(place) - slope * place)


def _least(graph: Graph, region: Region, lines: Mapping[str, Lines], rows: Tensor) -> Tensor:
    """Lower bounds (B, R) of C a at the output."""

    def active(node: Activate, c: Tensor) -> Line:
        below, above = lines[node.name]
        positive = c > 0.0
        slope = torch.where(positive, below.slope[:, None], above.slope[:, None])
        intercept = torch.where(positive, below.intercept[:, None], above.intercept[:, None])
        return Line(slope, intercept)

    domain = LinearForms(active)
    g = backward(domain, graph, rows).get(graph.nodes[0].name)
    total = torch.zeros_like(rows[..., 0]) + domain.constant
    if g is None:
        return total
    g = g.expand(len(region), -1, -1)
    point = region.center[:, None] + region.descent(g.detach())
    return total + (g * point.to(g.dtype)).sum(-1)
