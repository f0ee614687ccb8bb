"""Points of a region: members in rational arithmetic, nearest ones, random ones; enclosures."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from region_cases import (
    CASES,
    KINDS,
    LARGE,
    Case,
    every_case,
    functions,
    offset,
    region,
    truly_inside,
)
from torch import Tensor

from vercomp.core.regions import Ball, Box, Region
from vercomp.core.regions.geometry import Slab


def near_the_faces(balls: Region, seed: int = 0) -> Tensor:
    """Members, and points around them that are just inside or outside."""
    generator = torch.Generator().manual_seed(seed)
    members = balls.sample(8, generator)
    noise = torch.randn(members.shape, dtype=torch.float64, generator=generator)
    size = balls.radius[:, None, None] * torch.logspace(-17, 0, 8).double()[:, None]
    return torch.cat([members, members + size * noise], 1)


@every_case
def test_what_is_called_a_member_is_one(case: Case) -> None:
    balls = region(case)
    points = near_the_faces(balls)
    called = balls.contains(points)
    assert called[:, :8].all()
    for row in range(len(balls)):
        for point, member in zip(points[row], called[row], strict=True):
            assert truly_inside(balls, row, point) or not member


@pytest.mark.parametrize("kind", KINDS)
def test_members_with_room_are_called_members(kind: str) -> None:
    balls = Ball(torch.zeros(1, 6), 1.0, kind, box=(-1.0, 1.0))
    points = balls.sample(200, torch.Generator().manual_seed(1)) * (1.0 - 1e-12)
    assert balls.contains(points).all()
    assert not balls.contains(points * 0.0 + 1.1).any()
    assert not balls.contains(points * torch.nan).any()


@pytest.mark.parametrize("case", [*CASES, *LARGE], ids=str)
def test_projections_are_members_and_nearest(case: Case) -> None:
    """The nearest point p of a convex set to x is where (x − p)·(q − p) ≤ 0 for all members q."""
    balls = region(case)
    generator = torch.Generator().manual_seed(case.seed)
    members = balls.sample(5, generator)
    noise = torch.randn(members.shape, dtype=torch.float64, generator=generator)
    radius = balls.radius[:, None, None]
    points = members + torch.where(radius > 0.0, radius, 1e-12) * noise
    nearest = balls.project(points)
    assert balls.contains(nearest).all()
    assert torch.equal(balls.project(nearest), nearest)
    unit = torch.where(radius > 0.0, radius, 1.0)
    away = (points - nearest) / unit
    rest = (members[:, :, None] - nearest[:, None]) / unit[:, None]
    size = away.norm(dim=-1)[:, None] * (balls.farthest()[:, None, None] / unit)
    assert ((away[:, None] * rest).sum(-1) <= 1e-4 * size).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("away", [1e20, 1e250])
def test_points_far_away_are_projected(kind: str, away: float) -> None:
    balls = region(Case(kind, "box+slab", 3))
    assert balls.contains(balls.project(torch.full((3, 3), away, dtype=torch.float64))).all()


@every_case
def test_enclosures_hold_the_members(case: Case) -> None:
    balls = region(case)
    lower, upper = balls.interval()
    points = torch.cat([balls.sample(8), balls.argmin(functions(case))], 1)
    assert ((lower[:, None] <= points) & (points <= upper[:, None])).all()
    for row in range(len(balls)):
        for point in points[row]:
            square = sum(part * part for part in offset(balls, row, point))
            assert square <= Fraction(float(balls.farthest()[row])) ** 2
    if balls.box is not None:
        assert (lower >= balls.box[0]).all()
        assert (upper <= balls.box[1]).all()


SLABS = [
    Case(k, "slab", n, seed=s) for k in ("l1", "l2", "linf") for n in (1, 2, 6) for s in (0, 1)
]
SLABS += [Case("linf", "box+slab", n) for n in (1, 2, 6)]
SLABS += [Case(kind, "slab", 5, scaled=True, seed=1) for kind in ("l1", "l2", "linf")]


@pytest.mark.parametrize("case", SLABS, ids=str)
def test_enclosures_of_a_ball_or_a_box_in_a_slab_are_the_smallest(case: Case) -> None:
    """As the minima of single coordinates say, which are proved in another way."""
    balls = region(case)
    unit = torch.eye(case.size, dtype=torch.float64).expand(len(balls), -1, -1)
    lower, upper = balls.interval()
    expected = balls.center + balls.minimum(unit), balls.center - balls.minimum(-unit)
    for found, best in zip((lower, upper), expected, strict=True):
        torch.testing.assert_close(found, best, rtol=1e-7, atol=1e-7 * case.radius)
    inside = torch.maximum(-expected[0] + balls.center, expected[1] - balls.center)
    assert (balls.farthest() <= inside.norm(dim=1) * (1 + 1e-6)).all()


@every_case
def test_enclosures_grow_with_the_region(case: Case) -> None:
    """Up to what the search for a multiplier leaves: a smaller ball or slab, a smaller interval."""
    balls = region(case)
    slack = 1e-9 * (balls.farthest()[:, None] + balls.center.abs())
    larger = [balls.scaled(1.3 * balls.radius)]
    if balls.slab is not None:
        u, low, high = balls.slab
        larger.append(replace(balls, slab=Slab(u, low - 0.2 * low.abs(), high + 0.3 * high.abs())))
    lower, upper = balls.interval()
    for other in larger:
        low, high = other.interval()
        assert ((low <= lower + slack) & (upper <= high + slack)).all()
        assert (balls.farthest() <= other.farthest() * (1 + 1e-9)).all()


def test_part_of_a_split_that_is_empty_keeps_an_interval() -> None:
    """Nothing of it is wrong, and ends stay in order."""
    balls = Ball(torch.zeros(1, 2), 1.0, slab=(torch.ones(1, 2), -9.0, 9.0))
    part, _ = balls.split(at=-8.0)
    lower, upper = part.interval()
    assert (lower <= upper).all()


def test_enclosures_are_tight() -> None:
    x, scales = torch.tensor([[0.5, 0.25]]), torch.tensor([[2.0, 0.0]])
    lower, upper = Ball(x, 0.125).interval()
    torch.testing.assert_close(lower, x.double() - 0.125)
    torch.testing.assert_close(upper, x.double() + 0.125)
    lower, upper = Ball(x, 0.125, scales=scales).interval()
    torch.testing.assert_close(upper - x, 0.125 * scales.double())
    assert lower[0, 1] == upper[0, 1] == 0.25
    lower, upper = Box(x, x + 1.0).interval()
    assert torch.equal(lower, x.double())
    assert torch.equal(upper, x.double() + 1.0)


@pytest.mark.parametrize(
    ("kind", "reach"), [("l1", 0.5), ("l2", 0.5), ("linf", 1.0), ("weighted-l2", 0.5)]
)
def test_the_farthest_point_of_a_ball(kind: str, reach: float) -> None:
    x = torch.zeros(1, 4)
    found = float(Ball(x, 0.5, kind).farthest())
    assert reach <= found <= 1.6 * reach if kind == "weighted-l2" else found == pytest.approx(reach)
    assert float(Ball(x, 0.5, kind, box=(-0.1, 0.1)).farthest()) == pytest.approx(0.2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", ["ball", "box", "box+slab"])
def test_two_halves_cover_a_region(kind: str, parts: str) -> None:
    balls = region(Case(kind, parts, 4, seed=6))
    points = balls.sample(200, torch.Generator().manual_seed(2))
    g = functions(Case(kind, parts, 4))
    splits = [balls.split(coordinate=3)]
    if balls.slab is not None:
        splits.append(balls.split())
    for first, second in splits:
        inside, outside = first.contains(points), second.contains(points)
        assert (inside | outside).float().mean() > 0.99  # none but those on the cut itself
        assert inside.any()
        assert outside.any()
        least = torch.minimum(first.minimum(g), second.minimum(g))
        whole = balls.minimum(g)
        assert (least >= whole - 1e-4 * whole.abs()).all()
        assert (least <= (g * (balls.argmin(g) - balls.center[:, None])).sum(-1)).all()
    first, second = splits[0]
    assert first.box is not None
    assert second.box is not None
    assert torch.equal(first.box[1][:, 3], second.box[0][:, 3])
    if parts == "box+slab":
        first, second = splits[1]
        assert first.slab is not None
        assert second.slab is not None
        assert torch.equal(first.slab.high, second.slab.low)


def test_points_have_the_shape_of_inputs() -> None:
    images = Ball(torch.rand(2, 1, 3, 3), 0.1, box=(0, 1))
    assert images.sample(5).shape == (2, 5, 1, 3, 3)
    assert images.contains(images.sample(5)).shape == (2, 5)
    assert images.contains(torch.rand(2, 1, 3, 3)).shape == (2,)
    assert images.contains(torch.rand(2, 9)).shape == (2,)
    assert images.project(torch.rand(2, 1, 3, 3)).shape == (2, 1, 3, 3)
    assert images.minimum(torch.rand(2, 7, 1, 3, 3)).shape == (2, 7)
    assert images.minimum(torch.rand(2, 7, 9)).shape == (2, 7)
    assert images.argmin(torch.rand(2, 7, 9)).shape == (2, 7, 9)
    assert images.minimum(torch.rand(2, 0, 9)).shape == (2, 0)
    for wrong in (torch.rand(2, 8), torch.rand(3, 1, 3, 3), torch.rand(9)):
        with pytest.raises(ValueError, match="points must have the shape"):
            images.contains(wrong)
        with pytest.raises(ValueError, match="linear functions must have the shape"):
            images.minimum(wrong)


def test_a_region_that_no_float_is_proved_to_lie_in_is_named() -> None:
    thin = Ball(torch.zeros(2, 2), 1.0, slab=(torch.tensor([1.0, 1.0]) / 3, 0.1, 0.1))
    with pytest.raises(ValueError, match="the region of row 0: it is too thin"):
        thin.sample(1)


def test_samples_follow_their_generator() -> None:
    balls = region(Case("l2", "box", 3))
    first, second = (balls.sample(3, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_a_shape_that_begins_with_one_is_no_second_point() -> None:
    """(1, 7) could be read as one flat point of each row: a sequence with one channel."""
    region = Ball(torch.zeros(3, 1, 7), 0.5, "l2")
    points = region.sample(4)
    assert points.shape == (3, 4, 1, 7)
    assert region.contains(points).all()
    assert region.project(10.0 * points).shape == (3, 4, 1, 7)
