"""Perturbations stay in their balls, and are drawn as they should be."""

from __future__ import annotations

import pytest
import torch

from vercomp.train.balls import (
    directions,
    dot,
    lengths,
    project,
    random_directions,
    random_perturbations,
)

SHAPES = [(7,), (2, 3, 4)]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_projections_are_the_nearest_points_of_the_ball(shape: tuple[int, ...]) -> None:
    v = normal(50, *shape) * torch.linspace(0.0, 2.0, 50, dtype=torch.float64).reshape(
        -1, *(1,) * len(shape)
    )
    inside = project(v, 1.3)
    length = v.flatten(1).norm(dim=1)
    assert lengths(v).shape == (50, *(1,) * len(shape))
    assert (inside.flatten(1).norm(dim=1) <= 1.3 * (1 + 1e-12)).all()
    assert torch.allclose((inside - v).flatten(1).norm(dim=1), (length - 1.3).clamp_min(0.0))
    assert torch.equal(inside[length <= 1.3], v[length <= 1.3])
    assert torch.allclose(dot(v, v), length**2)


def test_zero_has_no_direction_and_stays_where_it_is() -> None:
    zero = torch.zeros(3, 4)
    assert torch.equal(directions(zero), zero)
    assert torch.equal(project(zero, 0.5), zero)
    assert torch.equal(project(torch.ones(3, 4), 0.0), zero)


@pytest.mark.parametrize("shape", SHAPES)
def test_random_perturbations_fill_the_ball_evenly(shape: tuple[int, ...]) -> None:
    like = torch.zeros(4000, *shape)
    found = random_perturbations(like, 2.0, torch.Generator().manual_seed(0))
    assert torch.equal(found, random_perturbations(like, 2.0, torch.Generator().manual_seed(0)))
    length = found.flatten(1).norm(dim=1)
    assert (length <= 2.0 * (1 + 1e-6)).all()
    # The share of a ball's volume within a fraction q of its radius is q to the dimension.
    for q in (0.8, 0.95):
        share = float((length <= 2.0 * q).double().mean())
        assert share == pytest.approx(q ** like[0].numel(), abs=0.03)
    assert found.flatten(1).mean(0).abs().max() < 0.1
    sphere = random_directions(like, torch.Generator().manual_seed(0))
    assert torch.allclose(sphere.flatten(1).norm(dim=1), torch.ones(4000))
