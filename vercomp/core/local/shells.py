"""Radii from curvature bounds on nested balls.

Let ∇²f ≽ −κ_j I on the ball of radius R_j around x₀, R_1 < … < R_J. At the distance s from x₀ the
bound κ(s) = min over i ≥ j of max(κ_i, 0) holds, where j is the first ball with s ≤ R_j: a shell
takes what holds on its *outer* ball. So κ(s) does not decrease.

Along a ray from x₀, f(x₀ + s u) ≥ f(x₀) − s‖∇f(x₀)‖ − ∫₀ˢ (s − τ) κ(τ) dτ.

From any other point x̂ of the largest ball: with Φ(s) = ∫₀ˢ τ κ(τ) dτ the function
q(x) = f(x) + Φ(‖x − x₀‖) is convex there, because the Hessian of the second summand is at least
κ(s) I. So f(x) ≥ q(x̂) + ∇q(x̂)·(x − x̂) − Φ(‖x − x₀‖), and over the ball of radius s

    f ≥ q(x̂) + ∇q(x̂)·(x₀ − x̂) − s‖∇q(x̂)‖ − Φ(s).

Both right-hand sides fall in s, and nothing is said beyond R_J.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..arithmetic.outward import UNIT_ROUNDOFF

_HALVINGS = 60
_APART = 1e-9
"""A point that is so near to the boundary of a ball, relatively, is in no known shell."""


@dataclass(frozen=True)
class Shells:
    """Curvature bounds on nested balls.

    Args:
        radii: R_1 < … < R_J, exact numbers.
        curvatures: κ(s) on each shell, not negative, not decreasing.
    """

    radii: tuple[float, ...]
    curvatures: tuple[float, ...]

    @classmethod
    def of(cls, radii: Sequence[float], bounds: Sequence[float]) -> Shells:
        """From bounds on the whole balls, in any order."""
        least = math.inf
        found: list[tuple[float, float]] = []
        for radius, bound in sorted(zip(radii, bounds, strict=True), reverse=True):
            least = min(least, math.inf if math.isnan(bound) else max(bound, 0.0))
            if math.isfinite(least):
                found.append((radius, least))
        found.reverse()
        return cls(tuple(r for r, _ in found), tuple(k for _, k in found))

    @property
    def largest(self) -> float:
        """R_J; 0 where nothing is known."""
        return self.radii[-1] if self.radii else 0.0

    def ray(self, s: float) -> float:
        """∫₀ˢ (s − τ) κ(τ) dτ, rounded up."""
        return self._sum(s, lambda a, b: 0.5 * (b - a) * ((s - a) + (s - b)))

    def moment(self, s: float) -> float:
        """Φ(s) = ∫₀ˢ τ κ(τ) dτ, rounded up."""
        return self._sum(s, lambda a, b: 0.5 * (b - a) * (b + a))

    def at(self, s: float) -> float | None:
        """κ at a distance; None beyond the largest ball, or where the shell is in doubt."""
        inner = 0.0
        for radius, kappa in zip(self.radii, self.curvatures, strict=True):
            if inner * (1.0 + _APART) <= s <= radius * (1.0 - _APART):
                return kappa
            inner = radius
        return None

    def _sum(self, s: float, part: Callable[[float, float], float]) -> float:
        total, inner = 0.0, 0.0
        for radius, kappa in zip(self.radii, self.curvatures, strict=True):
            total += kappa * part(inner, min(s, radius))
            inner = radius
            if s <= radius:
                break
        return total * (1.0 + 64.0 * UNIT_ROUNDOFF) + 1e-300


def ray_radius(shells: Shells, value: float, slope: float) -> float:
    """The largest radius found at which f is proved positive from x₀ alone.

    Args:
        shells: The curvature bounds.
        value: A lower bound of f(x₀).
        slope: An upper bound of ‖∇f(x₀)‖.
    """
    return _root(shells, value, slope, shells.ray)


def tangent_radius(shells: Shells, constant: float, slope: float) -> float:
    """The same from a cut at a point x̂.

    Args:
        shells: The curvature bounds.
        constant: A lower bound of q(x̂) + ∇q(x̂)·(x₀ − x̂).
        slope: An upper bound of ‖∇q(x̂)‖.
    """
    return _root(shells, constant, slope, shells.moment)


def _root(shells: Shells, constant: float, slope: float, bend: Callable[[float], float]) -> float:
    """The largest s found, up to the largest ball, with constant − slope s − bend(s) > 0."""

    def positive(s: float) -> bool:
        sizes = abs(constant) + slope * s + bend(s)
        return constant - slope * s - bend(s) - 16.0 * UNIT_ROUNDOFF * sizes > 0.0

    low, high = 0.0, shells.largest
    if not (constant > 0.0 and math.isfinite(constant) and math.isfinite(slope)):
        return 0.0
    if positive(high):
        return high
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if positive(middle) else (low, middle)
    return low
