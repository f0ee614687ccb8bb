"""Witnesses: what the search finds, and that only what is proved counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vercomp.core.methods.witnesses import Approach, Witnesses, approach_zero, step_to_zero


def cubic(x: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
    """f = 1 − x₁ − x₁³ + ¼x₂², whose nearest zero from the origin is at x₁ = 0.6823."""
    value = 1.0 - x[:, 0] - x[:, 0] ** 3 + 0.25 * x[:, 1] ** 2
    return value, torch.stack([-1.0 - 3.0 * x[:, 0] ** 2, 0.5 * x[:, 1]], 1)


ROOT = 0.6823278


def nothing(x0: Tensor) -> Approach:
    return Approach(torch.zeros_like(x0), torch.full_like(x0[:, 0], torch.inf))


def test_the_search_ends_close_to_the_nearest_zero() -> None:
    x0 = torch.zeros(3, 2, dtype=torch.float64)
    start = torch.tensor([[0.1, 0.0], [0.5, 0.3], [2.0, 0.0]], dtype=torch.float64)
    found = approach_zero(cubic, x0, start, nothing(x0), torch.zeros(3).double())
    assert (found.distance >= ROOT).all()
    assert (found.distance < 1.2 * ROOT).all()
    value, _ = cubic(x0 + found.step, torch.arange(3))
    assert (value <= 0.0).all()


def test_a_pair_with_enough_is_left_alone_and_one_without_zeros_has_none() -> None:
    x0 = torch.zeros(2, 2, dtype=torch.float64)
    calls: list[int] = []

    def oracle(x: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
        calls.extend(pair.tolist())
        value, gradient = cubic(x, pair)
        positive = (pair == 1)[:, None]
        above = 1.0 + (x * x).sum(1)
        return torch.where(pair == 1, above, value), torch.where(positive, 2.0 * x, gradient)

    start = torch.full_like(x0, 0.7)
    found = approach_zero(oracle, x0, start, nothing(x0), torch.tensor([2.0, 0.0]).double())
    assert calls.count(0) <= 3
    assert found.distance[0] <= 2.0
    assert found.distance[1] == torch.inf


def test_a_step_leads_slightly_beyond_the_zero_of_the_linearisation() -> None:
    value, gradient = torch.tensor([2.0]), torch.tensor([[0.0, 4.0]])
    v = torch.tensor([[1.0, 1.0]])
    step = step_to_zero(value, gradient, v, torch.tensor([torch.inf]))
    # f + ∇f·(step − v) = 0 on the axis at 1 − 2/4.
    torch.testing.assert_close(step, torch.tensor([[0.0, 0.5]]), rtol=2e-4, atol=0.0)
    assert step[0, 1] < 0.5
    short = step_to_zero(value, gradient, v, torch.tensor([0.1]))
    torch.testing.assert_close(short.norm(dim=1), torch.tensor([0.1]))


@pytest.mark.parametrize("flattery", [0.0, 0.3])
def test_only_what_is_proved_is_a_witness(flattery: float) -> None:
    """A model that sees zeros too early finds points that float64 does not accept."""
    x0 = torch.zeros(4, 2, dtype=torch.float64)

    def screen(x: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = cubic(x, pair)
        return value - flattery, gradient

    found = Witnesses(
        x0,
        torch.full_like(x0[:, 0], ROOT * 1.001),
        upper=lambda x, pair: cubic(x, pair)[0] + 1e-9,
        looks_broken=lambda x, pair: screen(x, pair)[0] <= 0.0,
    )
    aim = torch.tensor([[ROOT * 1.0001, 0.0]]).expand(4, -1).double()
    found.search(screen, nothing(x0), 0.9 * aim, 0.8 * aim)
    if flattery:
        assert found.distance.isinf().all()
        assert found.point.isnan().all()
    found.search_anew(cubic)
    value, _ = cubic(found.point, torch.arange(4))
    assert (value <= 0.0).all()
    assert (found.distance >= ROOT).all()
    assert (found.distance >= found.point.norm(dim=1)).all()
