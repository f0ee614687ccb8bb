r"""Interval bound propagation: cross entropy of the margins that intervals prove.

Gowal et al., *On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust
Models* (2018): κ·CE(z(x), y) + (1 − κ)·CE(−m, y), where m[t] is a lower bound of z_y − z_t over the
ball and κ falls from 1 to its last value as the radius grows. The other methods of this family
differ in the bounds and where they are taken:

    crown-ibp    m is β·(bounds by lines) + (1 − β)·(bounds by intervals)
    mtl-ibp      (1 − α)·CE at attacked points in the place of the clean term
    sabr         m over a small ball around an attacked point

Bounds are float32 and steer; what they have come to is certified afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vercomp.core.methods.crown_loss import crown_margins
from vercomp.core.regions.region import Region
from vercomp.train.method import NORMS, Method, Number
from vercomp.train.objectives import (
    Batch,
    Loss,
    Moment,
    Objective,
    right,
)

METHOD = Method(
    name="ibp",
    summary="cross entropy of margins bounded by intervals (Gowal et al. 2018)",
    objective="IntervalTraining",
    propagated=True,
    certified_by=("interval",),
    norms=NORMS,
    numbers=(
        Number(
            "kappa",
            0.5,
            "Weight of the clean loss when the radius has grown; 1 before it grows.",
            low=0.0,
            high=1.0,
        ),
    ),
    defaults={"radius_ramp": 0.5, "held": 0.6},
)


class IntervalTraining(Objective):
    """κ times the cross entropy at the inputs, and 1 − κ times that of bounded margins."""

    def __call__(self, batch: Batch, now: Moment) -> Loss:
        """The loss on a batch at a moment of the schedules."""
        logits = self.model(batch.x)
        kappa = 1.0 - now.grown * (1.0 - self.recipe.number("kappa"))
        value = kappa * self.cross_entropy(logits, batch.y, now)
        lower = self.margins(self.region(batch.x, now.radius), batch.y, now)
        value = value + (1.0 - kappa) * self.cross_entropy(-lower, batch.y, now)
        correct = right(logits, batch.y)
        return Loss(value, batch.x, correct, correct, None, bounded(lower, batch.y))

    def margins(self, region: Region, y: Tensor, now: Moment) -> Tensor:
        """Lower bounds (B, C) of z_y − z_t over a region; 0 for the label."""
        return crown_margins(self.network, region, y, self.network.outputs, beta=0.0)


def bounded(lower: Tensor, y: Tensor) -> int:
    """How many inputs have positive bounds of all margins, up to rounding."""
    others = lower.detach().scatter(1, y[:, None], torch.inf)
    return int((others > 0.0).all(1).sum())
