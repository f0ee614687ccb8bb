"""What deviations are measured from: a number for every entry of every node.

The numbers are those of the network at one point, but that is only why they are near: what is used
is no more than a bound of

    r = Σ A_k a_k + b − z

for the numbers z of an affine node and a_k of its parents, which are themselves exact.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from ..graph import Activate, Affine, Input
from ..walk import Domain, rule

_GUARD = 1.0 + 1e-6
"""Covers the rounding of error bounds, sums of thousands of terms among them."""


class Reference(NamedTuple):
    """The numbers of a node.

    Args:
        value: z, (B, n).
        residual: Bounds of |r|, (B, n) or broadcasting to it; zero but for affine nodes.
    """

    value: Tensor
    residual: Tensor


class References(Domain[Reference]):
    """The table.

    Args:
        point: The point in the input space, (B, D) in float64.
    """

    title = "reference values"

    def __init__(self, point: Tensor) -> None:
        self.point = point

    @rule(Input)
    def input(self, node: Input) -> Reference:
        """The point."""
        return Reference(self.point, torch.zeros_like(self.point[:, :1]))

    @rule(Affine)
    def affine(self, node: Affine, *parents: Reference) -> Reference:
        """z = Σ A a + b, and what the float64 sums lose."""
        value = size = lost = torch.zeros_like(self.point[:, :1])
        terms = 4
        for term, (a, _) in zip(node.terms, parents, strict=True):
            value = value + term.map.apply(a)
            size = size + term.map.abs_apply(a.abs())
            lost = lost + term.map.error * a.norm(dim=1, keepdim=True) + term.map.underflow
            terms += term.map.fan_in + 4
        if node.bias is not None:
            value, size = value + node.bias.value, size + node.bias.value.abs()
            lost = lost + node.bias.error[:, None]
        return Reference(value, (4.0 * terms * UNIT_ROUNDOFF * size + lost) * _GUARD)

    @rule(Activate)
    def activation(self, node: Activate, z: Reference) -> Reference:
        """a = σ(z), to the nearest."""
        return Reference(node.function.value(z.value), torch.zeros_like(z.value[:, :1]))
