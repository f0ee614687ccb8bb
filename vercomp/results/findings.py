"""What a run of certificates found, as a report shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vercomp.data import Dataset
from vercomp.errors import UnsupportedError
from vercomp.results.adversaries import Surroundings, known_distances
from vercomp.results.breakdowns import (
    Confusion,
    Group,
    MethodRow,
    by_class,
    by_method,
    group_of,
    missing_ranges,
    nearest_targets,
)
from vercomp.results.curves import round_radii
from vercomp.results.examples import Example, bare_example, examples_of, extremes
from vercomp.results.summaries import Arrays, Summary

if TYPE_CHECKING:
    from vercomp.compiled import CompiledNetwork
    from vercomp.results.analysis import LayerRow


@dataclass(frozen=True)
class Findings:
    """A run of ``certify``.

    Args:
        name: What the network is called.
        data: What the data are called.
        question: What was asked where it is not that the label stays the largest; else empty.
        summary: As :func:`vercomp.results.summaries.certificate_summary` gives it.
        arrays: As in ``certificates.npz``.
        column: The column of radii: ``radius``, ``radius_runner_up``, or ``probable_radius``.
        distance: Of the nearest adversarial input known of each input, (N,); infinite throughout
            where ``searched`` is false.
        radii: What shares are reported at.
        overall: All inputs.
        classes: A group for each label; empty where labels mean nothing.
        confusion: Counts of nearest targets; None where targets are not classes.
        methods: What each method proved.
        layers: The layers with their shares of the curvature bound; None where there is none.
        weakest: Inputs with the smallest radii, of those that are classified correctly.
        strongest: Those with the largest.
        missing: Inputs that the time was not enough for, as (first, last).
        shapes: The shape of one input, to the network and in the data: pictures may be flat to
            the network.
        searched: Whether adversarial inputs were looked for.
    """

    name: str
    data: str
    question: str
    summary: Summary
    arrays: Arrays
    column: str
    distance: NDArray[np.float64]
    radii: tuple[float, ...]
    overall: Group
    classes: Sequence[Group]
    confusion: Confusion | None
    methods: Sequence[MethodRow]
    layers: Sequence[LayerRow] | None
    weakest: Sequence[Example]
    strongest: Sequence[Example]
    missing: Sequence[tuple[int, int]]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    searched: bool = True

    @property
    def curved(self) -> bool:
        """Whether radii are as large as they could be proved, so that they make a curve."""
        return not self.summary.get("decide")

    @property
    def probable(self) -> bool:
        """Whether radii hold with some probability, and are not proved."""
        return self.column == "probable_radius"


def findings_of(
    asked: Surroundings,
    arrays: Arrays,
    summary: Summary,
    data: Dataset,
    *,
    question: str = "",
    labelled: bool = True,
) -> Findings:
    """Look for adversarial inputs, and put everything together that a report shows.

    Args:
        asked: What was asked, of all inputs.
        arrays: As in ``certificates.npz``: perhaps of the first inputs only.
        summary: Of the arrays.
        data: The inputs.
        question: What was asked where it is not that the label stays the largest.
        labelled: Whether the numbers that stand for labels tell inputs apart.
    """
    column = "radius" if summary["targets"] == "all" else "radius_runner_up"
    column = "probable_radius" if "probable_radius" in arrays else column
    at, decide = summary["radius"], summary["decide"]
    options: dict[str, Any] = {"targets": summary["targets"]}
    if decide:
        options |= {"radius": at, "decide": True}
    correct = arrays["label"] == arrays["prediction"]
    weak, strong = extremes(arrays[column], correct)
    also = np.array(weak + strong, dtype=np.int64)
    distance = known_distances(asked, arrays, column, also)
    radii = (at,) if decide else _radii(arrays[column], at)
    shown = examples_of(asked, arrays, column, weak + strong, options)
    for place, one in zip(weak + strong, shown, strict=True):
        distance[place] = min(distance[place], one.distance)
    classes = asked.network.network.classes
    # Radii that were only compared with one do not say which target is the nearest.
    targets = nearest_targets(arrays, column, classes) if asked.labels and not decide else None
    return Findings(
        asked.network.name,
        data.title,
        question,
        summary,
        arrays,
        column,
        distance,
        radii,
        group_of("all", np.arange(len(correct)), arrays, column, distance, radii),
        by_class(arrays, column, distance, radii) if labelled else [],
        targets,
        by_method(arrays, column),
        _layers(asked.network),
        shown[: len(weak)],
        shown[len(weak) :],
        missing_ranges(arrays["index"], len(asked.x)),
        (tuple(asked.x.shape[1:]), data.layout),
    )


def smoothed_findings(name: str, arrays: Arrays, summary: Summary, data: Dataset) -> Findings:
    """What a report shows of a smoothed classifier, which no adversarial inputs are sought for.

    An adversarial input of the network says nothing of the classifier that is smoothed from it.

    Args:
        name: What the network is called.
        arrays: As in ``certificates.npz``: perhaps of the first inputs only.
        summary: Of the arrays.
        data: The inputs.
    """
    column = "probable_radius"
    correct = arrays["label"] == arrays["prediction"]
    distance = np.where(correct, np.inf, 0.0)
    weak, strong = extremes(arrays[column], correct)
    radii = _radii(arrays[column], summary["radius"])
    shown = [bare_example(data, arrays, column, place) for place in weak + strong]
    return Findings(
        name,
        data.title,
        f"the classifier smoothed by noise with σ = {summary['sigma']:g}, and not the network",
        {"box": None, "targets": "all", **summary},
        arrays,
        column,
        distance,
        radii,
        group_of("all", np.arange(len(correct)), arrays, column, distance, radii),
        by_class(arrays, column, distance, radii),
        None,
        [],
        None,
        shown[: len(weak)],
        shown[len(weak) :],
        missing_ranges(arrays["index"], len(data)),
        (tuple(data.x.shape[1:]), data.layout),
        searched=False,
    )


def _radii(radii: NDArray[np.float64], asked: float | None) -> tuple[float, ...]:
    """Round radii, with the radius that was asked about among them."""
    known = {*round_radii(radii), *(() if asked is None else (asked,))}
    return tuple(sorted(known))


def _layers(network: CompiledNetwork) -> Sequence[LayerRow] | None:
    try:
        layers = network.analysis().layers if network.curved else ()
    except UnsupportedError:
        return None
    return [row for row in layers if row.following is not None] or None
