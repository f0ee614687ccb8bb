"""Which inputs a step sees: the split, the order of every epoch, the shares of processes, shifts.

All of it follows from the seed and the place in the training, and from nothing else: a resumed run
sees what an uninterrupted one sees, and several processes see together what one would.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vercomp.errors import UsageError
from vercomp.train.recipe import BY_DATA, Recipe

SPLIT, ORDER, SHIFTS, ATTACKS, LAYERS, WEIGHTS = range(6)
"""What a generator is for: equal seeds must not give equal numbers to different purposes."""

_LARGEST_SHARE = 5  # at most a fifth of the data is held out


def generator(seed: int, *place: int) -> torch.Generator:
    """A generator of its own for each place (purpose, epoch, step, …) in a training."""
    return torch.Generator().manual_seed(number(seed, *place))


def number(seed: int, *place: int) -> int:
    """A seed for a place: well mixed, so that neighbours have nothing in common."""
    return int(np.random.SeedSequence((seed, *place)).generate_state(1, np.uint64)[0]) >> 1


def held_out(count: int, recipe: Recipe) -> int:
    """How many of so many inputs are held out.

    Raises:
        UsageError: Too few inputs to hold some out.
    """
    found = min(recipe.validation, count // _LARGEST_SHARE)
    if found == 0:
        raise UsageError(f"{count} inputs are too few: a fifth of them selects the network")
    return found


def split(count: int, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows to select by, disjoint, each in ascending order.

    Raises:
        UsageError: Too few inputs to hold some out, or fewer left than a batch takes.
    """
    out = held_out(count, recipe)
    if count - out < recipe.batch_size:
        raise UsageError(
            f"a batch of {recipe.batch_size} is more than the {count - out} inputs that are "
            f"left to train on ({out} are held out)",
            remedy="Give a smaller batch size",
        )
    order = torch.randperm(count, generator=generator(recipe.seed, SPLIT))
    return order[out:].sort().values, order[:out].sort().values


@dataclass(frozen=True)
class Sample:
    """What one process sees in one step.

    Args:
        rows: Places in the training data (B / processes,).
        shifts: Pixels down and to the right, (B / processes, 2); None without augmentation.
    """

    rows: Tensor
    shifts: Tensor | None


@dataclass(frozen=True)
class Order:
    """Batches of all epochs, for one of several processes.

    A process takes every ``size``-th row of each batch, beginning with its rank. The rows that
    fill no batch are left out of their epoch; another order leaves out others.

    Args:
        count: Inputs to train on.
        recipe: Batch size, seed, shifts.
        rank: Of this process.
        size: How many processes.

    Raises:
        UsageError: A batch cannot be shared out evenly.
    """

    count: int
    recipe: Recipe
    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if self.recipe.batch_size % self.size:
            raise UsageError(
                f"a batch of {self.recipe.batch_size} cannot be shared out evenly to {self.size} "
                "processes",
                remedy=f"Give a batch size that is a multiple of {self.size}",
            )

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return self.count // self.recipe.batch_size

    def epoch(self, epoch: int) -> Iterator[Sample]:
        """The batches of an epoch, counted from 1."""
        batch, seed, shift = self.recipe.batch_size, self.recipe.seed, self.recipe.shift
        order = torch.randperm(self.count, generator=generator(seed, ORDER, epoch))
        for step in range(self.steps):
            mine = slice(self.rank, None, self.size)
            rows = order[step * batch : (step + 1) * batch][mine]
            shifts = None
            if shift:
                shifts = _shifts(self.recipe, generator(seed, SHIFTS, epoch, step))[mine]
            yield Sample(rows, shifts)


def _shifts(recipe: Recipe, drawn: torch.Generator) -> Tensor:
    """Moves of every input of a batch along both axes (B, 2)."""
    shape, largest = (recipe.batch_size, 2), recipe.shift
    if recipe.shift_chance == BY_DATA:
        return torch.randint(-largest, largest + 1, shape, generator=drawn)
    size = torch.randint(1, largest + 1, shape, generator=drawn)
    sign = 2 * torch.randint(0, 2, shape, generator=drawn) - 1
    moved = torch.rand(shape, generator=drawn) < recipe.shift_chance
    return torch.where(moved, sign * size, 0)


def shifted(images: Tensor, shifts: Tensor) -> Tensor:
    """Images (B, …, H, W), each moved by its (down, right) pixels; what comes in is 0."""
    height, width = images.shape[-2:]
    flat = images.reshape(len(images), -1, height, width)
    down, right = shifts.to(images.device).unbind(1)
    rows = torch.arange(height, device=images.device) - down[:, None]
    columns = torch.arange(width, device=images.device) - right[:, None]
    each = torch.arange(len(images), device=images.device)[:, None, None]
    moved = flat.transpose(1, 3).transpose(1, 2)[
        each, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
    ]
    inside = _within(rows, height)[:, :, None] & _within(columns, width)[:, None, :]
    moved = moved * inside[..., None].to(images.dtype)
    return moved.permute(0, 3, 1, 2).reshape(images.shape)


def _within(places: Tensor, size: int) -> Tensor:
    return (places >= 0) & (places < size)
