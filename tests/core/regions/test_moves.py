"""How searches move: projections into regions, steps of unit norm that go down."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vercomp.core.regions import Ball, Box
from vercomp.core.regions.moves import Moves
from vercomp.core.regions.region import Region

NORMS = {"l1": 1.0, "l2": 2.0, "linf": torch.inf}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def regions() -> dict[str, Region]:
    x = 0.3 * drawn(5, 4)
    u = drawn(5, 4, seed=1)
    found = {}
    for p in NORMS:
        found[p] = Ball(x, 0.7, p)
        found[f"{p} in a box"] = Ball(x, 0.7, p, box=(-1.0, 1.0))
        found[f"{p} outside of a box"] = Ball(x, 4.0, p, box=(0.4, 1.0))
        found[f"{p} in a slab"] = Ball(x, 0.7, p, slab=(u, -0.1, 0.2))
        found[f"{p} with scales"] = Ball(x, 0.7, p, scales=torch.tensor([1.0, 0.5, 0.0, 2.0]))
    found["box"] = Box(x - 0.5, x + 0.2)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(regions()))
def test_what_is_projected_lies_in_the_region(name: str, dtype: torch.dtype) -> None:
    region = regions()[name]
    moves = Moves(region, dtype)
    v = moves.project((2.0 * drawn(5, 4, seed=2)).to(dtype))
    assert v.dtype == dtype
    point = region.center + v.double()
    assert (point - region.project(point)).abs().max() < 1e-6
    again = moves.project(v)
    torch.testing.assert_close(again, v, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("p", sorted(NORMS))
def test_a_ball_is_projected_on_as_the_region_does(p: str) -> None:
    region = Ball(drawn(20, 6), 0.8, p)
    v = drawn(20, 6, seed=3)
    expected = region.project(region.center + v) - region.center
    torch.testing.assert_close(Moves(region, v.dtype).project(v), expected, rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("p", sorted(NORMS))
def test_steepest_steps_have_the_length_of_the_radius_and_go_down(p: str) -> None:
    region = Ball(drawn(20, 40), 0.8, p)
    g = drawn(20, 40, seed=4)
    for share in (0.0, 0.1, 1.0):
        step = Moves(region, g.dtype).steepest(g, torch.zeros_like(g), share)
        length = torch.linalg.vector_norm(step, NORMS[p], dim=1)
        torch.testing.assert_close(length, torch.full_like(length, 0.8))
        assert ((g * step).sum(1) < 0.0).all()
    best = (g * Moves(region, g.dtype).steepest(g, torch.zeros_like(g), 0.0)).sum(1)
    torch.testing.assert_close(best, region.minimum(g[:, None])[:, 0])


def test_steps_do_not_leave_the_box_where_they_stand_at_its_face() -> None:
    region = Ball(torch.zeros(1, 3), 1.0, "l2", box=(-0.5, 0.5))
    moves = Moves(region, torch.float64)
    v = torch.tensor([[0.5, 0.0, 0.0]], dtype=torch.float64)
    step = moves.steepest(torch.tensor([[-9.0, 3.0, 4.0]], dtype=torch.float64), v)
    torch.testing.assert_close(step, torch.tensor([[0.0, -0.6, -0.8]], dtype=torch.float64))


def test_no_gradient_gives_no_step() -> None:
    for p in NORMS:
        moves = Moves(Ball(torch.zeros(2, 3), 1.0, p), torch.float64)
        zero = torch.zeros(2, 3, dtype=torch.float64)
        assert torch.equal(moves.steepest(zero, zero), zero)


def test_a_kind_of_ball_without_closed_forms_moves_by_its_region() -> None:
    import weighted_l2  # noqa: F401 - registers itself

    region = Ball(drawn(5, 4), 0.7, "weighted-l2")
    moves = Moves(region, torch.float32)
    v = moves.project(3.0 * drawn(5, 4, seed=5).float())
    length = region.kind.norm(v.double())
    torch.testing.assert_close(length, torch.full_like(length, 0.7), rtol=1e-5, atol=0.0)
    step = moves.steepest(v, torch.zeros_like(v))
    torch.testing.assert_close(region.kind.norm(step.double()), length, rtol=1e-5, atol=0.0)
