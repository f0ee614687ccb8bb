"""Runs of certify and attack for tests of their reports, without a network."""

from __future__ import annotations

from typing import Any

import numpy as np

from vercomp.results.attack_findings import AttackFindings
from vercomp.results.breakdowns import (
    by_class,
    by_method,
    group_of,
    missing_ranges,
    nearest_targets,
)
from vercomp.results.examples import Example, extremes
from vercomp.results.findings import Findings
from vercomp.results.summaries import attack_summary, certificate_summary


def certificates(count: int, classes: int = 3) -> dict[str, np.ndarray]:
    """Arrays as in ``certificates.npz``: every seventh input is misclassified."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, classes, count)
    wrong = np.arange(count) % 7 == 6
    radius = np.where(wrong, 0.0, rng.random(count))
    table = np.tile(radius[:, None], (1, classes))
    return {
        "index": np.arange(count),
        "label": label,
        "prediction": np.where(wrong, (label + 1) % classes, label),
        "radius": radius,
        "target": (label + 1) % classes,
        "exact": rng.random(count) < 0.5,
        "gap": np.where(rng.random(count) < 0.5, 0.1, np.inf),
        "radius_per_target": table,
        "runner_up": (label + 1) % classes,
        "radius_runner_up": radius,
        "evaluations": np.ones((count, classes), dtype=int),
        "seconds": np.full(count, 0.01),
        "method": np.where(rng.random(count) < 0.7, "curvature", "crown"),
    }


def examples(
    arrays: dict[str, np.ndarray], places: list[int], shape: tuple[int, ...], column: str = "radius"
) -> list[Example]:
    """Inputs with something beside them."""
    rng = np.random.default_rng(1)
    made = []
    for place in places:
        x = rng.random(shape)
        made.append(
            Example(
                place,
                int(arrays["label"][place]),
                float(arrays[column][place]),
                float(arrays[column][place]) + 0.1,
                int(arrays["target"][place]),
                x,
                np.clip(x + rng.normal(size=shape) / 10, 0.0, 1.0),
                ((0.5,), (0.4,)),
            )
        )
    return made


def findings(
    count: int = 30,
    *,
    name: str = "net",
    shape: tuple[int, ...] = (1, 8, 8),
    radius: float | None = None,
    decide: bool = False,
    total: int | None = None,
    labelled: bool = True,
    **changed: Any,
) -> Findings:
    """A run of certify."""
    arrays = certificates(count)
    distance = np.where(arrays["radius"] > 0, arrays["radius"] * 1.5, 0.0)
    summary = certificate_summary(
        arrays, radius=radius, targets="all", decide=decide, undecided=(total or count) - count
    )
    radii = (radius,) if decide and radius is not None else (0.25, 0.5)
    correct = arrays["label"] == arrays["prediction"]
    weak, strong = extremes(arrays["radius"], correct)
    values: dict[str, Any] = {
        "name": name,
        "data": name,
        "question": "",
        "summary": summary,
        "arrays": arrays,
        "column": "radius",
        "distance": distance,
        "radii": radii,
        "overall": group_of("all", np.arange(count), arrays, "radius", distance, radii),
        "classes": by_class(arrays, "radius", distance, radii) if labelled else [],
        "confusion": nearest_targets(arrays, "radius", 3) if labelled else None,
        "methods": by_method(arrays, "radius"),
        "layers": None,
        "weakest": examples(arrays, weak, shape),
        "strongest": examples(arrays, strong, shape),
        "missing": missing_ranges(arrays["index"], total or count),
        "shapes": (shape, shape),
    }
    return Findings(**{**values, **changed})


def attacks(
    count: int = 30, shape: tuple[int, ...] = (1, 8, 8), name: str = "net"
) -> AttackFindings:
    """A run of attack."""
    arrays = certificates(count)
    margin = np.random.default_rng(2).normal(0.3, 0.5, count)
    arrays = {**arrays, "margin": margin, "lower_bound": margin - 0.2}
    summary = attack_summary(arrays, radius=0.5)
    every = np.arange(count)
    weak, strong = extremes(margin, arrays["label"] == arrays["prediction"])
    broken = {**arrays, "margin": np.where(margin > 0, np.nan, margin)}
    return AttackFindings(
        name,
        name,
        summary,
        arrays,
        group_of("all", every, arrays, "lower_bound", margin, (0.0,)),
        by_class(arrays, "lower_bound", margin, (0.0,)),
        nearest_targets(broken, "margin", 3),
        examples(arrays, weak, shape, "margin"),
        examples(arrays, strong, shape, "margin"),
        (shape, shape),
    )
