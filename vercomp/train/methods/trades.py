"""TRADES: cross entropy at the inputs, and how far predictions move at attacked points."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vercomp.train.attacks import divergence_attack
from vercomp.train.method import Method
from vercomp.train.objectives import (
    Batch,
    Loss,
    Moment,
    Objective,
    right,
    untouched,
)

METHOD = Method(
    name="trades",
    summary="cross entropy and a divergence at attacked points (Zhang et al. 2019)",
    objective="Trades",
    attacked=True,
)


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
        value = self.cross_entropy(clean, batch.y, now)
        value = value + self.recipe.trades_beta * divergence
        return Loss(value, point, right(clean, batch.y), right(attacked, batch.y), None)
