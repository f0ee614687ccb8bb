"""Tables for people, on standard output."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vercomp.results.curves import round_radii
from vercomp.results.summaries import Arrays, Summary, accuracy_at

if TYPE_CHECKING:
    from vercomp.results.analysis import LayerRow
    from vercomp.results.comparison import Comparison
    from vercomp.results.regional import LocalAnalysis

MATRIX_CLASSES = 10  # more classes than this, and a matrix of all pairs is no longer read
WIDTH = 100
CURVE_POINTS = 3  # radii of a comparison


def show(*parts: RenderableType) -> None:
    """Print; a file or a pipe gets lines of a page's width without blanks at their ends."""
    if sys.stdout.isatty():
        console = Console(highlight=False, markup=False, emoji=False)
        for part in parts:
            console.print(part)
        return
    page = io.StringIO()
    console = Console(file=page, width=WIDTH, highlight=False, markup=False, emoji=False)
    for part in parts:
        console.print(part)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in page.getvalue().splitlines()))


def number(value: float | None, digits: int = 4) -> str:
    """A number to so many significant digits; a dash where there is none."""
    if value is None or np.isnan(value):
        return "–"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}g}"


def percent(share: float | None) -> str:
    """A share as a percentage."""
    return "–" if share is None else f"{100 * share:.2f} %"


def layer_table(layers: Sequence[LayerRow], title: str, *, curved: bool = True) -> RenderableType:
    """One row a layer: what it is, its constants, and what it adds to the curvature bound."""
    table = _table()
    for name, justify in (
        ("layer", "left"),
        ("shape", "left"),
        ("activation", "left"),
        ("g = sup|σ′|", "right"),
        ("h = sup|σ″|", "right"),
        ("‖A‖ ≤", "right"),
        ("share of K", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in layers:
        table.add_row(
            row.name,
            "×".join(map(str, row.shape)),
            row.activation or "–",
            number(row.g),
            number(row.h),
            number(row.norm, 5),
            percent(row.share) if row.activation and curved else "–",
        )
    return _titled(title, table)


def pair_table(matrix: NDArray[np.float64], title: str) -> RenderableType:
    """A matrix over pairs (y, t) of classes, rows y; a summary where there are too many."""
    classes = len(matrix)
    if classes > MATRIX_CLASSES:
        off = matrix[~np.eye(classes, dtype=bool)]
        known = off[~np.isnan(off)]
        if len(known) == 0:
            return f"{title}: nothing known"
        return (
            f"{title}: {len(known)} pairs, smallest {number(known.min())}, "
            f"median {number(float(np.median(known)))}, largest {number(known.max())}"
        )
    table = _table()
    table.add_column("y \\ t", justify="right")
    for t in range(classes):
        table.add_column(str(t), justify="right")
    for y in range(classes):
        table.add_row(str(y), *("·" if y == t else entry(matrix[y, t]) for t in range(classes)))
    return _titled(title, table)


def local_table(found: LocalAnalysis) -> RenderableType:
    """Local curvature beside the global one, and which layer the looseness comes from."""
    table = _table()
    for name, justify in (
        ("layer", "left"),
        ("at the inputs", "right"),
        ("added in the balls", "right"),
        ("share of the looseness", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for layer in found.layers:
        table.add_row(
            layer.name, number(layer.at_inputs), number(layer.added), percent(layer.share)
        )
    return _titled(local_title(found), table)


def local_title(found: LocalAnalysis) -> str:
    """What was looked at, and how far the bounds are apart."""
    balls = f"{found.inputs} input{'s' if found.inputs > 1 else ''}"
    return (
        f"κ near {balls} (means): {number(found.at_inputs)} there, {number(found.local)} in balls "
        f"of radius {number(found.radius)}, {number(found.everywhere)} everywhere"
    )


def entry(value: float) -> str:
    """Three significant digits with their zeros, so that columns line up; no powers of ten yet."""
    if 100 <= value < 1e5:
        return f"{value:.0f}"
    return f"{value:#.3g}" if np.isfinite(value) else number(value)


def certificate_table(summary: Summary, arrays: Arrays, title: str) -> RenderableType:
    """The summary of certificates, and a few points of the curve."""
    if summary.get("evidence") == "probable":
        return _probable_table(summary, arrays, title)
    every = summary["targets"] == "all"
    second = summary["mean_radius_runner_up"] is not None
    predicted = "labels" in summary or "deviation" in summary
    rows: list[tuple[str, str]] = [("inputs", str(summary["n"]))]
    if predicted:
        rows.append(("labels", "what the model predicts" if "labels" in summary else "none needed"))
    else:
        rows.append(("clean accuracy", percent(summary["clean_accuracy"])))
    if summary["undecided"]:
        rows.insert(1, ("inputs left undecided when the time was over", str(summary["undecided"])))
    of = "" if predicted else " of correct inputs"
    column = "radius" if every else "radius_runner_up"
    label = "certified" if predicted else "certified accuracy"
    label += "" if every else ", runner-up only"
    if summary["radius"] is not None:
        at = f" at radius {number(summary['radius'])}"
        key = "certified_accuracy" if every else "certified_accuracy_runner_up"
        rows.append((label + at, percent(summary[key])))
        if every and second:
            text = percent(summary["certified_accuracy_runner_up"])
            rows.append(("  against the runner-up only (no certificate)", text))
    else:
        for radius in round_radii(arrays[column]):
            share = percent(accuracy_at(arrays, radius, column))
            rows.append((f"{label} at radius {number(radius)}", share))
    if every and not summary["decide"]:
        rows += [
            (f"mean radius{of}", number(summary["mean_radius"])),
            (f"median radius{of}", number(summary["median_radius"])),
        ]
    if second and not summary["decide"]:
        text = number(summary["mean_radius_runner_up"])
        rows.append(("mean radius to the runner-up (no certificate)", text))
    if every and not summary["decide"]:
        rows.append(("exact (witness within 0.1 %)", percent(summary["exact_fraction"])))
    if len(summary["methods"]) > 1:
        rows += [(f"proved by {name}", percent(part)) for name, part in summary["methods"].items()]
    rows += [
        ("gradients a pair in the dual", number(summary["gradient_evaluations_per_pair"], 3)),
        ("gradients a pair at most", str(summary["gradient_evaluations_max"])),
        ("seconds an input", number(summary["seconds_per_input"], 2)),
    ]
    return two_columns(title, rows)


def _probable_table(summary: Summary, arrays: Arrays, title: str) -> RenderableType:
    """The summary of certificates that hold with some probability, and are not proved."""
    clean = ("clean accuracy", percent(summary["clean_accuracy"]))
    return two_columns(title, probable_rows(summary, arrays, [clean], full=not summary["decide"]))


def probable_rows(
    summary: Summary, arrays: Arrays, own: Sequence[tuple[str, str]], *, full: bool = True
) -> list[tuple[str, str]]:
    """The lines of a table of probable certificates, each of which says that it is probable.

    Args:
        summary: With the keys of :func:`vercomp.results.summaries.probable_figures`.
        arrays: With ``probable_radius``.
        own: Lines behind the number of inputs.
        full: Whether radii were refined in full, so that their means say something.
    """
    rows: list[tuple[str, str]] = [("inputs", str(summary["n"]))]
    if summary["undecided"]:
        rows.append(("inputs left undecided when the time was over", str(summary["undecided"])))
    rows += own
    label = "probably certified accuracy at radius"
    if summary["radius"] is not None:
        share = percent(summary["probably_certified_accuracy"])
        rows.append((f"{label} {number(summary['radius'])}", share))
    else:
        for radius in round_radii(arrays["probable_radius"]):
            share = percent(accuracy_at(arrays, radius, "probable_radius"))
            rows.append((f"{label} {number(radius)}", share))
    if full:
        rows += [
            ("mean probable radius of correct inputs", number(summary["mean_probable_radius"])),
            ("median probable radius of correct inputs", number(summary["median_probable_radius"])),
        ]
    return [
        *rows,
        ("nothing is proved: each certificate holds with probability", _least(summary, "")),
        ("  all of them together with probability", _least(summary, "_of_all")),
        ("seconds an input", number(summary["seconds_per_input"], 2)),
    ]


def _least(summary: Summary, which: str) -> str:
    """A confidence, rounded down to six digits."""
    digits = 10**6
    return f"≥ {np.floor(summary['confidence' + which] * digits + 1e-6) / digits:.6g}"


def attack_table(summary: Summary, title: str) -> RenderableType:
    """The summary of attacks."""
    return two_columns(
        title,
        [
            ("inputs", str(summary["n"])),
            ("clean accuracy", percent(summary["clean_accuracy"])),
            (
                f"accuracy attacked at radius {number(summary['radius'])}",
                percent(summary["attacked_accuracy"]),
            ),
            ("  proved (lower bound above 0)", percent(summary["certified_accuracy"])),
            ("provably worst (margin meets bound)", percent(summary["exact_fraction"])),
            ("mean margin", number(summary["mean_margin"])),
            ("mean lower bound", number(summary["mean_lower_bound"])),
            ("gradients a target at most", str(summary["gradient_evaluations_max"])),
            ("seconds an input", number(summary["seconds_per_input"], 2)),
        ],
    )


def training_table(summaries: Sequence[Summary], title: str) -> RenderableType:
    """What trainings have come to, a row each, on the inputs that were held out."""
    table = _table()
    radius = number(summaries[0]["radius"])
    table.add_column("penalty", justify="right")
    for name in (
        "epoch",
        "clean",
        f"certified at {radius}",
        "mean radius",
        "K_lb",
        "K_ub",
        "seconds",
    ):
        table.add_column(name, justify="right")
    for row in summaries:
        table.add_row(
            number(row["penalty"]),
            str(row["best_epoch"]),
            percent(row["validation_clean_accuracy"]),
            percent(row["validation_certified_accuracy"]),
            number(row["validation_mean_radius"]),
            number(row["curvature_lower_bound"]),
            number(row["curvature_upper_bound"]),
            f"{row['seconds']:.0f}",
        )
    return _titled(f"{title}: the selected network, on inputs held out", table)


def comparison_table(found: Comparison) -> RenderableType:
    """Runs beside each other, a row each."""
    table = _table()
    table.add_column("run")
    word = "margin" if found.command == "attack" else "radius"
    shown = list(range(len(found.radii)))
    names = [f"at {number(found.radii[place])}" for place in shown]
    if found.command == "attack":
        shown, names = [0, 1], ["left", "proved"]
    elif len(shown) > CURVE_POINTS:  # a terminal is no wider
        shown = [round(place) for place in np.linspace(0, len(shown) - 1, CURVE_POINTS)]
        names = [names[place] for place in shown]
    for name in ("inputs", "clean", *names, f"median {word}", "better", "worse"):
        table.add_column(name, justify="right")
    for place, row in enumerate(found.rows):
        known = place > 0 and row.better is not None
        table.add_row(
            row.name,
            str(row.count),
            percent(row.clean),
            *(percent(row.shares[place]) for place in shown),
            number(row.median),
            str(row.better) if known else "–",
            str(row.worse) if known else "–",
        )
    what = "certificates" if found.command == "certify" else "attacks"
    return _titled(f"{found.norm} {what} beside those of {found.names[0]}", table)


def two_columns(title: str, rows: Sequence[tuple[str, Any]]) -> RenderableType:
    """Names and numbers, the numbers to the right."""
    table = _table()
    table.show_header = False
    table.add_column()
    table.add_column(justify="right")
    for row in rows:
        table.add_row(*row)
    return _titled(title, table)


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD)


def _titled(title: str, table: Table) -> RenderableType:
    """Under a line of its own: a table's own title is wrapped to the table's width."""
    return Group(Text(title, style="bold"), table)
