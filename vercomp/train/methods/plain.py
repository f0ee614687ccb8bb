"""Cross entropy at the inputs: the baseline that nothing defends."""

from __future__ import annotations

from vercomp.train.method import NORMS, Method
from vercomp.train.objectives import (
    Batch,
    Loss,
    Moment,
    Objective,
    right,
)

METHOD = Method(
    name="plain",
    summary="cross entropy",
    objective="PlainTraining",
    norms=NORMS,
)


class PlainTraining(Objective):
    """Cross entropy at the inputs; with a regulariser, plus γ·κ."""

    def __call__(self, batch: Batch, now: Moment) -> Loss:
        """The loss on a batch at a moment of the schedules."""
        logits = self.model(batch.x)
        value = self.cross_entropy(logits, batch.y, now)
        value, curvature = self.penalised(value, now.penalty)
        correct = right(logits, batch.y)
        return Loss(value, batch.x, correct, correct, curvature)
