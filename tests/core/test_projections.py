"""Norms from random projections: the factors against scipy, coverage, and estimates from blocks."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate, stats

from vercomp.core.projections import (
    Law,
    NormEstimate,
    Projection,
    geometric_factor,
    geometric_rate,
    quadratic_factor,
)


def test_the_rate_is_that_of_the_paper() -> None:
    """exp(−k ε²/G) of equation 55, and its example: k = 200 and ε = .22 achieve δ̂ = .26."""
    for share in (0.05, 0.22, 0.5, 0.9):
        log = math.log(1.0 - share)
        y = 2.0 / math.pi * log
        G = share**2 / (-0.5 * math.log(1.0 + y * y) + 2.0 / math.pi * math.atan(y) * log)
        assert geometric_rate(-log) == pytest.approx(share**2 / G, rel=1e-12)
    assert math.exp(-200 * geometric_rate(-math.log(0.78))) <= 0.26


def test_the_rate_is_the_best_of_markovs_inequality() -> None:
    """max over t of −tL + log E|C|^(−t) has the closed form, and the moment is 1/cos(πt/2)."""
    moment, _ = integrate.quad(lambda c: 2.0 / math.pi * c**-0.4 / (1.0 + c * c), 0.0, math.inf)
    assert moment == pytest.approx(1.0 / math.cos(0.2 * math.pi), rel=1e-6)
    grid = [0.9999 * step / 10_000 for step in range(10_001)]
    for L in (0.01, 0.3, 2.0, 20.0):
        best = max(t * L + math.log(math.cos(0.5 * math.pi * t)) for t in grid)
        assert geometric_rate(L) == pytest.approx(best, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("columns", [1, 8, 128, 1024])
@pytest.mark.parametrize("failure", [0.5, 1e-2, 1e-7, 1e-12, 1e-200])
def test_factors_are_hardly_above_what_is_needed(columns: int, failure: float) -> None:
    factor = geometric_factor(columns, failure)
    assert columns * geometric_rate(math.log(factor)) >= -math.log(failure)
    assert columns * geometric_rate(math.log(factor) * (1 - 1e-6)) <= -math.log(failure)
    quantile = stats.chi2.ppf(failure, columns)
    if quantile > 0.0:
        exact = math.sqrt(columns / quantile)
        assert exact <= quadratic_factor(columns, failure) <= exact * (1.0 + 1e-6)


def test_many_products_are_better_than_the_largest_of_many_estimates() -> None:
    """The largest of m estimates of k products has the factor of one from m k products."""
    for failure in (1e-2, 1e-9):
        one = geometric_factor(640, failure)
        ten = geometric_factor(64, failure**0.1)
        assert one == pytest.approx(ten, rel=1e-6)
    generator = torch.Generator().manual_seed(0)
    whole, parts = NormEstimate(Law.CAUCHY, 640, 1, 1e-2), NormEstimate(Law.CAUCHY, 64, 10, 1e-2)
    for _ in range(10):
        products = Law.CAUCHY.draw(64, 500, generator)[None]
        whole.add(products, torch.zeros(1, 500, dtype=torch.float64))
        parts.add(products, torch.zeros(1, 500, dtype=torch.float64))
    assert (whole.norm() <= parts.norm()).all()


@pytest.mark.parametrize("law", Law)
@pytest.mark.parametrize("estimators", [1, 3])
def test_estimates_fail_as_seldom_as_they_say(law: Law, estimators: int) -> None:
    """20,000 draws; of normal numbers the failure probability is exact for one estimate."""
    draws, columns, failure = 20_000, 8, 0.05
    generator = torch.Generator().manual_seed(1)
    estimate = Projection(columns, estimators).estimate(law, failure)
    vector = torch.randn(5, generator=generator, dtype=torch.float64)
    for rows in Projection(columns, estimators).blocks():
        drawn = law.draw(rows * draws, 5, generator) @ vector
        estimate.add(drawn.reshape(1, rows, draws), torch.zeros(1, draws, dtype=torch.float64))
    norm = vector.abs().sum() if law is Law.CAUCHY else vector.norm()
    share = float((estimate.norm() < norm).double().mean())
    assert share <= failure + 4.0 * math.sqrt(failure / draws)
    if law is Law.NORMAL:
        assert share >= failure - 4.0 * math.sqrt(failure / draws)
    elif estimators == 1:
        assert share > 0.005  # the tail bound is no more than a few times too careful


def test_what_is_no_number_has_no_bound() -> None:
    estimate = NormEstimate(Law.CAUCHY, 2, 1, 0.1)
    products = torch.tensor([[[1.0, torch.nan, torch.inf, 0.0], [1.0, 1.0, 1.0, 0.0]]]).double()
    estimate.add(products, torch.zeros(1, 4, dtype=torch.float64))
    norm = estimate.norm()[0]
    assert norm[0] == pytest.approx(estimate.factor)
    assert norm[1] == norm[2] == torch.inf
    assert norm[3] == 0.0
