"""Confidence bounds against exact binomial tails, and their coverage, summed exactly."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy import stats

from vercomp.smoothing.confidence import certified_radius, lower_probability


def _tail(k: int, n: int, p: float) -> mpmath.mpf:
    """P[Bin(n, p) ≥ k] to fifty digits, for exactly this p, summed over the shorter side."""
    with mpmath.workdps(50):
        q = mpmath.mpf(p)

        def total(values: range) -> mpmath.mpf:
            return mpmath.fsum(mpmath.binomial(n, j) * q**j * (1 - q) ** (n - j) for j in values)

        return total(range(k, n + 1)) if n - k < k else 1 - total(range(k))


@pytest.mark.parametrize(
    ("k", "n", "failure"),
    [(1, 1, 0.05), (10, 10, 0.001), (7, 10, 0.1), (99_000, 100_000, 0.001), (3, 1000, 1e-6)],
)
def test_the_bound_is_the_quantile_and_below_it(k: int, n: int, failure: float) -> None:
    bound = float(lower_probability(np.float64(k), n, failure))
    assert _tail(k, n, bound) <= failure
    assert _tail(k, n, bound * (1.0 + 1e-9)) > failure  # and hardly below


def test_no_success_bounds_nothing_and_more_of_them_more() -> None:
    bounds = lower_probability(np.arange(21, dtype=np.float64), 20, 0.01)
    assert bounds[0] == 0.0
    assert (np.diff(bounds) > 0.0).all()
    assert bounds[20] == pytest.approx(0.01 ** (1 / 20))


@pytest.mark.parametrize("n", [1, 5, 40, 300])
@pytest.mark.parametrize("failure", [0.001, 0.1, 0.4])
def test_coverage_over_all_samples(n: int, failure: float) -> None:
    """The probability that the bound exceeds the truth, summed over every possible count."""
    counts = np.arange(n + 1, dtype=np.float64)
    bounds = lower_probability(counts, n, failure)
    for q in np.linspace(0.005, 0.995, 67):
        wrong = stats.binom.pmf(counts, n, q)[bounds > q].sum()
        assert wrong <= failure + 1e-12
        # the share of the sample, which is no bound, would be wrong much more often than that
        plain = stats.binom.pmf(counts, n, q)[counts / n > q].sum()
        if n == 300 and 0.1 < q < 0.9:
            assert plain > 0.4


def test_radii_are_normal_quantiles() -> None:
    found = certified_radius(np.array([0.0, 0.3, 0.5, stats.norm.cdf(1.0), 0.999]), 0.5)
    assert found[:3].tolist() == [0.0, 0.0, 0.0]
    assert found[3] == pytest.approx(0.5)
    assert found[3] <= 0.5
    assert math.isfinite(found[4])
