"""Pictures of trainings: certified accuracy of the networks of one, and what all pictures share."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vercomp.report.cards import shortened
from vercomp.report.markup import clean
from vercomp.report.tables import number
from vercomp.report.training_run import Run
from vercomp.results.curves import Curve, certified_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLEAN = "#2f6fb7"
ROBUST = "#d65320"
BOUND = "#5b4a9c"
SELECTED = ROBUST
WIDTH = 7.0  # inches
HEIGHT = 4.2
TITLE = 70  # letters of a name over a picture


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
    colours = [
        SELECTED if epoch == best else colour
        for epoch, colour in zip(curves, palette(len(curves)), strict=True)
    ]
    styles: list[dict[str, Any]] = [
        {"color": colour, "linewidth": 2.4, "zorder": 3, "label": f"selected: epoch {best}"}
        if epoch == best
        else {"color": colour, "linewidth": 1.0}
        for epoch, colour in zip(curves, colours, strict=True)
    ]
    draw_curves(axes, list(curves.values()), styles, [run.radius])
    if len(curves) > 1:
        colour_bar(figure, axes, list(curves), colours)
    say(axes.set_title, run.name, prefix="Certified accuracy of the validation split: ")
    return png(figure)


def draw_curves(
    axes: Axes,
    curves: Sequence[Curve],
    styles: Sequence[Mapping[str, Any]],
    marked: Sequence[float | None],
) -> None:
    """Curves of certified accuracy over the radii that matter, with lines at those of training.

    Args:
        axes: Where to draw.
        curves: As :func:`certified_curve` gives them.
        styles: Of the line of each.
        marked: ρ of every run.
    """
    known = sorted({radius for radius in marked if radius is not None})
    reach = [1.1 * radius for radius in known]
    reach += [1.05 * float(at[share > 0.005].max(initial=0.0)) for at, share in curves]
    right = max(reach, default=0.0) or 1.0
    middle = []
    for (at, share), style in zip(curves, styles, strict=True):
        inside = np.searchsorted(at, right)
        x, y = np.append(at[:inside], right), np.append(share[:inside], share[inside - 1])
        axes.step(x, 100 * y, where="post", clip_on=False, **style)  # 0 % is not under the frame
        middle.append(y[np.searchsorted(x, 0.45 * right, side="right") - 1])
    for radius in known:
        label = f"ρ = {number(radius)} (training)"
        axes.axvline(radius, color="0.35", linestyle="--", linewidth=1.2, label=label)
    axes.set_xlim(0, right)
    axes.set_ylim(0, 100)
    axes.set_xlabel("l2 radius (units of the input)")
    axes.set_ylabel("certified accuracy (% of inputs)")
    axes.grid(alpha=0.25)
    # Curves fall: where they stay high the lower left is empty, and the upper right where not.
    high = min(middle, default=0.0) > 0.5
    if axes.get_legend_handles_labels()[1]:
        corner: Literal["lower left", "upper right"] = "lower left" if high else "upper right"
        legend = axes.legend(loc=corner, edgecolor="none", framealpha=0.85)
        for text in legend.get_texts():
            text.set_parse_math(False)


def legend_above(axes: Axes, size: str = "medium") -> None:
    """A legend above the axes, where no curve can run into it."""
    above: dict[str, Any] = {"bbox_to_anchor": (0.5, 1.0), "ncols": 2, "fontsize": size}
    axes.legend(frameon=False, loc="lower center", **above)


def log_axis(axes: Axes) -> None:
    """A logarithmic axis of numbers as people write them, about five of them."""
    from matplotlib.ticker import LogFormatterMathtext, LogLocator, MaxNLocator, NullFormatter

    class Plain(LogFormatterMathtext):
        """Powers of ten only where there would be many zeros."""

        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if 1e-3 <= x < 1e5 else str(super().__call__(x, pos))

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 8 * low:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    else:
        between = (1.0, 2.0, 5.0) if high < 40 * low else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=between, numticks=7))
    axes.yaxis.set_major_formatter(Plain())
    axes.yaxis.set_minor_formatter(NullFormatter())


def colour_bar(figure: Figure, axes: Axes, epochs: Sequence[int], colours: Sequence[Any]) -> None:
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
