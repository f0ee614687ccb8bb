"""Radii from nested balls: by hand, and against the worst function with such curvatures."""

from __future__ import annotations

import math

import pytest
import torch

from vercomp.core.local.shells import Shells, ray_radius, tangent_radius


def test_one_ball_is_the_closed_form() -> None:
    """f(s) = 1 − s − ½ κ s² vanishes at 2 / (1 + √(1 + 2 κ))."""
    shells = Shells.of([5.0], [3.0])
    root = 2.0 / (1.0 + math.sqrt(7.0))
    assert ray_radius(shells, 1.0, 1.0) == pytest.approx(root, rel=1e-9)
    assert ray_radius(shells, 1.0, 1.0) < root
    assert tangent_radius(shells, 1.0, 1.0) == pytest.approx(root, rel=1e-9)


def test_nothing_is_said_beyond_the_largest_ball() -> None:
    shells = Shells.of([0.1, 0.2], [0.0, 0.0])
    assert ray_radius(shells, 1.0, 1.0) == 0.2
    assert shells.at(0.3) is None
    assert ray_radius(Shells.of([], []), 1.0, 1.0) == 0.0


def test_shells_take_what_their_outer_ball_has() -> None:
    shells = Shells.of([1.0, 2.0], [1.0, 4.0])
    assert (shells.at(0.5), shells.at(1.5)) == (1.0, 4.0)
    # ½ for the inner ball, ½ · 1 · (1 + 0) · 4 = 2 for the shell, and 1 · 1 · (2 − 1) between.
    assert shells.ray(2.0) == pytest.approx(0.5 * (4.0 - 1.0) * 1.0 + 0.5 * 4.0)
    assert shells.moment(2.0) == pytest.approx(0.5 + 4.0 * 1.5)


def test_a_bound_of_a_larger_ball_holds_in_a_smaller_one() -> None:
    assert Shells.of([1.0, 2.0, 3.0], [5.0, 2.0, math.nan]).curvatures == (2.0, 2.0)
    assert Shells.of([1.0, 2.0], [math.inf, 2.0]).curvatures == (2.0, 2.0)
    assert Shells.of([1.0, 2.0], [2.0, math.inf]).radii == (1.0,)
    assert Shells.of([1.0], [-3.0]).curvatures == (0.0,)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_what_is_not_positive_has_no_radius(value: float) -> None:
    assert ray_radius(Shells.of([1.0], [1.0]), value, 1.0) == 0.0
    assert tangent_radius(Shells.of([1.0], [1.0]), value, math.nan) == 0.0


def test_no_function_with_these_curvatures_vanishes_nearer() -> None:
    """The worst function along a ray has exactly κ(s) for its second derivative."""
    dice = torch.Generator().manual_seed(0)
    for _ in range(200):
        radii = torch.rand(4, generator=dice, dtype=torch.float64).cumsum(0).tolist()
        bounds = (5.0 * torch.rand(4, generator=dice, dtype=torch.float64)).sort()[0].tolist()
        value, slope = torch.rand(2, generator=dice, dtype=torch.float64).tolist()
        radius = ray_radius(Shells.of(radii, bounds), value, slope)
        steps = 20_000
        s = torch.linspace(0.0, radius, steps + 1, dtype=torch.float64)
        kappa = torch.zeros(steps, dtype=torch.float64)
        middle = 0.5 * (s[1:] + s[:-1])
        for inner, outer, bound in zip([0.0, *radii], radii, bounds, strict=False):
            kappa[(middle > inner) & (middle <= outer)] = bound
        falls = slope + (kappa * radius / steps).cumsum(0)
        least = value - float((falls * radius / steps).sum())
        assert least >= -1e-3 * (1.0 + value)
        if radius < radii[-1]:
            assert least <= 1e-3 * (1.0 + value)
