"""The state that moves: weights, their average, the optimiser, the bound, the perturbations."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from vercomp.core.regularizer import Regularizer
from vercomp.distributed import Processes
from vercomp.errors import DivergenceError
from vercomp.live import LiveNetwork
from vercomp.train.logits import Logits
from vercomp.train.methods import objective
from vercomp.train.objectives import Batch
from vercomp.train.recipe import Recipe
from vercomp.train.samples import ATTACKS, LAYERS, Order, Sample, generator, number, shifted
from vercomp.train.schedules import learning_rate, moment

Row = dict[str, Any]
KEPT = torch.float16
"""Perturbations are kept in units of ρ and rounded: a checkpoint then says all there is to say."""


class Stepper:
    """Takes the steps of one process.

    Args:
        model: What is trained, in place.
        logits: The model as attacks see it.
        regularizer: Its curvature bound, for methods that have a use for it.
        x: Inputs to train on (N, *shape), in the model's type and on its device.
        y: Labels (N,).
        recipe: The numbers.
        processes: Those that share each batch.
        network: The model's graph over its live parameters, for methods that need it.
    """

    def __init__(
        self,
        model: nn.Module,
        logits: Logits,
        regularizer: Regularizer | None,
        x: Tensor,
        y: Tensor,
        recipe: Recipe,
        processes: Processes,
        network: LiveNetwork | None = None,
    ) -> None:
        self.model, self.regularizer, self.recipe = model, regularizer, recipe
        self.x, self.y, self.processes = x, y, processes
        self.order = Order(len(x), recipe, processes.rank, processes.size)
        called: nn.Module = logits
        if processes.size > 1:
            called = DistributedDataParallel(
                logits, find_unused_parameters=logits.output is not None
            )
        self.objective = objective(recipe, called, regularizer, network)
        moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # Decoupled decay; without any, this is Adam.
        self.optimizer = torch.optim.AdamW(
            moved, recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.average = averaged(model, recipe.averaging) if recipe.averaging else None
        self.perturbations: Tensor | None = None
        if recipe.resumes_attacks:
            self.perturbations = torch.zeros_like(x, dtype=KEPT)

    @property
    def weights(self) -> nn.Module:
        """The network that is validated and kept: the average, if there is one."""
        return self.model if self.average is None else self.average.module

    def epoch(self, epoch: int) -> Row:
        """All steps of an epoch, counted from 1; its row of the history.

        Raises:
            DivergenceError: The loss is no longer a finite number.
        """
        begin = time.perf_counter()
        recipe, steps = self.recipe, self.order.steps
        self.model.train()
        if self.regularizer is not None:
            self.regularizer.train()
        torch.manual_seed(number(recipe.seed, LAYERS, epoch, self.processes.rank))
        touched = torch.zeros(len(self.x), dtype=torch.bool, device=self.x.device)
        sums = torch.zeros(5, dtype=torch.float64)
        with products(recipe.precision):
            for step, sample in enumerate(self.order.epoch(epoch)):
                at = (epoch - 1) * steps + step
                seen = self._step(sample, at, epoch, step, touched)
                if not math.isfinite(seen[0]):
                    raise diverged(epoch, step)
                sums += torch.tensor(seen, dtype=torch.float64)
        self._share_perturbations(touched)
        loss, correct, attacked, curvature, bounded = self.processes.total(sums).tolist()
        inputs = steps * recipe.batch_size
        batches = steps * self.processes.size
        last = moment(recipe, epoch * steps - 1, recipe.epochs * steps)
        return {
            "epoch": epoch,
            "loss": loss / batches,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "radius": last.radius,
            "penalty": last.penalty,
            "clean_accuracy": correct / inputs,
            "attacked_accuracy": attacked / inputs if recipe.attacked else None,
            "bounded_accuracy": bounded / inputs if recipe.propagated else None,
            "curvature": curvature / batches if recipe.bounded else None,
            "seconds": time.perf_counter() - begin,
        }

    def _step(
        self, sample: Sample, at: int, epoch: int, step: int, touched: Tensor
    ) -> tuple[float, int, int, float, int]:
        recipe, total = self.recipe, self.recipe.epochs * self.order.steps
        rows = sample.rows.to(self.x.device)
        x, y = self.x[rows], self.y[rows]
        start = None
        if self.perturbations is not None:
            start = self.perturbations[rows].to(x) * recipe.radius
        if sample.shifts is not None:
            x = shifted(x, sample.shifts)
            start = None if start is None else shifted(start, sample.shifts)
        drawn = generator(recipe.seed, ATTACKS, epoch, step, self.processes.rank)
        loss = self.objective(Batch(x, y, start, drawn), moment(recipe, at, total))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(at, total, recipe.learning_rate, recipe.held)
        self.optimizer.zero_grad(set_to_none=True)
        loss.value.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        if self.perturbations is not None:
            found = (loss.point - x) / recipe.radius
            if sample.shifts is not None:
                found = shifted(found, -sample.shifts)
            self.perturbations[rows] = found.to(KEPT)
            touched[rows] = True
        value = float(loss.value.detach())
        seen = loss.correct, loss.attacked_correct, loss.curvature or 0.0
        return value, *seen, loss.bounded_correct or 0

    def _share_perturbations(self, touched: Tensor) -> None:
        """What each process found in an epoch, to all: an input's next step may be another's."""
        if self.perturbations is None or self.processes.size == 1:
            return
        mine = touched.reshape(-1, *(1,) * (self.x.ndim - 1))
        # Each input was one process's alone: a sum with zeros is exact.
        new = self.processes.total(torch.where(mine, self.perturbations, 0.0).to(KEPT))
        anyone = self.processes.total(touched.to(torch.uint8)).bool().reshape(mine.shape)
        self.perturbations = torch.where(anyone, new, self.perturbations)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, but for the data and the recipe."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "regularizer": None if self.regularizer is None else self.regularizer.state_dict(),
            "perturbations": self.perturbations,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.regularizer is not None:
            self.regularizer.load_state_dict(state["regularizer"])
        if self.perturbations is not None:
            self.perturbations.copy_(state["perturbations"])


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights; buffers are those of the model.

    After n steps its decay is min(decay, (1 + n)/(10 + n)): it soon forgets where it began.
    """

    def move(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        n = torch.as_tensor(count).to(average)
        return torch.lerp(average, current, 1.0 - ((1.0 + n) / (10.0 + n)).clamp(max=decay))

    return AveragedModel(model, avg_fn=move)


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Inside, float32 matrix products have this precision; outside, the one they had."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def diverged(epoch: int, step: int) -> DivergenceError:
    """The training cannot go on."""
    return DivergenceError(
        f"the loss is not a finite number any more, in epoch {epoch} at step {step + 1}",
        remedy="Lower the learning rate, or the penalty; the last checkpoint is as it was",
    )
