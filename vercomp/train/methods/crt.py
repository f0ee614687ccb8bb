"""Curvature-based robust training: the loss at worst points, and the curvature bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor

from vercomp.train.attacks import curvature_attack
from vercomp.train.method import Method
from vercomp.train.methods.pgd import AdversarialTraining
from vercomp.train.objectives import Batch, Moment

if TYPE_CHECKING:
    from vercomp.core.regularizer import Regularizer

METHOD = Method(
    name="crt",
    summary="cross entropy at worst points found by Theorem 2, with the penalty (Singla and Feizi "
    "2020, section 6)",
    objective="CurvatureTraining",
    bounded=True,
    attacked=True,
    warm=True,
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
