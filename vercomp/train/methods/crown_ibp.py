"""CROWN-IBP: linear bounds over intervals at first, intervals alone in the end.

Zhang et al., *Towards Stable and Efficient Training of Verifiably Robust Neural Networks* (2020).
The share β of bounds by lines falls from 1 to its last value as the radius grows, and κ likewise.
"""

from __future__ import annotations

from torch import Tensor

from vercomp.core.methods.crown_loss import crown_margins
from vercomp.core.regions.region import Region
from vercomp.train.method import NORMS, Method, Number
from vercomp.train.methods.ibp import IntervalTraining
from vercomp.train.objectives import Moment

METHOD = Method(
    name="crown-ibp",
    summary="cross entropy of margins bounded by lines and intervals (Zhang et al. 2020)",
    objective="LinearTraining",
    propagated=True,
    certified_by=("interval",),
    norms=NORMS,
    numbers=(
        Number(
            "kappa",
            0.0,
            "Weight of the clean loss when the radius has grown; 1 before it grows.",
            low=0.0,
            high=1.0,
        ),
        Number(
            "beta",
            0.0,
            "Share of the bounds by lines when the radius has grown; 1 before it grows.",
            low=0.0,
            high=1.0,
        ),
    ),
    defaults={"radius_ramp": 0.5, "held": 0.6},
)


class LinearTraining(IntervalTraining):
    """As interval training, with β·(bounds by lines) + (1 − β)·(bounds by intervals)."""

    def margins(self, region: Region, y: Tensor, now: Moment) -> Tensor:
        """Lower bounds (B, C) of z_y − z_t over a region; 0 for the label."""
        beta = 1.0 - now.grown * (1.0 - self.recipe.number("beta"))
        return crown_margins(self.network, region, y, self.network.outputs, beta)
