"""Training on the convex outer adversarial polytope: bounds by the dual network as margins."""

from __future__ import annotations

from vercomp.core.methods.coap_loss import coap_lower_bounds
from vercomp.core.specifications import Specification, units
from vercomp.train.method import NORMS, Method, Number
from vercomp.train.methods.ibp import bounded
from vercomp.train.objectives import Batch, Loss, Moment, Objective, right

METHOD = Method(
    name="coap",
    summary="cross entropy of bounds by the dual network (Wong and Kolter 2018), exact or by "
    "random projections (Wong et al. 2018)",
    objective="CoapTraining",
    propagated=True,
    certified_by=("coap",),
    norms=NORMS,
    numbers=(
        Number(
            "projections",
            0,
            "Random vectors that estimate the bounds of hidden layers in coap; 0: exact bounds.",
            low=0,
        ),
    ),
    defaults={"radius_ramp": 1 / 3, "held": 1 / 3},
)


class CoapTraining(Objective):
    """The robust loss of Wong and Kolter: margins are their lower bounds over the ball.

    With projections the intervals of hidden layers are median estimates, which cost as many
    forward passes as there are random vectors, however wide the network is. They steer, and what
    the network is worth is certified exactly.
    """

    def __call__(self, batch: Batch, now: Moment) -> Loss:
        """The loss on a batch at a moment of the schedules."""
        logits = self.model(batch.x)
        rows = units(self.network.outputs).to(batch.y.device)
        lower = coap_lower_bounds(
            self.network.nodes(),
            self.region(batch.x, now.radius),
            Specification.of(rows[batch.y][:, None] - rows),
            self.network.dtype,
            projections=int(self.recipe.number("projections")),
            generator=batch.generator,
        )
        # The logits of a point that would be as bad as the bounds say: 0 for the label itself.
        value = self.cross_entropy(-lower, batch.y, now)
        value = value + 0.0 * logits.sum()  # several processes agree on what was called
        correct = right(logits, batch.y)
        return Loss(value, batch.x, correct, correct, None, bounded(lower, batch.y))
