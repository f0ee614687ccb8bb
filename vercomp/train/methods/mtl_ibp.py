"""MTL-IBP: the loss at attacked points and the loss of interval bounds, side by side.

De Palma et al., *Expressive Losses for Verified Robustness via Convex Combinations* (2024):
(1 − α)·CE(z(x′), y) + α·CE(−m, y), x′ attacked in the ball, m from intervals over the whole ball.
"""

from __future__ import annotations

from vercomp.train.attacks import region_attack
from vercomp.train.method import NORMS, Method, Number
from vercomp.train.methods.ibp import IntervalTraining, bounded
from vercomp.train.objectives import (
    Batch,
    Loss,
    Moment,
    right,
    untouched,
)

METHOD = Method(
    name="mtl-ibp",
    summary="cross entropy at attacked points, and that of interval bounds (De Palma et al. 2024)",
    objective="MultiTaskTraining",
    attacked=True,
    propagated=True,
    certified_by=("interval", "crown"),
    norms=NORMS,
    numbers=(
        Number(
            "alpha",
            0.1,
            "Weight of the loss of bounds; that at attacked points has the rest.",
            low=0.0,
            high=1.0,
        ),
    ),
    defaults={"radius_ramp": 0.5, "held": 0.6},
)


class MultiTaskTraining(IntervalTraining):
    """α times the cross entropy of bounded margins, 1 − α times that at attacked points."""

    def __call__(self, batch: Batch, now: Moment) -> Loss:
        """The loss on a batch at a moment of the schedules."""
        x, y, alpha = batch.x, batch.y, self.recipe.number("alpha")
        clean = self.clean_correct(batch)
        region = self.region(x, now.radius)
        with untouched(self.inner):
            point = region_attack(
                self.inner, x, y, region, steps=self.recipe.attack_steps, generator=batch.generator
            )
        logits = self.model(point)
        lower = self.margins(region, y, now)
        value = (1.0 - alpha) * self.cross_entropy(logits, y, now)
        value = value + alpha * self.cross_entropy(-lower, y, now)
        return Loss(value, point, clean, right(logits, y), None, bounded(lower, y))
