"""The descent and the starts of the attack, on functions that are known."""

from __future__ import annotations

import torch
from certifiables import against_zero
from torch import Tensor

from vercomp.core.methods.descent import checkpoints, descend
from vercomp.core.methods.pairs import Margins, Placement
from vercomp.core.methods.starts import escapes, random_starts, tangents
from vercomp.core.regions import Ball
from vercomp.core.regions.moves import Moves

DOUBLE = Placement(torch.device("cpu"), torch.float64)
BEND = torch.tensor([2.0, 0.5, -1.0, 1.0], dtype=torch.float64)


def bowl(pull: Tensor) -> Margins:
    """f = ½ Σ bᵢ xᵢ² + p·x."""
    return Margins(
        against_zero(lambda x: 0.5 * (x * x * BEND).sum(1) + x @ pull, 4, 1.0, 2.0), DOUBLE
    )


def question(count: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(count, dtype=torch.long), torch.ones(count, 1, dtype=torch.long)


def test_checkpoints_come_ever_sooner() -> None:
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == {1}


def test_the_least_value_in_a_ball_is_found() -> None:
    pull = torch.tensor([1.0, 1.0, 0.5, -2.0], dtype=torch.float64)
    moves = Moves(Ball(torch.zeros(1, 4), 1.0), torch.float64)
    label, targets = question(1)
    found = descend(bowl(pull), moves, label, targets, torch.zeros(1, 4).double(), 100)
    assert int(found.evaluations) == 100
    v = torch.randn(200_000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = torch.nn.functional.normalize(v)
    drawn = (0.5 * (v * v * BEND).sum(1) + v @ pull).min()
    assert float(found.least) <= float(drawn) + 1e-4
    assert float(found.point.norm()) <= 1.0 + 1e-12
    value = 0.5 * (found.point.square() * BEND).sum(1) + found.point @ pull
    torch.testing.assert_close(found.least, value)


def test_what_was_best_is_kept_where_all_else_is_not_a_number() -> None:
    def holes(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] < -0.25, torch.nan, x[:, 0])

    margins = Margins(against_zero(holes, 2, 0.0, 0.0), DOUBLE)
    moves = Moves(Ball(torch.zeros(1, 2), 1.0), torch.float64)
    found = descend(margins, moves, *question(1), torch.zeros(1, 2).double(), 60)
    assert -0.25 <= float(found.least) < 0.0


def test_tangents_point_where_they_fall_and_are_flat_at_a_summit() -> None:
    pull = torch.tensor([3.0, 0.0, -4.0, 0.0], dtype=torch.float64)
    moves = Moves(Ball(torch.tensor([[0.0] * 4, [1.0, 0.0, 0.0, 0.0]]), 0.5), torch.float64)
    found = tangents(bowl(pull), moves, *question(2))
    expected = -0.5 * pull / 5.0
    torch.testing.assert_close(found.point[0, 0], expected, rtol=1e-6, atol=1e-9)
    assert not found.flat.any()
    still = tangents(bowl(torch.zeros(4).double()), moves, *question(2))
    assert still.flat.tolist() == [True, False]


def test_escapes_go_along_the_least_curvature() -> None:
    moves = Moves(Ball(torch.zeros(2, 4), 0.5), torch.float64)
    label, targets = question(2)
    found = escapes(bowl(torch.zeros(4).double()), moves, label, targets[:, 0])
    way = torch.tensor([0.0, 0.0, 0.5, 0.0], dtype=torch.float64)
    torch.testing.assert_close(found.abs(), way.expand(2, 2, 4), rtol=0.0, atol=1e-2)
    torch.testing.assert_close(found[:, 0], -found[:, 1])


def test_random_starts_are_alike_in_every_row() -> None:
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    moves = Moves(Ball(x, torch.tensor([1.0, 2.0, 1.0])), torch.float64)
    found = random_starts(moves, 3)
    torch.testing.assert_close(found[0], found[2])
    torch.testing.assert_close(2.0 * found[0], found[1])
    assert not torch.equal(found, random_starts(moves, 4))
