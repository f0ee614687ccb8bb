"""What a step of training minimises: one objective a method, all with the same face."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vercomp.train.attacks import curvature_attack, divergence_attack, projected_gradient

if TYPE_CHECKING:
    from vercomp.core.regularizer import Regularizer
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
    """

    radius: float
    penalty: float
    exponent: float


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
    """

    value: Tensor
    point: Tensor
    correct: int
    attacked_correct: int
    curvature: float | None


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
    """

    def __init__(self, recipe: Recipe, model: nn.Module, regularizer: Regularizer | None) -> None:
        self.recipe = recipe
        self.model = model
        self.regularizer = regularizer
        self.inner: nn.Module = (
            model.module if isinstance(model, DistributedDataParallel) else model
        )

    @abstractmethod
    def __call__(self, batch: Batch, now: Moment) -> Loss:
        """The loss on a batch at a moment of the schedules."""

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


class PlainTraining(Objective):
    """Cross entropy at the inputs; with a regulariser, plus γ·κ."""

    def __call__(self, batch: Batch, now: Moment) -> Loss:
        """The loss on a batch at a moment of the schedules."""
        logits = self.model(batch.x)
        value = generalised_cross_entropy(logits, batch.y, now.exponent)
        value, curvature = self.penalised(value, now.penalty)
        correct = right(logits, batch.y)
        return Loss(value, batch.x, correct, correct, curvature)


class AdversarialTraining(Objective):
    """Madry et al. (2018): cross entropy at the points of projected gradient ascent."""

    def __call__(self, batch: Batch, now: Moment) -> Loss:
        """The loss at attacked inputs, beside ``clean_weight`` times that at the inputs."""
        weight = self.recipe.clean_weight
        with untouched(self.inner):
            point = self.attack(batch, now)
        if weight:
            # One call for both: one synchronisation of gradients, one batch of statistics.
            clean, logits = self.model(torch.cat([batch.x, point])).chunk(2)
            correct = right(clean, batch.y)
            value = weight * generalised_cross_entropy(clean, batch.y, now.exponent)
        else:
            correct = self.clean_correct(batch)
            logits, value = self.model(point), point.new_zeros(())
        value = value + generalised_cross_entropy(logits, batch.y, now.exponent)
        value, curvature = self.penalised(value, now.penalty)
        return Loss(value, point, correct, right(logits, batch.y), curvature)

    def attack(self, batch: Batch, now: Moment) -> Tensor:
        """The points (B, *shape) that the loss is taken at."""
        return projected_gradient(
            self.inner,
            batch.x,
            batch.y,
            now.radius,
            steps=self.recipe.attack_steps,
            start=batch.start,
            generator=batch.generator,
        )


class CurvatureTraining(AdversarialTraining):
    """CRT: the loss at the worst points of Theorem 2, plus γ·κ, with every class a target.

    ("Second-Order Provable Defenses", section 6, where only the runner-up is.)
    """

    def attack(self, batch: Batch, now: Moment) -> Tensor:
        """The points (B, *shape) that the loss is taken at."""
        return curvature_attack(
            self.inner,
            batch.x,
            batch.y,
            now.radius,
            cast("Regularizer", self.regularizer).latest,
            steps=self.recipe.attack_steps,
            target=self.recipe.target,
            start=batch.start,
        ).point


class Trades(Objective):
    """TRADES (Zhang et al., 2019): cross entropy at x plus β·KL(p(x) ‖ p(x')), x' attacked."""

    def __call__(self, batch: Batch, now: Moment) -> Loss:
        """The loss on a batch at a moment of the schedules."""
        with untouched(self.inner):
            point = divergence_attack(
                self.inner,
                batch.x,
                now.radius,
                steps=self.recipe.attack_steps,
                generator=batch.generator,
            )
        clean, attacked = self.model(torch.cat([batch.x, point])).chunk(2)
        divergence = F.kl_div(
            attacked.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True
        )
        value = generalised_cross_entropy(clean, batch.y, now.exponent)
        value = value + self.recipe.trades_beta * divergence
        return Loss(value, point, right(clean, batch.y), right(attacked, batch.y), None)
