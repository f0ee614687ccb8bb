"""The search for radii: only what was proved counts, and bounds show where to look."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vercomp.core.methods.certificates import EXACT_GAP
from vercomp.core.methods.radii import largest_radius

COUNT = 100
ROOT = 10.0 ** (4.0 * torch.rand(COUNT, generator=torch.Generator().manual_seed(0)).double() - 2.0)
SHAPE = 0.5 + 3.0 * torch.rand(COUNT, generator=torch.Generator().manual_seed(1)).double()

Bounds = Callable[[Tensor, Tensor], Tensor]
BOUNDS: dict[str, tuple[Bounds, float]] = {
    "powers": (lambda rows, r: 1.0 - (r / ROOT[rows]) ** SHAPE[rows], 9.0),
    "exponentials": (
        lambda rows, r: (
            1.0 - torch.expm1(3.0 * SHAPE[rows] * r / ROOT[rows]) / torch.expm1(3.0 * SHAPE[rows])
        ),
        13.0,
    ),
    "cliffs": (lambda rows, r: torch.where(r < ROOT[rows], 1.0, -math.inf).double(), 18.0),
    "waves": (
        lambda rows, r: torch.where(r < ROOT[rows], 1.0 + torch.sin(40.0 * r), -1.0 - r).double(),
        20.0,
    ),
}


class Counted:
    """Bounds, with what was asked and proved."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.count = torch.zeros(COUNT)
        self.proved: list[set[float]] = [{0.0} for _ in range(COUNT)]

    def __call__(self, rows: Tensor, radii: Tensor) -> Tensor:
        self.count[rows] += 1
        found = self.bounds(rows, radii)
        for row, radius, value in zip(rows.tolist(), radii.tolist(), found.tolist(), strict=True):
            if value > 0.0:
                self.proved[row].add(radius)
        return found


@pytest.mark.parametrize("name", BOUNDS)
def test_the_largest_proved_radius_is_returned(name: str) -> None:
    bounds, most = BOUNDS[name]
    asked = Counted(bounds)
    zero, first = torch.zeros(COUNT).double(), torch.full((COUNT,), 0.1).double()
    found = largest_radius(asked, zero, first, torch.ones(COUNT).double())
    assert all(
        radius == max(proved) for radius, proved in zip(found.tolist(), asked.proved, strict=True)
    )
    assert (found <= ROOT).all()
    assert (found * (1.0 + 1.1 * EXACT_GAP) >= ROOT).all()
    assert asked.count.mean() <= most


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("start", [math.nan, -1.0, 1e-9, 1e9])
def test_a_wrong_start_costs_no_more_than_time(name: str, start: float) -> None:
    bounds, _ = BOUNDS[name]
    zero, first = torch.zeros(COUNT).double(), torch.full((COUNT,), 0.1).double()
    found = largest_radius(Counted(bounds), zero, first, torch.full((COUNT,), start).double())
    assert (found <= ROOT).all()
    assert (found * (1.0 + 1.1 * EXACT_GAP) >= ROOT).all()


def test_known_radii_stay_where_nothing_is_gained() -> None:
    asked = Counted(BOUNDS["powers"][0])
    first, ones = torch.full((COUNT,), 0.1).double(), torch.ones(COUNT).double()
    known = ROOT * torch.where(torch.arange(COUNT) % 2 == 0, 1.2, 0.8)
    found = largest_radius(asked, known, first, ones)
    assert torch.equal(found[::2], known[::2])
    assert (asked.count[::2] == 1).all()
    assert (found[1::2] * (1.0 + 1.1 * EXACT_GAP) >= ROOT[1::2]).all()


def test_what_is_decided_is_looked_at_once() -> None:
    asked = Counted(BOUNDS["powers"][0])
    zero, ones = torch.zeros(COUNT).double(), torch.ones(COUNT).double()
    found = largest_radius(asked, zero, ones * (1.0 + 1e-9), ones, 1.0)
    assert torch.equal(found > 1.0, ROOT > 1.0)
    assert (asked.count == 1).all()


@pytest.mark.parametrize("value", [math.nan, -math.inf, 0.0])
def test_nothing_is_proved_by_what_is_no_positive_number(value: float) -> None:
    zero, first = torch.zeros(COUNT).double(), torch.full((COUNT,), 0.1).double()
    found = largest_radius(
        lambda rows, radii: torch.full_like(radii, value), zero, first, torch.ones(COUNT).double()
    )
    assert torch.equal(found, zero)
