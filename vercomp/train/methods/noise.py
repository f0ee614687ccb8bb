"""Training under noise: the loss at inputs with normal noise, for classifiers that are smoothed."""

from __future__ import annotations

import torch

from vercomp.train.method import Method, Number
from vercomp.train.objectives import (
    Batch,
    Loss,
    Moment,
    Objective,
    right,
)

METHOD = Method(
    name="noise",
    summary="cross entropy under normal noise, for smoothing (Cohen et al. 2019)",
    objective="NoiseTraining",
    last=True,
    numbers=(Number("sigma", 0.25, "Deviation of the noise, in the units of the input.", low=0.0),),
)


class NoiseTraining(Objective):
    """Cohen, Rosenfeld and Kolter (2019): cross entropy at x + ε, ε ~ N(0, σ²I), drawn anew."""

    def __call__(self, batch: Batch, now: Moment) -> Loss:
        """The loss at noisy inputs."""
        noise = torch.randn(
            batch.x.shape,
            generator=batch.generator,
            dtype=batch.x.dtype,
            device=batch.generator.device,
        )
        point = batch.x + self.recipe.number("sigma") * noise.to(batch.x.device)
        correct = self.clean_correct(batch)
        logits = self.model(point)
        value = self.cross_entropy(logits, batch.y, now)
        return Loss(value, point, correct, right(logits, batch.y), None)
