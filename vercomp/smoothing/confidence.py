"""What a sample says of a probability: exact lower confidence bounds, and the radii they prove."""

from __future__ import annotations

from numpy import float64
from numpy.typing import NDArray
from scipy import special

Counts = NDArray[float64]

_DOWN = 1.0 - 1e-11
"""What scipy computes is rounded down by this factor, a thousand times its relative error."""


def lower_probability(count: Counts, draws: int, failure: float) -> Counts:
    """The lower bound of Clopper and Pearson (1934) of the probability of an event.

    The bound b solves P[Bin(n, b) ≥ k] = α: a quantile of the beta distribution with the parameters
    k and n − k + 1; it is 0 for k = 0. The tail P[Bin(n, p) ≥ k] grows with p, so that b exceeds
    the true probability q only if P[Bin(n, q) ≥ k] < α. That is a p-value below α, and a sample has
    such a k with a probability of at most α.

    Args:
        count: k, how often the event happened: whole numbers from 0 to n, of any shape.
        draws: n, the number of independent draws.
        failure: α, in (0, 1).

    Returns:
        Shaped like ``count``, rounded down.
    """
    bound: Counts = special.betaincinv(count.clip(1), draws - count + 1, failure)
    return _DOWN * bound * (count > 0)


def certified_radius(probability: Counts, sigma: float) -> Counts:
    """σ Φ⁻¹(p), rounded down, where p > ½, and 0 elsewhere; Φ is the normal distribution function.

    Theorem 1 of Cohen, Rosenfeld and Kolter, *Certified Adversarial Robustness via Randomized
    Smoothing* (2019), with the runner-up's probability at most 1 − p: within that distance in the
    2-norm the event keeps a probability above ½.

    Args:
        probability: p, a lower bound of the probability of a class under the noise.
        sigma: σ, the standard deviation of the noise, in the units of the input.
    """
    radius: Counts = sigma * special.ndtri(probability.clip(0.5, 1.0))
    return _DOWN * radius
