"""What certificates come to in groups: by class, by pair of classes, by method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vercomp.results.summaries import Arrays, accuracy_at

SHARE_SEEN = 0.02
"""A radius that fewer inputs than this share reach does not widen the range of a curve."""

_WIDEST = 6.0


@dataclass(frozen=True)
class Group:
    """Certificates of a group of inputs.

    Args:
        name: What the inputs have in common, such as their label.
        rows: Their places in the arrays, (n,).
        clean: The share that is classified correctly.
        certified: For each radius asked about the share that is certified beyond it.
        left: For each the share that no known adversarial input lies within.
        median: The median radius of those that are correct; None where none is.
    """

    name: str
    rows: NDArray[np.int64]
    clean: float
    certified: tuple[float, ...]
    left: tuple[float, ...]
    median: float | None


def group_of(
    name: str,
    rows: NDArray[np.int64],
    arrays: Arrays,
    column: str,
    distance: NDArray[np.float64],
    radii: Sequence[float],
) -> Group:
    """The certificates of some rows.

    Args:
        name: What they have in common.
        rows: Their places.
        arrays: As in ``certificates.npz``.
        column: The radii, ``radius`` or ``radius_runner_up``.
        distance: Of the nearest adversarial input known, (N,).
        radii: What shares are reported at.
    """
    own = {key: arrays[key][rows] for key in ("label", "prediction", column)}
    correct = own["label"] == own["prediction"]
    found = own[column][correct]
    return Group(
        name,
        rows,
        float(correct.mean()),
        tuple(accuracy_at(own, radius, column) for radius in radii),
        tuple(float((correct & (distance[rows] > radius)).mean()) for radius in radii),
        float(np.median(found)) if len(found) and not np.isnan(found).any() else None,
    )


def by_class(
    arrays: Arrays, column: str, distance: NDArray[np.float64], radii: Sequence[float]
) -> list[Group]:
    """A group for each label that occurs."""
    return [
        group_of(
            str(label), np.flatnonzero(arrays["label"] == label), arrays, column, distance, radii
        )
        for label in np.unique(arrays["label"])
    ]


@dataclass(frozen=True)
class Confusion:
    """Which class is the nearest, by label.

    Args:
        counts: (C, C): correct inputs with the label y whose smallest certificate is against t.
        least: (C, C): the smallest of those certificates; NaN where there is none.
    """

    counts: NDArray[np.int64]
    least: NDArray[np.float64]


def nearest_targets(arrays: Arrays, column: str, classes: int) -> Confusion:
    """Count the nearest targets of the inputs that are classified correctly."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    least = np.full((classes, classes), np.inf)
    correct = (arrays["label"] == arrays["prediction"]) & ~np.isnan(arrays[column])
    pairs = arrays["label"][correct], arrays["target"][correct]
    np.add.at(counts, pairs, 1)
    np.minimum.at(least, pairs, arrays[column][correct])
    return Confusion(counts, np.where(counts > 0, least, np.nan))


@dataclass(frozen=True)
class MethodRow:
    """What a method proved.

    Args:
        name: Its name.
        count: Inputs for which it gave a radius above 0.
        share: Their share of all inputs.
        mean: The mean radius of those that are classified correctly; None where none is.
        exact: The share of those that have a witness within 0.1 % of the radius, or None.
    """

    name: str
    count: int
    share: float
    mean: float | None
    exact: float | None


def by_method(arrays: Arrays, column: str) -> list[MethodRow]:
    """A row for each method that tried, the one that gave the most radii above 0 first."""
    rows = []
    for name in np.unique(arrays["method"]).tolist():
        count = int(((arrays["method"] == name) & (arrays[column] > 0.0)).sum())
        own = (arrays["method"] == name) & (arrays["label"] == arrays["prediction"])
        radii = arrays[column][own]
        known = len(radii) > 0 and not np.isnan(radii).any()
        rows.append(
            MethodRow(
                str(name),
                count,
                count / len(arrays["method"]),
                float(radii.mean()) if known else None,
                float(arrays["exact"][own].mean()) if len(radii) else None,
            )
        )
    return sorted(rows, key=lambda row: (-row.count, row.name))


def missing_ranges(index: NDArray[np.integer], count: int) -> list[tuple[int, int]]:
    """The inputs of 0 to count − 1 that have no result, as (first, last)."""
    left = np.setdiff1d(np.arange(count), index)
    return list(_runs(left.tolist()))


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            yield numbers[start], numbers[place - 1]
            start = place


def reach(radii: NDArray[np.float64], distance: NDArray[np.float64]) -> float:
    """How far a picture of both curves goes: to where hardly any input is left.

    A few inputs far away do not squeeze the curves together, and where certificates say much less
    than is seen, they can still be told from zero.
    """
    proved, seen = (_far(values) for values in (radii, distance))
    if proved == 0.0 or seen == 0.0:
        return max(proved, seen) or 1.0
    return 1.05 * max(proved, min(seen, _WIDEST * proved))


def _far(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values) & (values > 0.0)]
    return float(np.quantile(finite, 1.0 - SHARE_SEEN)) if len(finite) else 0.0
