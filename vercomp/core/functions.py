"""An activation as emitted code knows it: three functions of a tensor, and proved ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Range = tuple[float, float]


@dataclass(frozen=True)
class Elementwise:
    """σ with its first two derivatives and their ranges over ℝ, rounded outward.

    Args:
        value: σ.
        first: σ′.
        second: σ″.
        first_range: (g_L, g_U) with g_L ≤ σ′ ≤ g_U.
        second_range: (h_L, h_U) with h_L ≤ σ″ ≤ h_U.
        deviation: Bound of what ``value`` differs from the smooth σ in real arithmetic.
    """

    value: Callable[[Tensor], Tensor]
    first: Callable[[Tensor], Tensor]
    second: Callable[[Tensor], Tensor]
    first_range: Range
    second_range: Range
    deviation: float = 0.0

    @property
    def g(self) -> float:
        """sup |σ′|."""
        return max(abs(self.first_range[0]), abs(self.first_range[1]))

    @property
    def h(self) -> float:
        """sup |σ″|."""
        return max(abs(self.second_range[0]), abs(self.second_range[1]))
