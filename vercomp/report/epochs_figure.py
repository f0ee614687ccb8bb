"""The picture of a training over its epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vercomp.report.tables import number
from vercomp.report.training_figures import (
    BOUND,
    CLEAN,
    ROBUST,
    legend_above,
    log_axis,
    new_figure,
    png,
    say,
)
from vercomp.report.training_run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BATCHES: dict[str, Any] = {"linestyle": "--", "linewidth": 1.2}
VALIDATION: dict[str, Any] = {"linewidth": 2.0, "marker": "o", "markersize": 5}

Points = Sequence[tuple[int, float]]


def epochs_picture(run: Run) -> bytes | None:
    """Accuracies over epochs, and below them κ and the schedules of radius and penalty.

    What has no values has no curve, and no panel. None where there is nothing to draw.
    """
    panels: list[tuple[float, Callable[[Axes], None]]] = []
    accuracies = _known(run, ACCURACIES, lowest=0.0)
    if accuracies:
        panels.append((4.2, partial(_accuracies, run=run, curves=accuracies)))
    bounds = _known(run, CURVATURES, lowest=np.nextafter(0, 1))
    if bounds:
        panels.append((1.8, partial(_curvatures, curves=bounds)))
    for key, name in (("radius", "radius"), ("penalty", "penalty γ")):
        points = run.series(key)
        if any(value for _, value in points):
            panels.append((1.0, partial(_schedule, name=name, points=points)))
    if not panels:
        return None
    heights = [height for height, _ in panels]
    figure = new_figure(1.2 + 0.85 * sum(heights))
    every = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    for axes, (_, draw) in zip(every, panels, strict=True):
        draw(axes)
        axes.grid(alpha=0.25)
        if run.best is not None:
            axes.axvline(run.best, color="0.35", linestyle=":", linewidth=1.2)
    _epoch_axis(every[-1], [epoch for epoch, _ in run.epochs()])
    figure.align_ylabels(every)
    say(figure.suptitle, run.name)
    return png(figure)


ACCURACIES = (
    ("clean_accuracy", "training batches, clean", {**BATCHES, "color": CLEAN}),
    ("attacked_accuracy", "training batches, attacked", {**BATCHES, "color": ROBUST}),
    ("bounded_accuracy", "training batches, bounded", {**BATCHES, "color": BOUND}),
    ("validation_clean_accuracy", "validation, clean", {**VALIDATION, "color": CLEAN}),
    ("validation_certified_accuracy", "validation, certified", {**VALIDATION, "color": ROBUST}),
)
CURVATURES = (
    ("curvature", "in training steps", {**BATCHES, "color": BOUND}),
    ("validation_curvature", "proved, all pairs", {**VALIDATION, "color": BOUND}),
)

Curve = tuple[str, dict[str, Any], Points]


def _known(
    run: Run, curves: Sequence[tuple[str, str, dict[str, Any]]], *, lowest: float
) -> list[Curve]:
    """The curves that have points, without what cannot stand on the axis."""
    found = [
        (label, style, [(at, value) for at, value in run.series(key) if value >= lowest])
        for key, label, style in curves
    ]
    return [curve for curve in found if curve[2]]


def _accuracies(axes: Axes, run: Run, curves: Sequence[Curve]) -> None:
    lowest = min(100 * share for _, _, points in curves for _, share in points)
    at = "" if run.radius is None else f" at ρ = {number(run.radius)}"
    for label, style, points in curves:
        line = label + (at if label.endswith("certified") else "")
        _plot(axes, [(epoch, 100 * share) for epoch, share in points], style, line)
    if run.best is not None:
        axes.plot([], [], color="0.35", linestyle=":", label=f"selected: epoch {run.best}")
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(max(0.0, 10 * np.floor((lowest - 4) / 10)), 100)
    legend_above(axes)


def _curvatures(axes: Axes, curves: Sequence[Curve]) -> None:
    for label, style, points in curves:
        _plot(axes, points, style, label)
    axes.set_ylabel("mean κ")
    log_axis(axes)
    legend_above(axes, "small")


def _schedule(axes: Axes, name: str, points: Points) -> None:
    _plot(axes, points, {"color": BOUND, "linewidth": 1.6}, name)
    top = max(value for _, value in points)
    axes.set_ylabel(name)
    axes.set_ylim(0, 1.2 * top)
    axes.set_yticks([0, top], ["0", number(top)])


def _plot(axes: Axes, points: Points, style: dict[str, Any], label: str) -> None:
    """A curve; its points too, where lines alone would hide how few they are."""
    x, y = zip(*points, strict=True)
    few = {"marker": "o", "markersize": 3} if len(x) <= 30 else {}
    axes.plot(x, y, label=label, clip_on=False, zorder=3, **{**few, **style})


def _epoch_axis(axes: Axes, epochs: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
