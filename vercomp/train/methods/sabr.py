"""SABR: interval bounds over a small ball around an attacked point.

Müller et al., *Certified Training: Small Boxes Are All You Need* (2023). The ball of radius λρ lies
around a point that was attacked in the ball of radius (1 − λ)ρ, and so inside the ball of radius ρ.
Small balls regularise less; the network is certified by bounds that are tighter than intervals.
"""

from __future__ import annotations

from vercomp.train.attacks import region_attack
from vercomp.train.method import NORMS, Method, Number
from vercomp.train.methods.ibp import IntervalTraining, bounded
from vercomp.train.objectives import Batch, Loss, Moment, right, untouched

METHOD = Method(
    name="sabr",
    summary="cross entropy of interval bounds in small balls at attacked points (Müller et al. "
    "2023)",
    objective="SmallBallTraining",
    attacked=True,
    propagated=True,
    certified_by=("interval", "crown"),
    norms=NORMS,
    numbers=(Number("share", 0.4, "The small ball's share of the radius.", low=0.0, high=1.0),),
    defaults={"radius_ramp": 0.5, "held": 0.6},
)


class SmallBallTraining(IntervalTraining):
    """The cross entropy of margins bounded over a small ball around an attacked point."""

    def __call__(self, batch: Batch, now: Moment) -> Loss:
        """The loss on a batch at a moment of the schedules."""
        x, y, share = batch.x, batch.y, self.recipe.number("share")
        clean = self.clean_correct(batch)
        around = self.region(x, (1.0 - share) * now.radius)
        with untouched(self.inner):
            point = region_attack(
                self.inner, x, y, around, steps=self.recipe.attack_steps, generator=batch.generator
            )
        logits = self.model(point)
        lower = self.margins(self.region(point, share * now.radius), y, now)
        # The logits weigh nothing; called for, they let several processes agree on the gradient.
        value = self.cross_entropy(-lower, y, now) + 0.0 * logits.sum()
        return Loss(value, point, clean, right(logits, y), None, bounded(lower, y))
