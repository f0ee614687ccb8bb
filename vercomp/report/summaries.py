"""What the results of a run come to: the numbers of the tables and of the JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Summary = dict[str, Any]


def certificate_summary(
    arrays: Arrays, *, radius: float | None, targets: str, decide: bool = False
) -> Summary:
    """The summary of certificates.

    Means and medians are over the inputs classified correctly, and infinite if the radii are. A
    pair *entered the dual* if it took more than the one gradient of the closed form. What has no
    value (no radius was asked about, only runner-ups were targets, nothing entered) is None.

    Args:
        arrays: As in ``certificates.npz``: ``label``, ``prediction``, ``radius``,
            ``radius_runner_up``, ``exact`` and ``seconds`` (N,), ``evaluations`` (N, C).
        radius: The radius that accuracies are reported at.
        targets: ``"all"`` or ``"runner-up"``.
        decide: Radii were refined only as far as it takes to compare them with ``radius``: their
            means, and the share of exact ones, are then lower bounds of what they could be.
    """
    correct = arrays["label"] == arrays["prediction"]
    counts = arrays["evaluations"][arrays["evaluations"] > 1]
    summary: Summary = {
        "n": len(correct),
        "clean_accuracy": _mean(correct),
        "radius": radius,
        "targets": targets,
        "decide": decide,
        "certified_accuracy": None,
        "certified_accuracy_runner_up": None,
        "mean_radius": None,
        "median_radius": None,
        "mean_radius_runner_up": _mean(arrays["radius_runner_up"][correct]),
        "exact_fraction": None,
        "gradient_evaluations_per_pair": _mean(counts),
        "gradient_evaluations_max": int(arrays["evaluations"].max(initial=0)),
        "seconds_per_input": _mean(arrays["seconds"]),
    }
    if radius is not None:
        summary["certified_accuracy_runner_up"] = accuracy_at(arrays, radius, "radius_runner_up")
    if targets == "all":
        summary["mean_radius"] = _mean(arrays["radius"][correct])
        summary["median_radius"] = _median(arrays["radius"][correct])
        # A misclassified input is its own witness: exact, but nothing to be proud of.
        summary["exact_fraction"] = _mean(arrays["exact"][correct])
        if radius is not None:
            summary["certified_accuracy"] = accuracy_at(arrays, radius, "radius")
    return summary


def attack_summary(arrays: Arrays, *, radius: float) -> Summary:
    """The summary of attacks.

    Args:
        arrays: As in ``attacks.npz``: ``label``, ``prediction``, ``margin``, ``lower_bound``,
            ``exact``, ``seconds`` (N,) and ``evaluations`` (N, C).
        radius: Of the balls.
    """
    correct = arrays["label"] == arrays["prediction"]
    return {
        "n": len(correct),
        "clean_accuracy": _mean(correct),
        "radius": radius,
        "attacked_accuracy": _mean(correct & (arrays["margin"] > 0)),
        "certified_accuracy": _mean(correct & (arrays["lower_bound"] > 0)),
        "exact_fraction": _mean(arrays["exact"]),
        "mean_margin": _mean(arrays["margin"]),
        "mean_lower_bound": _mean(arrays["lower_bound"]),
        "gradient_evaluations_max": int(arrays["evaluations"].max(initial=0)),
        "seconds_per_input": _mean(arrays["seconds"]),
    }


def accuracy_at(arrays: Arrays, radius: float, column: str) -> float:
    """The share of inputs that are correct and whose certificate exceeds a radius."""
    correct = arrays["label"] == arrays["prediction"]
    return float((correct & (arrays[column] > radius)).mean())


def to_json(summary: Mapping[str, Any]) -> str:
    """One JSON object. JSON has no infinity: it becomes the string "inf" (or "-inf")."""
    return json.dumps(plain(summary), indent=2, allow_nan=False)


def plain(value: Any) -> Any:
    """What JSON can hold: "inf" and "-inf" for infinities, None for NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean(dtype=np.float64)) if len(values) else None


def _median(values: NDArray[Any]) -> float | None:
    # numpy's median of an even number of values takes a mean, and inf is its own mean with itself
    return float(np.median(values)) if len(values) else None
