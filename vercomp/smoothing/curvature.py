"""How fast the probabilities of a smoothed classifier can bend, and the radii that follow.

Let g: ℝᴰ → [0, 1] be measurable, for example the indicator of a class, and ĝ(x) = E g(x + ε) with
ε ~ N(0, σ²I). Everything here is deterministic, given the value (and the gradient) of ĝ at a point.

**Second derivatives** (appendix E.6 of Singla and Feizi, *Second-Order Provable Defenses against
Adversarial Attacks*, 2020, which has 1/σ² in the place of the sharp constant). Differentiating
the normal density twice, for a unit vector u,

    uᵀ∇²ĝ(x)u = σ⁻² E[ g(x + ε)(Z² − 1) ],        Z = u·ε/σ ~ N(0, 1).

Among all g with values in [0, 1] the right-hand side is largest for g = 1 where Z² > 1 and 0
elsewhere, and smallest for the opposite. As d(−zφ(z)) = (z² − 1)φ(z)dz, E[(Z² − 1)⁺] =
2[−zφ(z)] from 1 to ∞ = 2φ(1), and E[(Z² − 1)⁻] is the same since E[Z² − 1] = 0. Hence

    −2φ(1)/σ² I  ≼  ∇²ĝ(x)  ≼  2φ(1)/σ² I,        2φ(1) = 0.48394…

The slab {|u·(v − x)| > σ} attains it. If E g(x + ε) = p is known, g may only have so much mass: by
the same exchange argument the largest value puts it where |Z| is largest, {|Z| > a} with
2Φ(−a) = p, and the smallest where |Z| is least, {|Z| < b} with 2Φ(b) − 1 = p:

    −2bφ(b)/σ²  ≤  uᵀ∇²ĝ(x)u  ≤  2aφ(a)/σ².

**First derivatives.** u·∇ĝ(x) = σ⁻¹ E[g(x + ε) Z] is largest for the half-space {Z > −Φ⁻¹(p)} of
mass p: ‖∇ĝ(x)‖ ≤ φ(Φ⁻¹(p))/σ.
"""

from __future__ import annotations

import math
from statistics import NormalDist

_NORMAL = NormalDist()

SHARPEST = 2.0 * _NORMAL.pdf(1.0)
"""2φ(1): no smoothed function with values in [0, 1] has |uᵀ∇²ĝu| above this over σ²."""


def curvature_bound(sigma: float) -> float:
    """κ = 2φ(1)/σ²: −κI ≼ ∇²ĝ ≼ κI everywhere, for every g with values in [0, 1], rounded up.

    For the difference of two probabilities, ĝ_y − ĝ_t, whose g has values in [−1, 1], it is twice
    that.

    Args:
        sigma: σ > 0, of the noise, in the units of the input.
    """
    return SHARPEST / sigma**2 * (1.0 + 1e-12)


def curvature_range(probability: float, sigma: float) -> tuple[float, float]:
    """(lo, hi): lo·I ≼ ∇²ĝ(x) ≼ hi·I at a point with ĝ(x) = p.

    Args:
        probability: p, from 0 to 1.
        sigma: σ > 0.
    """
    largest = smallest = 0.0
    if 0.0 < probability < 1.0:
        a, b = -_NORMAL.inv_cdf(probability / 2.0), _NORMAL.inv_cdf((1.0 + probability) / 2.0)
        largest, smallest = 2.0 * a * _NORMAL.pdf(a), -2.0 * b * _NORMAL.pdf(b)
    return smallest / sigma**2, largest / sigma**2


def gradient_bound(probability: float, sigma: float) -> float:
    """The largest ‖∇ĝ(x)‖ at a point with ĝ(x) = p: φ(Φ⁻¹(p))/σ.

    Args:
        probability: p, from 0 to 1.
        sigma: σ > 0.
    """
    if not 0.0 < probability < 1.0:
        return 0.0
    return _NORMAL.pdf(_NORMAL.inv_cdf(probability)) / sigma


def curvature_radius(probability: float, slope: float, sigma: float) -> float:
    """A distance within which ĝ stays above ½, from its value and the length of its gradient.

    ĝ(x + δ) − ½ ≥ (p − ½) − ‖∇ĝ(x)‖‖δ‖ − ½κ‖δ‖² with κ of :func:`curvature_bound`; the first root
    is 2f/(‖∇ĝ‖ + √(‖∇ĝ‖² + 2κf)), f = p − ½. Cohen's radius knows p alone, and is the larger one
    where the gradient is the largest that p allows; where it is smaller, so may that radius be.

    Args:
        probability: A lower bound of ĝ(x).
        slope: An upper bound of ‖∇ĝ(x)‖.
        sigma: σ > 0.

    Returns:
        The radius; 0 where the probability is not above ½.
    """
    value = probability - 0.5
    if not (value > 0.0 and slope >= 0.0):
        return 0.0
    root = math.sqrt(slope**2 + 2.0 * curvature_bound(sigma) * value)
    return 2.0 * value / (slope + root) * (1.0 - 1e-12)
