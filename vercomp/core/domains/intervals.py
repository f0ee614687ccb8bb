"""Interval propagation: for every node an interval for each entry, over a region of inputs.

    z = A a + b on a ∈ mid ± rad:   z ∈ A mid + b ± |A| rad
    a = σ(z) on z ∈ [l, u]:         a ∈ σ([l, u]), from the monotone pieces of σ

in float64, rounded outward (Gowal et al., *On the Effectiveness of Interval Bound Propagation for
Training Verifiably Robust Models*, 2018). An affine node that reads the input knows more than the
box around the region: over a ball around x₀ its entries lie within r ‖A_i‖_* of A_i x₀ + b_i, in
the dual norm. An interval that is not a number is ℝ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arithmetic.enclosures import image
from ..arithmetic.operations import Interval
from ..arithmetic.outward import UNIT_ROUNDOFF, down, times_up, up
from ..graph import Activate, Affine, Graph, Input, Term
from ..maps.operators import Dense, Operator
from ..regions.ball_kind import BallKind
from ..regions.region import Region
from ..walk import Domain, forward, rule

_MOST_ENTRIES = 2**30
"""The rows of a map that is no matrix are written out, for their dual norms, if the vectors that
this takes have up to so many entries in all: seconds, once for each state of the weights."""

_ENTRIES_AT_ONCE = 2**22
"""So many entries are held at a time (32 MiB)."""


def intervals(graph: Graph, region: Region, rows: RowNorms | None = None) -> dict[str, Interval]:
    """Intervals (B, n) for every node over a region.

    Args:
        graph: The graph, over float64 operators.
        region: The inputs.
        rows: Dual norms of rows of the maps that read the input, kept between calls.
    """
    with torch.no_grad():
        return forward(Intervals(graph, region, rows or RowNorms()), graph)


class RowNorms:
    """The dual norms of the rows of maps, computed once for each map and kind of ball."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Tensor | None] = {}

    def of(self, term: Term, region: Region) -> Tensor | None:
        """‖A_i‖_* of every row (m,), rounded up; None where the rows are too many to write out."""
        key = (term.name, region.kind.name)
        if key not in self._found:
            self._found[key] = _row_norms(term.map, region.kind)
        return self._found[key]


def _row_norms(operator: Operator, kind: BallKind) -> Tensor | None:
    """‖A_i‖_* ≤ ‖Â_i‖_* + ‖A − Â‖₂ ‖y‖₂ over the unit ball, rounded up."""
    found = operator.row_sizes(kind.dual_norm) if kind.symmetric else None
    if found is None:
        found = _written_norms(operator, kind)
    if found is None or operator.error == 0.0:
        return found
    reach = kind.reach(torch.ones(operator.shape[1], dtype=torch.float64, device=found.device))
    return up(found + up(operator.error * reach))


def _written_norms(operator: Operator, kind: BallKind) -> Tensor | None:
    """‖Â_i‖_* from written rows, if they are few; each entry may be off by 4(m + 2)u |A|."""
    if isinstance(operator, Dense):
        return kind.dual_norm(operator.matrix)
    m = operator.shape[0]
    if m * max(operator.shape) > _MOST_ENTRIES:
        return None
    rounding = 4.0 * (operator.fan_out + 2) * UNIT_ROUNDOFF
    found = []
    for index in torch.split(torch.arange(m), max(1, _ENTRIES_AT_ONCE // max(operator.shape))):
        unit = torch.zeros(len(index), m, dtype=torch.float64, device=operator.device)
        unit[torch.arange(len(index)), index] = 1.0
        written, absolute = operator.adjoint(unit), operator.abs_adjoint(unit)
        slack = absolute * (rounding * (1.0 + rounding)) + operator.underflow
        found.append(kind.dual_norm(up(written.abs() + up(slack))))
    return torch.cat(found)


class Intervals(Domain[Interval]):
    """The table.

    Args:
        graph: The graph.
        region: The inputs.
        rows: Dual norms of the rows of maps that read the input.
    """

    title = "intervals"

    def __init__(self, graph: Graph, region: Region, rows: RowNorms) -> None:
        self.first = graph.nodes[0].name
        self.region = region
        self.rows = rows

    @rule(Input)
    def input(self, node: Input) -> Interval:
        """The box around the region."""
        return Interval(*self.region.interval())

    @rule(Affine)
    def affine(self, node: Affine, *parents: Interval) -> Interval:
        """Σ A [a] + b."""
        parts = []
        for term, a in zip(node.terms, parents, strict=True):
            part = image(term.map, a)
            if term.parent == self.first:
                part = self._within_ball(term, part)
            parts.append(part)
        if node.bias is not None:
            value, error = node.bias
            parts.append((down(value - error[:, None]), up(value + error[:, None])))
        lower, upper = parts[0]
        for low, high in parts[1:]:
            lower, upper = down(lower + low), up(upper + high)
        return number(lower, upper)

    @rule(Activate)
    def activation(self, node: Activate, z: Interval) -> Interval:
        """σ([z])."""
        return number(*node.function.range(0, z.lower, z.upper))

    def _within_ball(self, term: Term, box: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """A [x] over the ball, where that says more than over the box around it."""
        region = self.region
        if region.kind.is_box or region.scales is not None or bool(region.radius.isinf().any()):
            return box
        norms = self.rows.of(term, region)
        if norms is None:
            return box
        center = image(term.map, (region.center, region.center))
        spread = times_up(region.radius[:, None].expand(-1, len(norms)), norms)
        lower, upper = down(center[0] - spread), up(center[1] + spread)
        return torch.fmax(box[0], lower), torch.fmin(box[1], upper)


def number(lower: Tensor, upper: Tensor) -> Interval:
    """The interval; ℝ where one of its ends is not a number."""
    lost = lower.isnan() | upper.isnan()
    return Interval(torch.where(lost, -math.inf, lower), torch.where(lost, math.inf, upper))
