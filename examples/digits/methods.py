"""Draw what each method proves, beside the attack: `python examples/digits/methods.py SVG [N]`.

For the first N test digits (200): the share that each method, alone, certifies at every l2 radius,
and the share whose nearest adversarial point, found by the attack, lies further away still. No
certificate can reach beyond that point.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from torch import Tensor

import vercomp
from vercomp.data import load_data
from vercomp.outputs import write_atomically

MODEL = Path(__file__).parent / "digits.onnx"
COLORS = {
    "interval": "#b8860b",
    "crown": "#2e8b57",
    "quadratic": "#8a4fbe",
    "curvature": "#1f6fb4",
}


def radii(count: int) -> dict[str, Tensor]:
    """By each method alone, and the distances that the attack finds: (N,); 0 for wrong classes."""
    network = vercomp.compile(MODEL)
    data = load_data("digits", network.network.input_shape, limit=count)
    found = {method: network.certify(data.x, data.y, methods=(method,)).radius for method in COLORS}
    return {"attack": network.nearest(data.x, data.y).distance.amin(1), **found}


def picture(found: dict[str, Tensor]) -> bytes:
    """The curves as an SVG; the same radii give the same bytes."""
    count = len(found["attack"])
    clean = float((found["attack"] > 0).double().mean())
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vercomp"}):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        shares = torch.linspace(1.0, 1.0 / count, count, dtype=torch.float64)
        axes.fill_between(
            *(found["attack"].sort().values, 100 * shares, 100 * clean),
            step="pre",
            color="#c0392b",
            alpha=0.1,
            linewidth=0,
            label="broken by the attack",
        )
        for method in reversed(COLORS):
            mean = found[method].mean()
            axes.step(
                *(found[method].sort().values, 100 * shares),
                where="pre",
                color=COLORS[method],
                label=f"proved by {method} (mean radius {mean:.2f})",
            )
        axes.set_xlabel("l2 radius, for pixels in [0, 1]")
        axes.set_ylabel(f"% of {count} digits")
        axes.set_xlim(0, float(found["attack"].max()) * 1.02)
        axes.set_ylim(0, 100)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(loc="upper right", framealpha=0.95, edgecolor="none")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(rb"(\d\.\d\d)\d+", rb"\1", buffer.getvalue())  # a hundredth of a point will do


def main(svg: str, count: int = 200) -> None:
    """Certify, attack, draw, write."""
    found = radii(count)
    beyond = [name for name, radius in found.items() if (radius > found["attack"] * 1.001).any()]
    if beyond:
        raise SystemExit(f"certificates beyond an adversarial point: {', '.join(beyond)}")
    write_atomically(svg, picture(found))
    print(f"wrote {svg}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
