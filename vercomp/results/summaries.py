"""What the results of a run come to: the numbers of the tables and of the JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Summary = dict[str, Any]


def certificate_summary(
    arrays: Arrays,
    *,
    radius: float | None,
    targets: str,
    decide: bool = False,
    norm: str = "l2",
    box: tuple[float, float] | None = None,
    methods: Sequence[str] | None = None,
    undecided: int = 0,
) -> Summary:
    """The summary of certificates.

    Means and medians are over the inputs classified correctly, and infinite if the radii are. A
    pair *entered the dual* if it took more than the one gradient of the closed form. What has no
    value (no radius was asked about, only runner-ups were targets, nothing entered) is None.

    Of a probable method nothing is proved: ``certified_accuracy``, ``mean_radius`` and their like
    are None, and the summary has ``"evidence": "probable"`` and figures under names of their own,
    with the confidence of each certificate and of all of them together.

    Args:
        arrays: As in ``certificates.npz``: ``label``, ``prediction``, ``radius``,
            ``radius_runner_up``, ``exact`` and ``seconds`` (N,), ``evaluations`` (N, C); of a
            probable method also ``probable_radius`` and ``failure_probability`` (N,).
        radius: The radius that accuracies are reported at.
        targets: ``"all"`` or ``"runner-up"``.
        decide: Radii were refined only as far as it takes to compare them with ``radius``: their
            means, and the share of exact ones, are then lower bounds of what they could be.
        norm: The norm that radii are in.
        box: The limits of perturbed inputs, or None.
        methods: The methods that were asked for; None for all.
        undecided: Inputs that the time did not suffice for; they are not among the arrays.
    """
    correct = arrays["label"] == arrays["prediction"]
    counts = arrays["evaluations"][arrays["evaluations"] > 1]
    summary: Summary = {
        "n": len(correct),
        "clean_accuracy": _mean(correct),
        "radius": radius,
        "norm": norm,
        "box": None if box is None else list(box),
        "targets": targets,
        "decide": decide,
        "methods": _shares(arrays, targets, methods),
        "undecided": undecided,
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
    if "probable_radius" in arrays:
        return summary | probable_figures(arrays, radius)
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


def probable_figures(arrays: Arrays, radius: float | None) -> Summary:
    """What the summary of probable certificates has in the place of proved figures.

    Args:
        arrays: ``label``, ``prediction``, ``probable_radius`` and ``failure_probability`` (N,).
        radius: The radius that the accuracy is reported at, or None.
    """
    correct = arrays["label"] == arrays["prediction"]
    radii, failure = arrays["probable_radius"], arrays["failure_probability"]
    at = None if radius is None else accuracy_at(arrays, radius, "probable_radius")
    return {
        "evidence": "probable",
        "confidence": 1.0 - float(failure.max(initial=0.0)),
        "confidence_of_all": max(0.0, 1.0 - math.fsum(failure)),
        "probably_certified_accuracy": at,
        "mean_probable_radius": _mean(radii[correct]),
        "median_probable_radius": _median(radii[correct]),
    }


def _shares(arrays: Arrays, targets: str, asked: Sequence[str] | None) -> dict[str, float]:
    """The share of the inputs for which each method gave a radius above 0, the largest first."""
    column = "radius" if targets == "all" else "radius_runner_up"
    column = "probable_radius" if "probable_radius" in arrays else column
    found, given = arrays["method"], arrays[column] > 0.0
    shares = {str(name): _mean(given & (found == name)) or 0.0 for name in np.unique(found)}
    shares |= {name: 0.0 for name in asked or () if name not in shares}
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def attack_summary(
    arrays: Arrays,
    *,
    radius: float,
    norm: str = "l2",
    box: tuple[float, float] | None = None,
) -> Summary:
    """The summary of attacks.

    Args:
        arrays: As in ``attacks.npz``: ``label``, ``prediction``, ``margin``, ``lower_bound``,
            ``exact``, ``seconds`` (N,) and ``evaluations`` (N, C).
        radius: Of the balls.
        norm: The norm of the balls.
        box: The limits of perturbed inputs, or None.
    """
    correct = arrays["label"] == arrays["prediction"]
    return {
        "n": len(correct),
        "clean_accuracy": _mean(correct),
        "radius": radius,
        "norm": norm,
        "box": None if box is None else list(box),
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
    mean = float(values.mean(dtype=np.float64)) if len(values) else math.nan
    return None if math.isnan(mean) else mean


def _median(values: NDArray[Any]) -> float | None:
    # numpy's median of an even number of values takes a mean, and inf is its own mean with itself
    return float(np.median(values)) if len(values) else None
