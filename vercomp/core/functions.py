"""An activation as emitted code knows it: functions of a tensor, proved ranges, monotone pieces."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .arithmetic.outward import UNIT_ROUNDOFF
from .pieces import Enclosure, Pieces
from .pieces import Range as Range

_LOST = (8.0, 10.0, 12.0)
"""What float64 loses of σ, σ′ and σ″, in units of u and of the size that :meth:`rounding` says."""

_GUARD = 1.0 + 2.0**-40
"""Covers the rounding of the few operations that make up an error bound."""


@dataclass(frozen=True)
class Elementwise:
    """σ with its derivatives, and their proved ranges over ℝ, rounded outward.

    Args:
        value: σ.
        first: σ′.
        second: σ″; None where σ′ jumps, so that σ″ does not exist (ReLU).
        first_range: (g_L, g_U) with g_L ≤ σ′ ≤ g_U.
        second_range: (h_L, h_U) with h_L ≤ σ″ ≤ h_U; None where there is no σ″.
        deviation: Bound of what ``value`` differs from the smooth σ in real arithmetic.
        pieces: The monotone pieces of σ, of σ′, and of σ″ if it exists; None where they are not
            proved.
    """

    value: Callable[[Tensor], Tensor]
    first: Callable[[Tensor], Tensor]
    second: Callable[[Tensor], Tensor] | None
    first_range: Range
    second_range: Range | None
    deviation: float = 0.0
    pieces: tuple[Pieces, ...] | None = None

    @property
    def g(self) -> float:
        """sup |σ′|."""
        return max(abs(self.first_range[0]), abs(self.first_range[1]))

    @property
    def h(self) -> float:
        """sup |σ″|, the Lipschitz constant of σ′: infinite where σ′ jumps."""
        if self.second_range is None:
            return math.inf
        return max(abs(self.second_range[0]), abs(self.second_range[1]))

    def range(self, order: int, lower: Tensor, upper: Tensor) -> Enclosure:
        """Bounds of the derivative of that order on the intervals [lower, upper], elementwise.

        σ itself is meant both as its formula and as its spelling, where they deviate. At a jump
        the bounds hold the value and both limits; at an infinite end, the limit. A NaN among the
        ends, or ends in the wrong order, are bounded by −∞ and ∞.

        The bounds are proved for float64. On float32 they are the same computation without any
        promise, good enough to steer a search.

        Args:
            order: 0, 1 or 2: σ, σ′ or σ″.
            lower: The lower ends; −∞ is allowed.
            upper: The upper ends, of the same shape; ∞ is allowed.

        Raises:
            ValueError: σ″ does not exist, or the pieces are not proved.
        """
        function = (self.value, self.first, self.second)[order]
        if function is None:
            raise ValueError("σ″ does not exist: σ′ jumps")
        if self.pieces is None:
            raise ValueError("the monotone pieces of this activation are not proved")
        pieces = self.pieces[order]
        slack = 2.0 * self.deviation if order == 0 else 0.0
        low, high = pieces.turned(lower, upper)
        low, high = low - slack, high + slack
        for end in (lower, upper):
            value = function(end)
            error = self.rounding(order, end, value) + slack
            below = torch.nextafter(value - error, torch.full_like(value, -math.inf))
            above = torch.nextafter(value + error, torch.full_like(value, math.inf))
            if pieces.period is None:  # the limits at ±∞ are among the turns
                below = torch.where(end.isinf(), math.inf, below)
                above = torch.where(end.isinf(), -math.inf, above)
            low = torch.minimum(low, torch.where(below.isnan(), -math.inf, below))
            high = torch.maximum(high, torch.where(above.isnan(), math.inf, above))
        least, most = pieces.possible(lower, upper)
        low = torch.maximum(low, least - slack)
        high = torch.minimum(high, most + slack)
        ordered = lower <= upper
        return torch.where(ordered, low, -math.inf), torch.where(ordered, high, math.inf)

    def rounding(self, order: int, x: Tensor, value: Tensor) -> Tensor:
        """Bound of the rounding error of a value that the functions compute.

        With u = 2⁻⁵³, g, h and t the bounds of |σ′|, |σ″| and |σ‴| wherever they exist:

            8u(1 + max(1, g)|x| + |σ|)            for σ,
            10u max(1, g, h)(1 + |x|)             for σ′,
            12u max(1, g, h, t)(1 + |x|)          for σ″,

        which a test measures for every activation.
        """
        pieces = self.pieces or ()
        steepest = max((1.0, *(part.steepest for part in pieces[: order + 1])))
        size = 1.0 + steepest * x.abs() + value.abs() if order == 0 else steepest * (1.0 + x.abs())
        return _LOST[order] * UNIT_ROUNDOFF * _GUARD * size
