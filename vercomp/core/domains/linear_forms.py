"""Linear lower bounds, sent from the output back to the input.

With lines below and above each activation on an interval of its input, s z + t ≤ σ(z) ≤ s′ z + t′,

    c·σ(z) ≥ (c⁺ s + c⁻ s′)·z + c⁺·t + c⁻·t′,        c⁺ = max(c, 0),  c⁻ = min(c, 0),

and an affine node passes its coefficients through the adjoints of its maps. What arrives at the
input is a linear function below C z + d on the whole region, whose minimum there has a closed form
(Zhang et al., *Efficient Neural Network Robustness Certification with General Activation
Functions*, 2018; Xu et al., *Automatic Perturbation Analysis for Scalable Certified Robustness and
Beyond*, 2020, for any graph).

:class:`LinearForms` computes this in whatever precision its operators are in.
:class:`ProvedForms` is in float64, and gives the slack that makes the result a lower bound in real
arithmetic. Coefficients need not be exact for that: whatever numbers a step ends with are the
coefficients of the next one, and the step itself is off by no more than

    2(m + 2)u ‖|A|‖ ‖c‖ ‖a‖ + ‖A − Â‖ ‖c‖ ‖a‖ + ω           Aᵀ c,  m the fan-out
    8u |c|·(|s| + |s′|) ⊙ |z|                              c⁺ s + c⁻ s′
    u ‖c + c′‖ ‖a‖                                         two paths to one node

with a and z bounded by the intervals of their nodes; sums of n products are off by 2(n + 4)u of the
sum of their absolute values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..arithmetic.outward import UNIT_ROUNDOFF, down, times_up, up
from ..graph import Activate, Affine, Input
from ..regions.region import Region
from ..relaxation.lines import Line
from ..walk import Domain, rule
from .rounding import product_loss

_GUARD = 1.0 + 2.0**-40
"""Covers the rounding of the few operations that make up an error bound."""

_TINY = 1e-290
"""Covers, for each product, what underflow takes from a sum."""


class Lines(NamedTuple):
    """Lines below and above an activation, for each entry.

    Args:
        below: s and t, (B, n).
        above: s′ and t′, (B, n).
    """

    below: Line
    above: Line


ActiveLines = Callable[[Activate, Tensor], Line]
"""For an activation and coefficients c (B, R, n): for each entry the line below σ where c > 0, and
the line above σ elsewhere."""


class AffineForms(Domain[Tensor]):
    """The table but for activations. What arrives at a node are the coefficients of its value.

    Attributes:
        constant: What does not depend on the input, (B, R) or broadcasting to it.
    """

    title = "linear bounds"

    def __init__(self) -> None:
        self.constant: Tensor | float = 0.0

    @rule(Input)
    def input(self, node: Input, c: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Nothing comes before the input."""
        return iter(())

    @rule(Affine)
    def affine(self, node: Affine, c: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Aᵀ c to every parent, and c·b."""
        if node.bias is not None:
            self.constant = self.constant + c @ node.bias.value[0]
        for term in node.terms:
            yield term.parent, term.map.adjoint(c)

    def join(self, name: str, one: Tensor, other: Tensor) -> Tensor:
        """Two paths to the same node are added."""
        return one + other


class LinearForms(AffineForms):
    """The table. What arrives at a node are the coefficients (B, R, n) of its value.

    Args:
        lines: The active lines of activations.
    """

    def __init__(self, lines: ActiveLines) -> None:
        super().__init__()
        self.lines = lines

    @rule(Activate)
    def activation(self, node: Activate, c: Tensor) -> Iterator[tuple[str, Tensor]]:
        """c ⊙ s by the active lines, and c·t."""
        line = self.lines(node, c)
        self.constant = self.constant + (c * line.intercept).sum(-1)
        yield node.parent, c * line.slope


class ProvedForms(Domain[Tensor]):
    """The table in float64, with the slack that rounding takes.

    Args:
        lines: Lines of activations, by name: shared by all rows, or a function that gives the
            active line of each.
        intervals: Of every node that the output depends on, (B, n).

    Attributes:
        constant: A lower bound of what does not depend on the input, (B, R).
    """

    title = "proved linear bounds"

    def __init__(
        self, lines: Mapping[str, Lines] | ActiveLines, intervals: Mapping[str, Interval]
    ) -> None:
        self.lines = lines
        self.intervals = intervals
        self.constant: Tensor = torch.zeros((), dtype=torch.float64)

    def minimum(
        self, region: Region, arrived: Mapping[str, Tensor], first: str, *, quick: bool = False
    ) -> Tensor:
        """The lower bounds (B, R) over a region, from what arrived at the nodes.

        Args:
            region: The inputs.
            arrived: The result of the backward walk.
            first: The name of the input node.
            quick: Whether the region's minima may be a little too low, for less time.
        """
        g = arrived.get(first)
        if g is not None:
            self._add_product(g, _length(g), region.center)
            least = region.minimum(g.expand(len(region), -1, g.shape[-1]), quick=quick)
            self._add(least, torch.zeros_like(least))
        lost = self.constant.isnan() | (self.constant == math.inf)
        return torch.where(lost, -math.inf, self.constant)

    @rule(Input)
    def input(self, node: Input, c: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Nothing comes before the input."""
        return iter(())

    @rule(Affine)
    def affine(self, node: Affine, c: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Aᵀ c to every parent, and c·b."""
        length = _length(c)
        if node.bias is not None:
            self._add_product(c, length, *node.bias)
        for term in node.terms:
            self._charge(product_loss(term.map, term.map.fan_out, length), term.parent)
            yield term.parent, term.map.adjoint(c)

    def entries(self, node: Affine, index: Tensor) -> dict[str, Tensor]:
        """What the rows zᵢ and −zᵢ of an affine node send to its parents: (1, 2R, n) each."""
        if node.bias is not None:
            value, error = node.bias
            picked = value[:, index]
            self._add(torch.cat([picked, -picked], 1), error[:, None])
        one = torch.ones(1, 1, dtype=torch.float64, device=index.device)
        sent: dict[str, Tensor] = {}
        for term in node.terms:
            self._charge(product_loss(term.map, term.map.fan_out, one), term.parent)
            rows = term.map.rows(index)
            part = torch.cat([rows, -rows])[None]
            held = sent.get(term.parent)
            sent[term.parent] = part if held is None else self.join(term.parent, held, part)
        return sent

    @rule(Activate)
    def activation(self, node: Activate, c: Tensor) -> Iterator[tuple[str, Tensor]]:
        """c⁺ s + c⁻ s′, and c⁺·t + c⁻·t′."""
        z = self.intervals[node.parent]
        size = torch.maximum(z.lower.abs(), z.upper.abs())
        if callable(self.lines):
            slope, intercept = self.lines(node, c)
            product = c * slope
            products = c * intercept
            slack = 2.0 * UNIT_ROUNDOFF * (product.abs() * size[:, None]).sum(-1)
            slack = slack + 2.0 * (c.shape[-1] + 4) * UNIT_ROUNDOFF * products.abs().sum(-1)
            self._add(products.sum(-1), slack * _GUARD + _TINY * c.shape[-1])
            yield node.parent, product
            return
        below, above = self.lines[node.name]
        middle, half = 0.5 * (below.slope + above.slope), 0.5 * (below.slope - above.slope)
        steep = 8.0 * UNIT_ROUNDOFF * (below.slope.abs() + above.slope.abs()) * size
        center = 0.5 * below.intercept + 0.5 * above.intercept
        spread = 0.5 * below.intercept - 0.5 * above.intercept
        count = 2.0 * (c.shape[-1] + 8) * UNIT_ROUNDOFF
        # What rounding takes from the products is part of the lines: one product bounds it all.
        spread = spread - (steep + count * (center.abs() + spread.abs()) + _TINY) * _GUARD
        open_ends = ~(center.isfinite() & spread.isfinite())
        absolute = c.abs()
        center, spread = torch.where(open_ends, 0.0, center), torch.where(open_ends, 0.0, spread)
        total = (c @ center[:, :, None] + absolute @ spread[:, :, None])[..., 0]
        if bool(open_ends.any()):
            reached = (absolute @ open_ends.to(c)[:, :, None])[..., 0] > 0.0
            total = torch.where(reached, -math.inf, total)
        self._add(total, 4.0 * UNIT_ROUNDOFF * total.abs())
        yield node.parent, torch.addcmul(c * middle[:, None], absolute, half[:, None])

    def join(self, name: str, one: Tensor, other: Tensor) -> Tensor:
        """Two paths to the same node are added."""
        total = one + other
        self._charge(UNIT_ROUNDOFF * _length(total), name)
        return total

    def _add_product(
        self, c: Tensor, length: Tensor, x: Tensor, error: Tensor | float = 0.0
    ) -> None:
        """Add c·x for a row x (B or 1, n) that is off by so much in the 2-norm."""
        total = c @ x[0] if len(x) == 1 else (c @ x[:, :, None])[..., 0]
        rounding = 2.0 * (c.shape[-1] + 4) * UNIT_ROUNDOFF * _length(x)
        self._add(total, length * (rounding + error)[:, None] * _GUARD)

    def _add(self, value: Tensor, slack: Tensor) -> None:
        """Add a number known up to rounding to the constant, rounded down."""
        self.constant = down(self.constant + down(value - up(slack)))

    def _charge(self, error: Tensor, name: str) -> None:
        """Take off what coefficients (B or 1, R) that are off by so much, in the 2-norm, may do."""
        lower, upper = self.intervals[name]
        reach = _length(torch.maximum(lower.abs(), upper.abs()))
        self.constant = down(self.constant - times_up(error, reach[:, None]))


def _length(x: Tensor) -> Tensor:
    """Upper bound of ‖x‖₂ over the last axis."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return norm * _GUARD + 1e-150
