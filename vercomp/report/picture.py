"""Pictures: certified accuracy against radius."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from vercomp.results.curves import Curve, certified_curve
from vercomp.results.summaries import Arrays


def curve(arrays: Arrays, column: str = "radius") -> Curve:
    """The steps of certified accuracy: radii (K,), and the share certified beyond each (K,)."""
    correct = arrays["label"] == arrays["prediction"]
    return certified_curve(np.where(correct, arrays[column], 0.0))


def certified_accuracy_picture(
    arrays: Arrays,
    title: str,
    *,
    attacked: Sequence[tuple[float, float]] = (),
    unit: str = "units of the input",
) -> bytes:
    """A PNG of certified accuracy against radius.

    Args:
        arrays: As in ``certificates.npz``.
        title: Of the picture.
        attacked: (radius, accuracy left by an attack): what no certificate can exceed.
        unit: What radii are measured in.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    axes = figure.add_subplot()
    radii, share = curve(arrays)
    clean = 100 * float((arrays["label"] == arrays["prediction"]).mean())
    axes.axhline(clean, color="0.6", linestyle="--", label=f"clean accuracy, {clean:.1f} %")
    if attacked:
        at, left = zip(*attacked, strict=True)
        axes.plot(
            at,
            [100 * accuracy for accuracy in left],
            "v",
            color="tab:red",
            markersize=5,
            label="left by the attack (an upper bound)",
        )
    axes.step(
        radii, 100 * share, where="post", color="tab:blue", label="certified, every other class"
    )
    axes.set_title(title)
    axes.set_xlabel(f"l2 radius ({unit})")
    axes.set_ylabel("accuracy (% of inputs)")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()
