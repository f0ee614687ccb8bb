"""Bound programs in float64, rounded outward: every result holds in real arithmetic."""

from __future__ import annotations

import math
from functools import reduce
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..functions import Range
from ..maps.operators import Operator
from ..norms import bounds as norms
from ..regions.rounding import norm2_up
from .enclosures import by_rows, preimage
from .operations import Arithmetic, Interval
from .outward import down, up


class Rigorous(Arithmetic):
    """The arithmetic of certificates. Operators and coefficients must be in float64.

    An instance is for one state of the weights: it remembers the norm of an operator.

    Args:
        device: Where numbers are made.
        blocks: In how many blocks the rows of one question come: each proof for a block of rows
            takes that share of the work that a proof may take.
    """

    def __init__(self, device: torch.device | str = "cpu", blocks: int = 1) -> None:
        self.device = torch.device(device)
        self.blocks = blocks
        self._norms: WeakKeyDictionary[Operator, float] = WeakKeyDictionary()

    def norm2(self, operator: Operator, *, name: str = "") -> Tensor:
        """Proved upper bound of ‖A‖₂ (:mod:`..norms.bounds`)."""
        return self.constant(self._norm(operator))

    def weighted_norm2_squared(
        self, operator: Operator, weights: Tensor, *, name: str = ""
    ) -> Tensor:
        """Proved upper bounds of λ_max(Aᵀ diag(q) A)."""
        return norms.weighted_norm2_squared(
            operator, weights, self._norms.get(operator), self.blocks
        )

    def _norm(self, operator: Operator) -> float:
        if operator not in self._norms:
            self._norms[operator] = norms.norm2(operator)
        return self._norms[operator]

    def constant(self, value: float, *, name: str = "") -> Tensor:
        """A float64 number, exactly."""
        return torch.tensor(value, dtype=torch.float64, device=self.device)

    def zeros(self, c: Tensor, *, name: str = "") -> Tensor:
        """0 for each row of c."""
        return c.new_zeros(len(c))

    def add(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """a + b, rounded up."""
        return up(a + b)

    def multiply(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """a · b, rounded up; 0 · ∞ is 0, as a term that vanishes does whatever it is scaled by."""
        product = torch.nextafter(a * b, self.constant(math.inf))
        return torch.where((a == 0) | (b == 0), 0.0, product)

    def square_root(self, a: Tensor, *, name: str = "") -> Tensor:
        """√a, rounded up."""
        return up(a.sqrt())

    def minimum(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """The smaller of two valid bounds."""
        return torch.minimum(a, b)

    def refine(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """The smaller of two valid bounds: rounding upward may have cost b more."""
        return torch.minimum(a, b)

    def row_max(self, weights: Tensor, *, name: str = "") -> Tensor:
        """max_j q_j, exactly."""
        return weights.amax(1)

    def row_norm(self, interval: Interval, *, name: str = "") -> Tensor:
        """√Σ max(|lower|, |upper|)², rounded up; rows are scaled, so no square under- or overflows.

        A sum of n squares and its root are off by at most (n + 4)u of themselves; the squares that
        underflow after scaling add at most n times the smallest normal number.
        """
        (bounds,) = by_rows(_largest_norm, interval, interval.lower.shape[1])
        return bounds

    def exactly(self, c: Tensor, *, name: str = "") -> Interval:
        """[c, c]."""
        return Interval(c, c)

    def join(self, a: Interval, b: Interval, *, name: str = "") -> Interval:
        """[a + b], rounded outward."""
        return Interval(down(a.lower + b.lower), up(a.upper + b.upper))

    def adjoint(self, operator: Operator, interval: Interval, *, name: str = "") -> Interval:
        """Aᵀ mid ± (|A|ᵀ rad + rounding)."""
        return Interval(*preimage(operator, interval))

    def through(self, interval: Interval, slope: Range, *, name: str = "") -> Interval:
        """The products of the end points, rounded outward."""
        opposite = (-slope[0], -slope[1])

        def ends(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
            return _lowest(lower, upper, slope), -_lowest(lower, upper, opposite)

        lower, upper = by_rows(ends, interval, interval.lower.shape[-1])
        return Interval(lower, upper)

    def concavity(self, interval: Interval, second: Range, *, name: str = "") -> Tensor:
        """max(0, −min F σ″), rounded up; an interval that is not finite gives infinity."""

        def depth(lower: Tensor, upper: Tensor) -> tuple[Tensor]:
            below = (-_lowest(lower, upper, second)).clamp_min(0.0)
            return (torch.nan_to_num(below, nan=math.inf, posinf=math.inf),)

        (weights,) = by_rows(depth, interval, interval.lower.shape[-1])
        return weights


def _largest_norm(lower: Tensor, upper: Tensor) -> tuple[Tensor]:
    return (norm2_up(torch.maximum(lower.abs(), upper.abs())),)


def _lowest(lower: Tensor, upper: Tensor, other: Range) -> Tensor:
    """min F · s over both ranges, rounded down; exactly zero where no product is below zero.

    Products of opposite signs may underflow to zero: they are below it.
    """
    products = [
        end * value if value else torch.zeros_like(end) for end in (lower, upper) for value in other
    ]
    least = reduce(torch.minimum, products)
    below = ((lower < 0) & (max(other) > 0)) | ((upper > 0) & (min(other) < 0))
    rounded = torch.nextafter(least, torch.full_like(least, -math.inf))
    return torch.where((least == 0) & ~below, 0.0, rounded)
