"""Where the tightest lines of given slopes touch an activation, followed as the slopes change.

Nothing here is proved: it steers the search for slopes (:mod:`.slopes`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, zip_longest

import torch
from torch import Tensor

from ..functions import Elementwise

_NEWTON = 2
"""Steps towards the place where a line touches, after each change of its slope."""


class Touching:
    """Where lines touch an activation on intervals, from one slope to the next.

    Args:
        function: σ, not periodic.
        lower: The lower ends, (B, 1, n).
        upper: The upper ends.
    """

    def __init__(self, function: Elementwise, lower: Tensor, upper: Tensor) -> None:
        self.function = function
        # An interval without an end has a constant line that nothing here may spoil.
        finite = lower.isfinite() & upper.isfinite()
        self.open = None if bool(finite.all()) else ~finite
        self.lower, self.upper = (torch.where(finite, end, 0.0) for end in (lower, upper))
        self.ends = function.value(self.lower), function.value(self.upper)
        assert function.pieces is not None  # noqa: S101 - a method says that it needs them
        pieces = function.pieces[1]
        starts = [turn.at[0] for turn in pieces.turns]
        parts = list(zip(pieces.signs, pairwise(starts), strict=False))
        rising, falling = ([ends for sign, ends in parts if sign == s] for s in "+-")
        # A line below touches where σ′ rises, a line above where it falls: one search serves both.
        nowhere = (-math.inf, -math.inf)
        self.stretches = [
            tuple(
                torch.stack([self.lower.new_tensor(end) for end in ends])
                .reshape(2, 1, 1, 1)
                .clamp(self.lower, self.upper)
                for ends in zip(*pair, strict=True)
            )
            for pair in zip_longest(rising, falling, fillvalue=nowhere)
        ]
        self.places: list[Tensor | None] = [None] * len(self.stretches)
        self.kinks = [turn.at[0] for turn in pieces.turns if turn.right is not None]

    def last(self, rows: slice) -> Tensor | None:
        """Where lines touched last, a start for another search; None if that is not known."""
        place = self.places[0] if len(self.places) == 1 else None
        return None if place is None else place[:, rows].double()

    def at(self, slope: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
        """Where σ(z) − s z is least for lines below, largest for those above, and σ there."""
        sign = torch.where(below, 1.0, -1.0).to(slope)
        shape = slope.shape
        # At the ends of the range of slopes a line touches twice, at an end of the interval and
        # inside: the derivative towards other useful slopes is that of the place inside.
        place, value = self.lower.expand(shape), self.ends[0].expand(shape)
        place, value = self._better(sign, slope, place, value, self.upper, self.ends[1])
        for kink in self.kinks:
            z = self.lower.new_tensor(kink).clamp(self.lower, self.upper)
            place, value = self._better(sign, slope, place, value, z, self.function.value(z))
        for k, (start, end) in enumerate(self.stretches):
            p, q = chosen_side(below, start), chosen_side(below, end)
            z = self._root(self.places[k], slope, below, p, q)
            self.places[k] = z
            place, value = self._better(sign, slope, place, value, z, self.function.value(z))
        return place, value

    def _root(
        self, start: Tensor | None, slope: Tensor, below: Tensor, p: Tensor, q: Tensor
    ) -> Tensor:
        """Where σ′ is nearly s in [p, q]: a few steps of Newton's method, or of halving."""
        z = 0.5 * p + 0.5 * q if start is None else torch.minimum(torch.maximum(start, p), q)
        for _ in range(5 * _NEWTON if start is None else _NEWTON):
            excess = self.function.first(z) - slope
            end = torch.where((excess > 0.0) == below, p, q)
            halved = 0.5 * z + 0.5 * end
            if self.function.second is None:
                aim = halved
            else:
                aim = z - excess / self.function.second(z)
                aim = torch.where((aim - z) * (aim - end) <= 0.0, aim, halved)
            z = torch.where(excess == 0.0, z, aim)
        return z

    @staticmethod
    def _better(
        sign: Tensor, slope: Tensor, place: Tensor, value: Tensor, z: Tensor, there: Tensor
    ) -> tuple[Tensor, Tensor]:
        moves = sign * ((there - value) - slope * (z - place)) <= 0.0
        return torch.where(moves, z, place), torch.where(moves, there, value)


def chosen_side(below: Tensor, sides: Tensor | Sequence[Tensor]) -> Tensor:
    """The first of a pair where a line below is meant, the second where a line above is."""
    return torch.where(below, sides[0], sides[1])
