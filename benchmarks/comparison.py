"""Two sides' answers to the same questions, compared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .sides.job import Results

ROUNDING = 1e-4
"""Bounds that differ by less, absolutely or relatively, are equal: the peer computes in float32."""
LARGEST = 1e30
"""Stands for the infinite difference to a bound where the other side has none."""
SEARCH = 1e-3
"""Radii that differ by less, relatively, are equal: both searches stop at such a bracket."""


@dataclass(frozen=True)
class Difference:
    """Ours against theirs, over the inputs that both have answered.

    Args:
        inputs: How many those are.
        least: The smallest of ours − theirs (bounds), or of ours / theirs (radii).
        mean: Their mean.
        at_least: The share of rows (bounds) or inputs (radii) where ours is as large, to rounding.
        where: The input at which ``least`` is attained.
    """

    inputs: int
    least: float
    mean: float
    at_least: float
    where: int


def of_bounds(ours: Results, theirs: Results) -> Difference | None:
    """Every lower bound of a margin; a NaN is no bound, as −∞ is none."""
    mine, other = _common(ours, theirs)
    if len(mine) == 0:
        return None
    mine, other = (torch.where(side.isnan(), -torch.inf, side) for side in (mine, other))
    gain = torch.where(mine == other, 0.0, mine - other)
    size = 1.0 + torch.minimum(mine.abs(), other.abs())
    good = (mine >= other) | (gain >= -ROUNDING * size)
    finite = gain.clamp(-LARGEST, LARGEST)
    return Difference(
        len(mine),
        float(finite.min()),
        float(finite.mean()),
        float(good.double().mean()),
        int(finite.min(1).values.argmin()),
    )


def of_radii(ours: Results, theirs: Results) -> Difference | None:
    """Every radius; inputs for which both have none are equal."""
    mine, other = _common(ours, theirs)
    if len(mine) == 0:
        return None
    mine, other = mine[:, 0], other[:, 0].nan_to_num(nan=0.0)
    ratio = torch.where((mine == 0.0) & (other == 0.0), 1.0, mine / other.clamp(min=1e-30))
    return Difference(
        len(mine),
        float(ratio.min()),
        float(ratio.mean()),
        float((mine >= other * (1.0 - SEARCH)).double().mean()),
        int(ratio.argmin()),
    )


def _common(ours: Results, theirs: Results) -> tuple[Tensor, Tensor]:
    """The answers to the questions that both have answered."""
    count = min(len(ours.values), len(theirs.values))
    return tuple(  # type: ignore[return-value]
        torch.tensor(side.values[:count], dtype=torch.float64) for side in (ours, theirs)
    )
