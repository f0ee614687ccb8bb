"""Monotone pieces: where σ, σ′ and σ″ turn, jump, and end, with proved values there.

A function of one variable that is monotone between finitely many points is bounded on any interval
by its values at the interval's ends and at those points inside. The points are derived and proved
when a network is compiled; here they are numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Range = tuple[float, float]
Enclosure = tuple[Tensor, Tensor]
"""Lower and upper bounds, elementwise."""

EDGE = 2.0**-48
"""Positions are known to this fraction of a period, relative to the number of periods from zero."""


@dataclass(frozen=True)
class Turn:
    """A point where a function f turns or jumps, or one of ±∞ where it ends.

    Args:
        at: Float64 bounds of the position; equal where the position is a float64 number. Where
            they differ, f may turn several times between them.
        left: Bounds of f to the left of the point: of the limit there, and of f on ``at``.
        right: The same to the right, if f jumps; None if f is continuous there. The value of f at
            a jump lies between the two.
    """

    at: Range
    left: Range
    right: Range | None = None

    @property
    def behind(self) -> Range:
        """Bounds of the limit from the right."""
        return self.left if self.right is None else self.right

    @property
    def values(self) -> Range:
        """Bounds of f at the point and of both limits."""
        return min(self.left[0], self.behind[0]), max(self.left[1], self.behind[1])


@dataclass(frozen=True)
class Pieces:
    """The monotone pieces of a function f.

    Args:
        turns: From left to right, with −∞ and ∞; for a periodic f, those of one period.
        signs: One character for each piece that begins at a turn: f rises (+), falls (-), or is
            constant (0) from that turn to the next. Rising and falling pieces may pause.
        steepest: Bound of |f′| wherever it exists.
        period: The period, to the nearest float64; None where f is not periodic.
    """

    turns: tuple[Turn, ...]
    signs: str
    steepest: float
    period: float | None = None

    @property
    def range(self) -> Range:
        """Bounds of f over ℝ."""
        values = [turn.values for turn in self.turns]
        return min(v[0] for v in values), max(v[1] for v in values)

    def turned(self, lower: Tensor, upper: Tensor) -> Enclosure:
        """Bounds of f at all points inside [lower, upper] where it turns; (∞, −∞) for none."""
        low = torch.full_like(lower, math.inf)
        high = torch.full_like(lower, -math.inf)
        for turn in self.turns:
            low, high = _joined((low, high), self._reaches(lower, upper, turn), turn.values)
        return low, high

    def possible(self, lower: Tensor, upper: Tensor) -> Enclosure:
        """Bounds of f on the whole of the pieces that [lower, upper] touches."""
        if self.period is not None:
            return torch.full_like(lower, self.range[0]), torch.full_like(lower, self.range[1])
        low, high = self.turned(lower, upper)
        for left, right in pairwise(self.turns):
            touched = (upper > left.at[0]) & (lower < right.at[1])
            ends = left.behind, right.left
            values = min(end[0] for end in ends), max(end[1] for end in ends)
            low, high = _joined((low, high), touched, values)
        return low, high

    def _reaches(self, lower: Tensor, upper: Tensor, turn: Turn) -> Tensor:
        if self.period is None:
            return (lower <= turn.at[1]) & (turn.at[0] <= upper)
        # Some at + n · period lies between the two, with n an integer between these two numbers.
        first = (lower - turn.at[1]) / self.period
        last = (upper - turn.at[0]) / self.period
        first = first - EDGE * (1.0 + first.abs())
        last = last + EDGE * (1.0 + last.abs())
        return ~(first.ceil() > last.floor())


def _joined(bounds: Enclosure, where: Tensor, values: Range) -> Enclosure:
    low, high = bounds
    return (
        torch.where(where, low.clamp(max=values[0]), low),
        torch.where(where, high.clamp(min=values[1]), high),
    )
