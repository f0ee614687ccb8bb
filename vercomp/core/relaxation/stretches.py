"""The parts of the real line on which the slope of an activation is monotone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..pieces import EDGE, Pieces, Range, Turn

PERIODS = 6
"""Intervals that reach over more periods get a constant line."""


class Stretch(NamedTuple):
    """A part of the real line on which σ′ is monotone, and the zone in which that ends.

    Args:
        sign: + where σ′ rises, - where it falls, 0 where it is constant; for −σ after turning.
        start: Where the part begins.
        end: Where it ends.
        limits: Bounds of the limits of ±σ′ at both ends, from inside; None where σ′ is continuous.
        zone: Bounds of the position of the turn at its end, which is not in the part; None at ∞.
    """

    sign: str
    start: Tensor
    end: Tensor
    limits: tuple[Range | None, Range | None]
    zone: tuple[Tensor, Tensor] | None


def stretches(pieces: Pieces, sign: float, lower: Tensor, upper: Tensor) -> Iterator[Stretch]:
    """The parts of the real line on which ±σ′ is monotone, as far as the intervals reach."""
    turned = {"+": "-", "-": "+", "0": "0"}
    signs = [s if sign > 0.0 else turned[s] for s in pieces.signs]
    turns = list(pieces.turns)
    if pieces.period is None:
        zones = [(lower.new_tensor(turn.at[0]), lower.new_tensor(turn.at[1])) for turn in turns]
    else:
        first = torch.floor((lower - turns[0].at[1]) / pieces.period) - 1.0
        reach = ((upper - lower) / pieces.period).nan_to_num(nan=0.0, posinf=PERIODS)
        count = min(PERIODS, int(reach.max().ceil()) if reach.numel() else 0) + 3
        zones = []
        for k in range(count):
            number = first + k
            shift, doubt = number * pieces.period, EDGE * (1.0 + number.abs()) * pieces.period
            zones += [(shift + turn.at[0] - doubt, shift + turn.at[1] + doubt) for turn in turns]
        turns, signs = turns * count, signs * count
    for k, (start, end) in enumerate(pairwise(zones)):
        limits = _limit(turns[k], sign, behind=True), _limit(turns[k + 1], sign, behind=False)
        last = pieces.period is None and k + 2 == len(zones)
        yield Stretch(signs[k], start[1], end[0], limits, None if last else end)


def _limit(turn: Turn, sign: float, *, behind: bool) -> Range | None:
    """Bounds of the limit of ±σ′ behind a jump, or before it; None if there is no jump."""
    if turn.right is None:
        return None
    low, high = turn.behind if behind else turn.left
    return (low, high) if sign > 0.0 else (-high, -low)


def too_long(pieces: Pieces, lower: Tensor, upper: Tensor) -> Tensor | None:
    """Which intervals reach over more periods than are looked at; None if the function has none."""
    if pieces.period is None:
        return None
    return ~(upper - lower <= PERIODS * pieces.period)
