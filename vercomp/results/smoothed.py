"""Certificates of smoothed classifiers as arrays, and what they come to. All of it is probable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from vercomp.results.summaries import Arrays, Summary, probable_figures
from vercomp.smoothing.curvature import curvature_bound

if TYPE_CHECKING:
    from torch import Tensor

    from vercomp.smoothing.certify import Noise, SmoothedCertificates

COLUMNS = frozenset(
    (
        "label",
        "prediction",
        "radius",
        "probable_radius",
        "failure_probability",
        "probability",
        "selected",
        "count",
        "base_prediction",
    )
)
"""The arrays of ``certificates.npz``, beside ``index`` and ``seconds``."""


def smoothed_arrays(found: SmoothedCertificates, y: Tensor) -> dict[str, NDArray[Any]]:
    """The arrays of ``certificates.npz`` for inputs with labels y (B,)."""
    columns = {
        "label": y,
        "prediction": found.prediction,
        "radius": torch.full_like(found.radius, torch.nan),  # nothing is proved
        "probable_radius": found.radius,
        "failure_probability": found.failure_probability,
        "probability": found.probability,
        "selected": found.selected,
        "count": found.count,
        "base_prediction": found.base,
    }
    return {name: tensor.numpy() for name, tensor in columns.items()}


def smoothed_summary(
    arrays: Arrays, noise: Noise, *, radius: float | None, undecided: int = 0
) -> Summary:
    """The summary: of the smoothed classifier, but for ``base_accuracy``, the network's own.

    An input on which the smoothed classifier abstains is neither correct nor certified.

    Args:
        arrays: As :func:`smoothed_arrays` gives them.
        noise: What was drawn.
        radius: The radius that the certified accuracy is reported at, or None.
        undecided: Inputs that the time did not suffice for; they are not among the arrays.
    """
    correct = arrays["label"] == arrays["prediction"]
    return {
        "n": len(correct),
        "classifier": "smoothed",
        "sigma": noise.sigma,
        "samples": noise.samples,
        "selection": noise.selection,
        "seed": noise.seed,
        "clean_accuracy": float(correct.mean()),
        "abstained": float((arrays["prediction"] < 0).mean()),
        "base_accuracy": float((arrays["label"] == arrays["base_prediction"]).mean()),
        "radius": radius,
        "norm": "l2",
        "methods": {"smoothing": 1.0},
        "undecided": undecided,
        **probable_figures(arrays, radius),
        "largest_probable_radius": noise.largest_radius,
        "curvature": curvature_bound(noise.sigma),
        "seconds_per_input": float(arrays["seconds"].mean()),
    }
