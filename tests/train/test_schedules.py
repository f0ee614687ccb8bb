"""Schedules, at steps worked out by hand."""

from __future__ import annotations

import pytest

from vercomp.train import Recipe
from vercomp.train.schedules import learning_rate, moment, ramp


def test_the_learning_rate_rises_then_follows_a_cosine_to_zero() -> None:
    rates = [learning_rate(step, 100, 2.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == pytest.approx(2.0)
    assert rates[55] == pytest.approx(1.0)  # half-way down
    assert rates[100] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_warm_up_takes_two_hundred_steps_at_most() -> None:
    assert learning_rate(99, 100_000, 1.0) == pytest.approx(0.5)
    assert learning_rate(200, 100_000, 1.0) == 1.0
    assert learning_rate(0, 5, 1.0) == 1.0  # too few steps for any


def test_ramps() -> None:
    assert [ramp(step, 100, 0.5) for step in (0, 25, 50, 99)] == [0.0, 0.5, 1.0, 1.0]
    assert ramp(0, 100, 0.0) == 1.0


def test_radius_and_exponent_grow_together_and_the_penalty_by_itself() -> None:
    recipe = Recipe(radius=2.0, exponent=0.4, penalty=0.1, radius_ramp=0.5, penalty_ramp=1.0)
    now = moment(recipe, 25, 100)
    assert (now.radius, now.exponent, now.penalty) == pytest.approx((1.0, 0.2, 0.025))
    last = moment(recipe, 99, 100)
    assert (last.radius, last.exponent, last.penalty) == pytest.approx((2.0, 0.4, 0.099))


@pytest.mark.parametrize("method", ["plain", "pgd", "trades"])
def test_methods_without_a_bound_have_no_penalty(method: str) -> None:
    recipe = Recipe(method=method, penalty=0.1)
    assert (recipe.gamma, moment(recipe, 5, 10).penalty) == (0.0, 0.0)
