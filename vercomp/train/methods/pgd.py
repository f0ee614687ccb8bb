"""Adversarial training: the loss at points of projected gradient ascent."""

from __future__ import annotations

import torch
from torch import Tensor

from vercomp.train.attacks import projected_gradient, region_attack
from vercomp.train.method import NORMS, Method
from vercomp.train.objectives import (
    Batch,
    Loss,
    Moment,
    Objective,
    right,
    untouched,
)

METHOD = Method(
    name="pgd",
    summary="cross entropy at points of projected gradient ascent (Madry et al. 2018)",
    objective="AdversarialTraining",
    attacked=True,
    warm=True,
    norms=NORMS,
)


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
            value = weight * self.cross_entropy(clean, batch.y, now)
        else:
            correct = self.clean_correct(batch)
            logits, value = self.model(point), point.new_zeros(())
        value = value + self.cross_entropy(logits, batch.y, now)
        value, curvature = self.penalised(value, now.penalty)
        return Loss(value, point, correct, right(logits, batch.y), curvature)

    def attack(self, batch: Batch, now: Moment) -> Tensor:
        """The points (B, *shape) that the loss is taken at."""
        if self.recipe.norm != "l2" or self.recipe.box is not None:
            return region_attack(
                self.inner,
                batch.x,
                batch.y,
                self.region(batch.x, now.radius),
                steps=self.recipe.attack_steps,
                start=batch.start,
                generator=batch.generator,
            )
        return projected_gradient(
            self.inner,
            batch.x,
            batch.y,
            now.radius,
            steps=self.recipe.attack_steps,
            start=batch.start,
            generator=batch.generator,
        )
