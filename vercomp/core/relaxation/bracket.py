"""The search for the point at which an activation has a given slope."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..functions import Elementwise

SETTLED = 1e-12
"""A search ends where another step can gain no more than this, relatively."""


class Bracket:
    """Intervals in which ±σ′ − s changes its sign, rising, with the point that is tried next.

    Args:
        low: Where ±σ′ ≤ s.
        high: Where ±σ′ ≥ s.
        below: ±σ′ − s at ``low``.
        above: ±σ′ − s at ``high``.
        slope: s.
        point: The point to try first.
    """

    def __init__(
        self, low: Tensor, high: Tensor, below: Tensor, above: Tensor, slope: Tensor, point: Tensor
    ) -> None:
        self.low, self.high, self.below, self.above = low, high, below, above
        self.slope, self.point = slope, point

    def rows(self, index: Tensor) -> Bracket:
        """Some of the intervals."""
        fields = (self.low, self.high, self.below, self.above, self.slope, self.point)
        return Bracket(*(t[index] for t in fields))

    def narrow(self, function: Elementwise, sign: float, step: int) -> Tensor:
        """One step; returns which intervals are still open."""
        point = self.point
        excess = sign * function.first(point) - self.slope
        left, right = excess <= 0.0, excess >= 0.0
        self.low, self.below = (
            torch.where(left, point, self.low),
            torch.where(left, excess, self.below),
        )
        self.high, self.above = (
            torch.where(right, point, self.high),
            torch.where(right, excess, self.above),
        )
        if function.second is not None:
            aim = point - excess / (sign * function.second(point))
        else:
            share = self.below / (self.above - self.below)
            aim = self.low - share * (self.high - self.low)
            if step % 2:  # one end may stay where it is for many secants
                aim = torch.full_like(aim, math.nan)
        inside = (self.low < aim) & (aim < self.high)
        aim = torch.where(inside, aim, 0.5 * self.low + 0.5 * self.high)
        still_open = ~(excess.abs() * (self.high - self.low) <= SETTLED * (1.0 + point.abs()))
        self.point = torch.where(still_open, aim, point)
        return still_open
