"""What a step sees: splits, orders, the shares of processes, shifts of images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vercomp.errors import UsageError
from vercomp.train import Recipe
from vercomp.train.samples import Order, generator, number, shifted, split

RECIPE = Recipe(batch_size=12, shift=2, seed=3)


def test_a_split_is_a_partition_that_follows_from_the_seed() -> None:
    training, validation = split(1000, Recipe(validation=150))
    assert len(validation) == 150
    assert sorted([*training.tolist(), *validation.tolist()]) == list(range(1000))
    again = split(1000, Recipe(validation=150))
    assert torch.equal(training, again[0])
    assert not torch.equal(validation, split(1000, Recipe(validation=150, seed=1))[1])


def test_a_fifth_at_most_is_held_out() -> None:
    assert [len(part) for part in split(1003, Recipe(validation=1000))] == [803, 200]


def test_too_few_inputs_are_refused() -> None:
    with pytest.raises(UsageError, match="4 inputs are too few: a fifth of them"):
        split(4, Recipe())
    with pytest.raises(UsageError, match="batch of 256 is more than the 80 inputs that are left"):
        split(100, Recipe(batch_size=256))


def test_an_epoch_sees_every_input_at_most_once_in_an_order_of_its_own() -> None:
    order = Order(100, RECIPE)
    first = torch.cat([sample.rows for sample in order.epoch(1)])
    assert len(first) == 8 * 12 == order.steps * 12
    assert len(set(first.tolist())) == len(first)
    assert torch.equal(first, torch.cat([sample.rows for sample in order.epoch(1)]))
    assert not torch.equal(first, torch.cat([sample.rows for sample in order.epoch(2)]))


def test_processes_see_together_what_one_would() -> None:
    whole = list(Order(100, RECIPE).epoch(4))
    parts = [list(Order(100, RECIPE, rank, 3).epoch(4)) for rank in range(3)]
    for step, sample in enumerate(whole):
        for rank, part in enumerate(parts):
            assert torch.equal(part[step].rows, sample.rows[rank::3])
            assert sample.shifts is not None
            shifts = part[step].shifts
            assert shifts is not None
            assert torch.equal(shifts, sample.shifts[rank::3])


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(UsageError, match="batch of 12 cannot be shared out evenly to 5 processes"):
        Order(100, RECIPE, 0, 5)


@pytest.mark.parametrize(("shift", "chance"), [(1, 1 / 3), (2, 0.5), (2, 1.0), (1, 0.0)])
def test_an_axis_is_moved_with_its_probability(shift: int, chance: float) -> None:
    recipe = Recipe(batch_size=4000, shift=shift, shift_chance=chance)
    (sample,) = Order(4000, recipe).epoch(1)
    assert sample.shifts is not None
    moved = sample.shifts != 0
    assert float(moved.double().mean()) == pytest.approx(chance, abs=0.03)
    for move in {-shift, -1, 1, shift}:
        share = float((sample.shifts == move).double().mean())
        assert share == pytest.approx(chance / (2 * shift), abs=0.02)
    assert int(sample.shifts.abs().max()) == (shift if chance else 0)
    both = float((moved[:, 0] & moved[:, 1]).double().mean())
    assert both == pytest.approx(chance**2, abs=0.03)


def test_without_augmentation_there_are_no_shifts() -> None:
    assert all(sample.shifts is None for sample in Order(24, Recipe(batch_size=12)).epoch(1))


def test_seeds_of_neighbouring_places_differ() -> None:
    places = [(s, p, e) for s in range(5) for p in range(5) for e in range(5)]
    assert len({number(*place) for place in places}) == len(places)
    assert all(0 <= number(*place) < 2**63 for place in places)
    one, other = (torch.rand(3, generator=generator(0, 1, k)) for k in (1, 2))
    assert not torch.equal(one, other)


def by_hand(image: Tensor, down: int, right: int) -> Tensor:
    """out[i, j] = in[i − down, j − right], or 0."""
    out = torch.zeros_like(image)
    height, width = image.shape[-2:]
    for i in range(height):
        for j in range(width):
            if 0 <= i - down < height and 0 <= j - right < width:
                out[..., i, j] = image[..., i - down, j - right]
    return out


@pytest.mark.parametrize("shape", [(5, 6), (1, 5, 6), (3, 4, 4)])
def test_shifted_images_are_those_by_hand(shape: tuple[int, ...]) -> None:
    drawn = torch.Generator().manual_seed(0)
    images = torch.rand(9, *shape, generator=drawn)
    shifts = torch.cartesian_prod(torch.tensor([-2, 0, 3]), torch.tensor([-1, 0, 2]))
    expected = [by_hand(image, *s) for image, s in zip(images, shifts.tolist(), strict=True)]
    assert torch.equal(shifted(images, shifts), torch.stack(expected))


def test_a_shift_back_is_the_identity_inside() -> None:
    images = torch.zeros(4, 1, 8, 8)
    images[:, :, 2:6, 2:6] = torch.rand(4, 1, 4, 4)
    shifts = torch.tensor([[2, -2], [0, 1], [-1, 0], [2, 2]])
    assert torch.equal(shifted(shifted(images, shifts), -shifts), images)
