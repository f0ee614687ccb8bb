"""Pictures of several trainings beside one another: what the penalty does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vercomp.report.tables import number
from vercomp.report.training_figures import (
    BOUND,
    CLEAN,
    HEIGHT,
    ROBUST,
    draw_curves,
    drawable,
    legend_above,
    log_axis,
    new_figure,
    palette,
    png,
)
from vercomp.report.training_run import Run, finite, is_sweep, labels
from vercomp.results.curves import certified_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

RADIUS = 7.0  # pixels around a point that stay free of names


def sweep_picture(runs: Sequence[Run]) -> bytes | None:
    """Certified accuracy against radius of the selected network of every run.

    None where not one has radii.
    """
    named = labels(runs)
    selected = [run.radii.get(run.best) if run.best is not None else None for run in runs]
    kept = [
        (label, certified_curve(radii), run.radius)
        for label, radii, run in zip(named, selected, runs, strict=True)
        if radii is not None and len(radii)
    ]
    if not kept:
        return None
    figure = new_figure(HEIGHT)
    axes = figure.add_subplot()
    styles = [
        {"color": colour, "linewidth": 1.6, "label": drawable(label)}
        for (label, *_), colour in zip(kept, palette(len(kept)), strict=True)
    ]
    draw_curves(axes, [curve for _, curve, _ in kept], styles, [radius for *_, radius in kept])
    figure.suptitle(
        "Certified accuracy of the selected networks, validation split", fontsize="medium"
    )
    return png(figure)


def bounds_picture(runs: Sequence[Run]) -> bytes | None:
    """K_ub and K_lb against γ, as in Figure 1 of the paper: a logarithmic axis of curvature.

    Penalties stand at equal distances, so that γ = 0 has its place. None where fewer than two runs
    have bounds.
    """
    named, sweep = labels(runs), is_sweep(runs)
    kept = []
    for label, run in zip(named, runs, strict=True):
        lower, upper = (finite(bound) for bound in run.bounds or (None, None))
        if lower is not None and upper is not None and lower > 0 and upper > 0:
            kept.append((label.removeprefix("γ = "), lower, upper))
    if len(kept) < 2:
        return None
    names, lowers, uppers = zip(*kept, strict=True)
    places = np.arange(len(kept))
    figure = new_figure(HEIGHT)
    axes = figure.add_subplot()
    axes.vlines(places, lowers, uppers, color="0.8", linewidth=1.2, zorder=1)
    axes.plot(places, uppers, "o-", color=BOUND, label="$K_{ub}$: proved bound")
    axes.plot(places, lowers, "s-", color=ROBUST, label="$K_{lb}$: largest at inputs")
    log_axis(axes)
    for place, lower, upper in zip(places, lowers, uppers, strict=True):
        axes.annotate(
            f"{_ratio(upper / lower)}×",
            (place, np.sqrt(lower * upper)),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
            color="0.35",
        )
    axes.set_xticks(places, [drawable(name) for name in names])
    for text in axes.get_xticklabels():
        text.set_parse_math(False)
    axes.set_xlim(-0.4, len(kept) - 0.4)
    axes.set_xlabel("penalty γ (equally spaced, not to scale)" if sweep else "training")
    axes.set_ylabel("curvature, mean over pairs of classes")
    figure.suptitle("Curvature bounds of the selected networks", fontsize="medium")
    axes.grid(alpha=0.25, axis="y")
    legend_above(axes)
    return png(figure)


def trade_off_picture(runs: Sequence[Run]) -> bytes | None:
    """Certified against clean accuracy on the validation split: a point a selected network.

    None where fewer than two runs were evaluated.
    """
    kept = []
    for label, run in zip(labels(runs), runs, strict=True):
        row = run.row(run.best)
        clean = finite(row.get("validation_clean_accuracy"))
        certified = finite(row.get("validation_certified_accuracy"))
        if clean is not None and certified is not None:
            kept.append((label, 100 * clean, 100 * certified))
    if len(kept) < 2:
        return None
    names, x, y = zip(*kept, strict=True)
    figure = new_figure(HEIGHT)
    axes = figure.add_subplot()
    if is_sweep(runs):
        axes.plot(x, y, color="0.8", linewidth=1.2, zorder=1)
    axes.scatter(x, y, color=CLEAN, zorder=3, clip_on=False)
    axes.set_xlim(_around(x))
    axes.set_ylim(_around(y))
    axes.set_xlabel("clean accuracy (% of inputs)")
    radii = {run.radius for run in runs}
    at = f" at ρ = {number(radii.pop())}" if len(radii) == 1 and None not in radii else ""
    axes.set_ylabel(f"certified accuracy{at} (% of inputs)")
    figure.suptitle("What certified accuracy costs, validation split", fontsize="medium")
    axes.grid(alpha=0.25)
    _name_points(axes, [drawable(name) for name in names], x, y)
    return png(figure)


def _around(shares: Sequence[float]) -> tuple[float, float]:
    """The range of an axis of percentages: a margin, but nothing below 0 or above 100."""
    margin = max(0.15 * (max(shares) - min(shares)), 0.1)
    return max(min(shares) - margin, 0.0), min(max(shares) + margin, 100.0)


def _ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else number(value, 3)


def _name_points(axes: Axes, names: Sequence[str], x: Sequence[float], y: Sequence[float]) -> None:
    """Names beside their points, each where it covers least of points and of other names."""
    from matplotlib.transforms import Bbox

    figure = axes.figure
    figure.canvas.draw()  # the layout decides where points are
    points = axes.transData.transform(np.column_stack([x, y]))
    taken = [Bbox.from_bounds(a - RADIUS, b - RADIUS, 2 * RADIUS, 2 * RADIUS) for a, b in points]
    frame = axes.get_window_extent()
    for name, (a, b), point in zip(names, points, zip(x, y, strict=True), strict=True):
        text = axes.annotate(name, point, fontsize="small", parse_math=False)
        size = text.get_window_extent()
        boxes = [
            Bbox.from_bounds(a + right, b + up, size.width, size.height)
            for right, up in _corners(size)
        ]
        box = min(boxes, key=lambda box: _covered(box, taken, frame))  # the first of the best
        left, low = axes.transData.inverted().transform((box.x0, box.y0))
        text.set_position((float(left), float(low)))
        taken.append(box)


def _corners(size: Bbox) -> Iterator[tuple[float, float]]:
    """Where the lower left of a text may be, relative to its point: right, left, above, below."""
    for away in (1.5 * RADIUS, 4 * RADIUS):
        yield away, -size.height / 2
        yield -away - size.width, -size.height / 2
        for up in (away, -away - size.height):
            yield -size.width / 2, up
            yield away / 2, up
            yield -away / 2 - size.width, up


def _covered(box: Bbox, taken: Sequence[Bbox], frame: Bbox) -> float:
    """The area shared with what is there already, and that outside of the frame."""
    from matplotlib.transforms import Bbox

    shared = [Bbox.intersection(box, other) for other in taken]
    inside = Bbox.intersection(box, frame)
    outside = box.width * box.height - (inside.width * inside.height if inside else 0.0)
    return outside + sum(part.width * part.height for part in shared if part)
