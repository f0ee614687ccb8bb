"""Pictures of one training: certified accuracy of its networks, and its course over epochs."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vercomp.report.cards import shortened
from vercomp.report.markup import clean
from vercomp.report.tables import number
from vercomp.report.training_run import Run, certified_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

CLEAN = "#2f6fb7"
ROBUST = "#d65320"
BOUND = "#5b4a9c"
WIDTH = 7.0  # inches
HEIGHT = 4.2
TITLE = 70  # letters of a name over a picture

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def certified_picture(run: Run) -> bytes | None:
    """Certified accuracy against radius, a curve a checkpointed network, coloured by epoch.

    The selected one is emphasised, and a line stands at ρ. None where there are no radii.
    """
    curves = {at: certified_curve(radii) for at, radii in sorted(run.radii.items()) if len(radii)}
    if not curves:
        return None
    figure = new_figure(HEIGHT)
    axes = figure.add_subplot()
    best = run.best
    others = [epoch for epoch in curves if epoch != best]
    colours = palette(len(curves))
    for (epoch, (at, share)), colour in zip(curves.items(), colours, strict=True):
        if epoch in others:
            axes.step(at, 100 * share, where="post", color=colour, linewidth=1.0, alpha=0.9)
    if best in curves:
        at, share = curves[best]
        label = f"selected: epoch {best}"
        axes.step(at, 100 * share, where="post", color=ROBUST, linewidth=2.4, label=label)
    if others:
        colour_bar(figure, axes, list(curves), colours)
    certified_axes(axes, list(curves.values()), [run.radius])
    say(axes.set_title, run.name, prefix="Certified accuracy of the validation split: ")
    return png(figure)


def epochs_picture(run: Run) -> bytes | None:
    """Accuracies over epochs, and below them κ and the schedules of radius and penalty.

    What has no values has no curve, and no panel. None where there is no history.
    """
    at = "" if run.radius is None else f" at ρ = {number(run.radius)}"
    accuracies = [
        ("clean_accuracy", "training batches, clean", CLEAN, True),
        ("attacked_accuracy", "training batches, attacked", ROBUST, True),
        ("validation_clean_accuracy", "validation, clean", CLEAN, False),
        ("validation_certified_accuracy", f"validation, certified{at}", ROBUST, False),
    ]
    panels = [(accuracies, 4.2)] if any(run.series(key) for key, *_ in accuracies) else []
    positive = [(epoch, value) for epoch, value in run.series("curvature") if value > 0]
    lower = [
        ("curvature", "mean κ", "log", positive),
        ("radius", "radius", "linear", run.series("radius")),
        ("penalty", "penalty γ", "linear", run.series("penalty")),
    ]
    shown = [panel for panel in lower if any(value for _, value in panel[3])]
    ratios = [height for _, height in panels] + [1.7 if p[2] == "log" else 1.0 for p in shown]
    if not ratios:
        return None
    figure = new_figure(0.8 + sum(ratios) * 0.85)
    every = figure.subplots(
        len(ratios), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios}
    )[:, 0]
    if panels:
        _accuracies(every[0], run, accuracies)
    for axes, (_, name, scale, points) in zip(every[len(panels) :], shown, strict=True):
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=BOUND, linewidth=1.6, marker=_marker(x), markersize=3)
        axes.set_yscale(scale)
        axes.set_ylabel(name)
        axes.grid(alpha=0.25)
        if scale == "linear":
            axes.set_ylim(0, 1.15 * max(y))
    best = run.best
    if best is not None:
        for axes in every:
            axes.axvline(best, color="0.35", linestyle=":", linewidth=1.2)
    _epoch_axis(every[-1], [epoch for epoch, _ in run.epochs()])
    figure.align_ylabels(every)
    say(every[0].set_title, run.name)
    return png(figure)


def _accuracies(axes: Axes, run: Run, curves: Sequence[tuple[str, str, str, bool]]) -> None:
    lowest = 100.0
    for key, label, colour, batches in curves:
        points = run.series(key)
        if not points:
            continue
        x, shares = zip(*points, strict=True)
        y = [100 * share for share in shares]
        lowest = min(lowest, *y)
        if batches:
            style: dict[str, Any] = {
                "linestyle": "--",
                "linewidth": 1.2,
                "marker": _marker(x),
                "markersize": 2.5,
            }
        else:
            style = {"linestyle": "-", "linewidth": 2.0, "marker": "o", "markersize": 5}
        axes.plot(x, y, color=colour, label=label, **style)
    if run.best is not None:
        axes.plot([], [], color="0.35", linestyle=":", label=f"selected: epoch {run.best}")
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(max(0.0, 10 * np.floor((lowest - 4) / 10)), 100.5)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2)


def _epoch_axis(axes: Axes, epochs: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")


def _marker(x: Sequence[float]) -> str | None:
    """Points are drawn where lines alone would hide how few they are."""
    return "o" if len(x) <= 30 else None


def certified_axes(axes: Axes, curves: Sequence[Curve], marked: Sequence[float | None]) -> Legend:
    """Axes of certified accuracy: the radii that matter, lines at those of training, the legend.

    Args:
        axes: Where the curves are.
        curves: As :func:`certified_curve` gives them.
        marked: ρ of every run.
    """
    known = sorted({radius for radius in marked if radius is not None})
    for radius in known:
        label = f"ρ = {number(radius)} (training)"
        axes.axvline(radius, color="0.35", linestyle="--", linewidth=1.2, label=label)
    reach = [1.1 * radius for radius in known]
    reach += [1.05 * float(at[share > 0.005].max(initial=0.0)) for at, share in curves]
    right = max(reach, default=0.0) or 1.0
    axes.set_xlim(0, right)
    axes.set_ylim(0, 100)
    axes.set_xlabel("l2 radius (units of the input)")
    axes.set_ylabel("certified accuracy (% of inputs)")
    axes.grid(alpha=0.25)
    # Curves fall: where they stay high the lower left is empty, and the upper right where not.
    middle = [
        float(share[np.searchsorted(at, 0.45 * right, side="right") - 1]) for at, share in curves
    ]
    high = min(middle, default=0.0) > 0.5
    return axes.legend(frameon=False, loc="lower left" if high else "upper right")


def colour_bar(
    figure: Figure, axes: Axes, epochs: Sequence[int], colours: NDArray[np.float64]
) -> None:
    """What colour which epoch has: a field each."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    count = len(epochs)
    field = ScalarMappable(BoundaryNorm(np.arange(count + 1) - 0.5, count), ListedColormap(colours))
    bar = figure.colorbar(field, ax=axes, label="epoch", pad=0.02, aspect=30)
    apart = -(-count // 12)  # at most twelve labels
    named = list(range(count - 1, -1, -apart))[::-1]
    bar.set_ticks(named, labels=[str(epochs[place]) for place in named])
    bar.ax.tick_params(length=0)
    bar.ax.minorticks_off()


def palette(count: int) -> NDArray[np.float64]:
    """Colours in order, evenly bright apart, none too light for white paper: (count, 4)."""
    from matplotlib import colormaps

    colours: NDArray[np.float64] = np.asarray(
        colormaps["viridis"](np.linspace(0.0, 0.88, max(count, 1)))[:count]
    )
    return colours


def new_figure(height: float) -> Figure:
    """An empty figure that belongs to nobody else; it draws without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The picture, without a date or the name of what drew it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def say(place: Any, name: str, prefix: str = "") -> None:
    """Write a name from outside: no formula is seen in it, and what the font lacks is replaced."""
    room = TITLE - len(prefix)
    place(prefix + drawable(shortened(name, room)), parse_math=False, fontsize="medium")


def drawable(text: str) -> str:
    """Text with a replacement for every letter that the font has no picture of."""
    return "".join(c if ord(c) in _letters() else "\N{REPLACEMENT CHARACTER}" for c in clean(text))


@functools.cache
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())
