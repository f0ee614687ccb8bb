"""What a step of training minimises: one objective a method, all with the same face."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vercomp.core.regions.constructors import Ball

if TYPE_CHECKING:
    from vercomp.core.regions.region import Region
    from vercomp.core.regularizer import Regularizer
    from vercomp.live import LiveNetwork
    from vercomp.train.recipe import Recipe

CLEAN_SHARE = 8
"""Where a loss needs no clean logits, clean accuracy is taken on every eighth input."""


@dataclass(frozen=True)
class Batch:
    """What a step is made of.

    Args:
        x: Inputs (B, *shape).
        y: Labels (B,).
        start: Perturbations (B, *shape) that attacks begin at; None: as the method has it.
        generator: Of random starts.
    """

    x: Tensor
    y: Tensor
    start: Tensor | None
    generator: torch.Generator


@dataclass(frozen=True)
class Moment:
    """The schedules' values at a step.

    Args:
        radius: ρ of the balls.
        penalty: γ of the curvature bound.
        exponent: q of the generalised cross entropy.
        grown: The share of its way that the radius has come: what else changes with it.
    """

    radius: float
    penalty: float
    exponent: float
    grown: float = 1.0


@dataclass(frozen=True)
class Loss:
    """A step's loss and what was seen on the way.

    Args:
        value: The scalar to minimise, with its graph.
        point: The inputs that it was taken at (B, *shape), without a graph; those given, where the
            method attacks none.
        correct: How many inputs are classified as their labels. Where the method has no need of the
            logits there, counted on every eighth input and scaled up.
        attacked_correct: How many are at ``point``.
        curvature: The mean of the latest curvature bounds κ of all pairs; None without a
            regulariser.
        bounded_correct: How many have positive bounds of all margins, up to rounding; None where
            the method bounds none.
    """

    value: Tensor
    point: Tensor
    correct: int
    attacked_correct: int
    curvature: float | None
    bounded_correct: int | None = None


def generalised_cross_entropy(logits: Tensor, y: Tensor, exponent: float) -> Tensor:
    """The mean of (1 − p_y^q)/q (Zhang and Sabuncu, 2018), p the softmax of the logits (B, C).

    q → 0 is cross entropy, q = 1 the share of the probability that is misplaced: the larger q, the
    less weight have inputs that are lost anyway.
    """
    if exponent == 0.0:
        return F.cross_entropy(logits, y)
    log_p = logits.log_softmax(1).gather(1, y[:, None])
    return (-torch.expm1(exponent * log_p) / exponent).mean()


def right(logits: Tensor, y: Tensor) -> int:
    """How many inputs are classified as their labels."""
    return int((logits.detach().argmax(1) == y).sum())


def mean_bound(curvature: Tensor) -> float:
    """The mean κ of the pairs of different classes, of κ (C, C) with a zero diagonal."""
    return float(curvature.sum()) / (len(curvature) * (len(curvature) - 1))


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Inside, forward passes may run in training mode; afterwards all buffers are what they were.

    An attack looks at the network many times a step, and running statistics must see each batch
    once. To be left before a graph is built that shall go backward: the buffers are written to.
    """
    # All are written back: batch norm's writes leave no trace in version counters.
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, content in before:
                buffer.copy_(content)


class Objective(ABC):
    """The loss of a method, as a function of a batch and of the moment.

    Args:
        recipe: The numbers of the training.
        model: Called for the loss: the network, or its DistributedDataParallel wrapper. Attacks
            look at the network itself: nothing is synchronised for them.
        regularizer: The curvature bound; methods without penalty ignore it.
        network: The model's graph over its live parameters, of methods that send regions through
            it. What is computed from it goes backward to the model's own parameters; beside it the
            model itself is to be called in every step, so that several processes agree.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        regularizer: Regularizer | None,
        network: LiveNetwork | None = None,
    ) -> None:
        self.recipe = recipe
        self.model = model
        self.regularizer = regularizer
        self._network = network
        self.inner: nn.Module = (
            model.module if isinstance(model, DistributedDataParallel) else model
        )

    @abstractmethod
    def __call__(self, batch: Batch, now: Moment) -> Loss:
        """The loss on a batch at a moment of the schedules."""

    def cross_entropy(self, logits: Tensor, y: Tensor, now: Moment) -> Tensor:
        """The generalised cross entropy of logits (B, C), or of −m for lower bounds m of margins.

        The recipe's temperature divides them: above 1, inputs that are classified with a large
        margin keep their weight for longer.
        """
        temperature = self.recipe.temperature
        scaled = logits if temperature == 1.0 else logits / temperature
        return generalised_cross_entropy(scaled, y, now.exponent)

    @property
    def network(self) -> LiveNetwork:
        """The model's graph over its live parameters."""
        assert self._network is not None  # noqa: S101 - a method that is propagated has one
        return self._network

    def region(self, x: Tensor, radius: float) -> Region:
        """The balls around inputs in the recipe's norm, cut by its box."""
        return Ball(x, radius, self.recipe.norm, box=self.recipe.box)

    def penalised(self, value: Tensor, penalty: float) -> tuple[Tensor, float | None]:
        """value + γ·κ, κ the mean bound over the pairs of classes, and the latest κ of all pairs.

        Over all pairs, not over those of the batch's labels: processes that look at different
        inputs then look at the same pairs. With γ = 0 the bound is evaluated all the same, without
        a graph: the attack takes its step sizes from it.
        """
        if self.regularizer is None:
            return value, None
        with torch.set_grad_enabled(penalty != 0.0):
            bound: Tensor = self.regularizer()
        mean = mean_bound(self.regularizer.latest)
        return value + penalty * bound if penalty else value, mean

    def clean_correct(self, batch: Batch) -> int:
        """An estimate of how many inputs are classified correctly, from every eighth or eight.

        To be asked for before the loss has a graph: see :func:`untouched`.
        """
        stride = max(1, min(CLEAN_SHARE, len(batch.y) // CLEAN_SHARE))
        y = batch.y[::stride]
        with torch.no_grad(), untouched(self.inner):
            count = right(self.inner(batch.x[::stride]), y)
        return round(count * len(batch.y) / max(len(y), 1))
