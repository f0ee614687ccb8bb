"""Derivatives of smoothed functions against closed forms on the line."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from vercomp.smoothing.confidence import certified_radius
from vercomp.smoothing.curvature import (
    SHARPEST,
    curvature_bound,
    curvature_radius,
    curvature_range,
    gradient_bound,
)

Array = NDArray[np.float64]


class Intervals:
    """The smoothed indicator of the union of the intervals (a, b), and its derivatives.

    ĝ(x) = Σ Φ((b − x)/σ) − Φ((a − x)/σ), and Φ′ = φ, Φ″(z) = −zφ(z).
    """

    def __init__(self, ends: Array, sigma: float) -> None:
        self.ends, self.sigma = ends.reshape(-1, 2), sigma

    def __call__(self, x: Array | float, order: int = 0) -> Array:
        z = ((self.ends - np.asarray(x)[..., None, None]) / self.sigma).clip(-60.0, 60.0)
        parts = [stats.norm.cdf, lambda z: -stats.norm.pdf(z), lambda z: -z * stats.norm.pdf(z)]
        values = parts[order](z) / self.sigma**order
        found: Array = (values[..., 1] - values[..., 0]).sum(-1)
        return found


@pytest.mark.parametrize("sigma", [0.25, 1.0, 3.0])
def test_a_half_space_has_the_largest_gradient_and_half_the_curvature(sigma: float) -> None:
    half = Intervals(np.array([0.0, np.inf]), sigma)
    for x in np.linspace(-3.0 * sigma, 3.0 * sigma, 41):
        p = float(half(x))
        lo, hi = curvature_range(p, sigma)
        assert lo - 1e-9 <= half(x, 2) <= hi + 1e-9
        assert half(x, 1) == pytest.approx(gradient_bound(p, sigma), rel=1e-6)
    # −tφ(t/σ)/σ³ is least at t = σ: φ(1)/σ²
    assert -half(sigma, 2) == pytest.approx(0.5 * curvature_bound(sigma))


@pytest.mark.parametrize("sigma", [0.25, 2.0])
def test_a_slab_attains_the_bound(sigma: float) -> None:
    inside = Intervals(np.array([-sigma, sigma]), sigma)
    outside = Intervals(np.array([-np.inf, -sigma, sigma, np.inf]), sigma)
    assert pytest.approx(0.4839414490) == SHARPEST
    assert outside(0.0, 2) == pytest.approx(curvature_bound(sigma))
    assert inside(0.0, 2) == pytest.approx(-curvature_bound(sigma))
    assert curvature_range(float(outside(0.0)), sigma)[1] == pytest.approx(float(outside(0.0, 2)))
    assert curvature_range(float(inside(0.0)), sigma)[0] == pytest.approx(float(inside(0.0, 2)))


def _random(seed: int) -> tuple[Intervals, float]:
    generator = np.random.default_rng(seed)
    sigma = float(generator.uniform(0.2, 2.0))
    count = int(generator.integers(1, 6))
    ends = np.sort(generator.normal(0.0, 2.0 * sigma, 2 * count))
    if seed % 3 == 0:
        ends[-1] = np.inf
    if seed % 5 == 0:
        ends[0] = -np.inf
    return Intervals(ends, sigma), sigma


@pytest.mark.parametrize("seed", range(24))
def test_no_smoothed_function_bends_more(seed: int) -> None:
    smoothed, sigma = _random(seed)
    for x in np.linspace(-4.0 * sigma, 4.0 * sigma, 81):
        lo, hi = curvature_range(float(smoothed(x)), sigma)
        second = float(smoothed(x, 2))
        assert lo - 1e-9 <= second <= hi + 1e-9
        assert -curvature_bound(sigma) <= lo <= hi <= curvature_bound(sigma)
        assert abs(float(smoothed(x, 1))) <= gradient_bound(float(smoothed(x)), sigma) + 1e-9


@pytest.mark.parametrize("seed", range(24))
def test_within_the_radius_the_class_stays(seed: int) -> None:
    """Along the whole line within the radius the smoothed probability stays above ½."""
    smoothed, sigma = _random(seed)
    for x in np.linspace(-3.0 * sigma, 3.0 * sigma, 41):
        p, slope = float(smoothed(x)), abs(float(smoothed(x, 1)))
        radius = curvature_radius(p, slope, sigma)
        if p <= 0.5:
            assert radius == 0.0
            continue
        assert radius > 0.0
        around = x + radius * np.linspace(-1.0, 1.0, 201)
        assert smoothed(around).min() > 0.5 - 1e-12
        # a smaller constant than the sharp one would be wrong somewhere: see below
        cohen = float(certified_radius(np.float64(p), sigma))
        assert curvature_radius(p, gradient_bound(p, sigma), sigma) <= cohen + 1e-12


def test_half_the_constant_would_prove_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the centre of a slab the gradient is zero, and nothing but the curvature counts."""
    width, sigma = 0.9, 1.0
    smoothed = Intervals(np.array([-width, width]), sigma)
    radius = curvature_radius(float(smoothed(0.0)), 0.0, sigma)
    assert smoothed(radius) > 0.5
    monkeypatch.setattr("vercomp.smoothing.curvature.SHARPEST", 0.25 * SHARPEST)
    assert smoothed(curvature_radius(float(smoothed(0.0)), 0.0, sigma)) < 0.5


def test_a_small_gradient_proves_more_than_the_probability_alone() -> None:
    smoothed, sigma = Intervals(np.array([-1.0, 1.0]), 1.0), 1.0
    p = float(smoothed(0.0))
    radius = curvature_radius(p, abs(float(smoothed(0.0, 1))), sigma)
    assert radius > float(certified_radius(np.float64(p), sigma))
    assert smoothed(radius) > 0.5


def test_certain_and_impossible_classes_do_not_bend() -> None:
    assert curvature_range(0.0, 1.0) == curvature_range(1.0, 1.0) == (0.0, 0.0)
    assert gradient_bound(1.0, 1.0) == 0.0
