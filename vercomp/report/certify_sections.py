"""Sections of the report of certificates: curves, classes, targets, methods, layers."""

from __future__ import annotations

import numpy as np

from vercomp.report.blocks import lead, section, stack, table
from vercomp.report.curve_chart import SMALL, Line, curve_chart, legend, share_at
from vercomp.report.heat import heat_table
from vercomp.report.markup import Child, Markup, tag
from vercomp.report.tables import number, percent
from vercomp.report.verdicts import verdict_table
from vercomp.results.breakdowns import reach
from vercomp.results.curves import certified_curve
from vercomp.results.findings import Findings

MULTIPLES = 20
"""Classes that get a small chart each."""


WORDS = {
    "radius": "certified",
    "radius_runner_up": "certified against the runner-up only",
    "probable_radius": "probably certified",
}
"""What a share of inputs is, by the column of its radii."""


def lines_of(found: Findings, rows: np.ndarray | None = None) -> list[Line]:
    """The certified curve and that of attacks, of some of the inputs or of all."""
    some = slice(None) if rows is None else rows
    arrays = found.arrays
    correct = (arrays["label"] == arrays["prediction"])[some]
    radii = np.where(correct, arrays[found.column][some], 0.0)
    left = np.where(correct, found.distance[some], 0.0)
    lines = [Line(WORDS[found.column], certified_curve(radii), "certified")]
    if found.searched:
        lines.append(Line("left by attacks", certified_curve(left), "attacked"))
    return lines


def radius_section(found: Findings) -> Markup:
    """Certified accuracy against radius, with what attacks leave above it."""
    norm, at = found.summary["norm"], found.summary["radius"]
    share = "accuracy" if _against_labels(found) else "share"
    head = f"{'Probably certified' if found.probable else 'Certified'} {share}"
    if not found.curved:
        text = (
            f"Radii were only compared with {number(at)}, which is cheaper than to find them: "
            "there is no curve, but each input is certified at that radius, or broken within it, "
            "or neither."
        )
        return section(
            "radius",
            f"At radius {number(at)}",
            lead(text),
            verdict_table([found.overall], WORDS[found.column]),
        )
    lines = lines_of(found)
    right = reach(
        np.where(np.isnan(found.arrays[found.column]), 0.0, found.arrays[found.column]),
        found.distance,
    )
    marks = [] if at is None else [at]
    chart = curve_chart(
        lines,
        right,
        title=f"{head} against {norm} radius",
        x_label=f"{norm} radius, in units of the input",
        marks=marks,
        shaded=found.searched,
    )
    named = [("mark", f"radius {number(at)}")] if at is not None and at < right else []
    solid = "Solid: the share" if found.searched else "The curve is the share"
    text = (
        f"{solid} of the inputs that {_holds(found)} withstand every perturbation up to a radius."
    )
    if found.searched:
        text += (
            " Dashed: the share around which no adversarial input is known within it. In between "
            "nothing is known."
        )
    return section(
        "radius",
        f"{head} against radius",
        lead(text),
        tag(
            "div",
            tag("div", chart, legend(lines, named)),
            tag("div", _numbers(found)),
            class_="plots",
        ),
    )


def _holds(found: Findings) -> str:
    return "probably" if found.probable else "are proved to"


def _against_labels(found: Findings) -> bool:
    return "labels" not in found.summary and "deviation" not in found.summary


def _numbers(found: Findings) -> Markup:
    """The curves at a few radii, as numbers."""
    lines = lines_of(found)
    columns = [("radius", "number"), *((line.name, "number") for line in lines)]
    if found.searched:
        columns.append(("between", "number"))
    rows = []
    for radius in (0.0, *found.radii):
        shares = [float(share_at(line.curve, radius)) for line in lines]
        between = [percent(max(shares[1] - shares[0], 0.0))] if found.searched else []
        rows.append([number(radius), *map(percent, shares), *between])
    caption = "The same at a few radii, in shares of all inputs."
    return table(columns, rows, caption, narrow=True)


def classes_section(found: Findings) -> Markup:
    """The same, class by class."""
    groups = found.classes
    if not found.curved:
        return section("classes", "By class", verdict_table(groups, WORDS[found.column]))
    columns: list[tuple[str, str]] = [("label", ""), ("inputs", "number"), ("clean", "number")]
    columns += [(f"at {number(radius)}", "number") for radius in found.radii]
    columns.append(("median radius", "number"))
    rows: list[list[Child]] = []
    for group in groups:
        cells = [
            tag(
                "span",
                percent(proved),
                title=f"{percent(left)} left by attacks" if found.searched else None,
            )
            for proved, left in zip(group.certified, group.left, strict=True)
        ]
        rows.append(
            [group.name, f"{len(group.rows):,}", percent(group.clean), *cells, number(group.median)]
        )
    head = "Probably certified" if found.probable else "Certified"
    caption = (
        f"{head} shares of the inputs with each label, and the median radius of those that are "
        "classified correctly."
    )
    small = _multiples(found) if len(groups) <= MULTIPLES else ""
    return section("classes", "By class", small, table(columns, rows, caption))


def _multiples(found: Findings) -> Markup:
    """A small chart for each class, all to the same scale."""
    radii = found.arrays[found.column]
    right = reach(np.where(np.isnan(radii), 0.0, radii), found.distance)
    charts = []
    for group in found.classes:
        title = f"label {group.name}, up to radius {number(right, 3)}"
        head = tag(
            "figcaption",
            f"label {group.name}",
            tag("span", f"median {number(group.median, 3)}", class_="dim"),
        )
        chart = curve_chart(
            lines_of(found, group.rows),
            right,
            title=title,
            x_label="",
            frame=SMALL,
            shaded=found.searched,
        )
        charts.append(tag("figure", head, chart))
    return tag("div", charts, class_="multiples")


def confusion_section(found: Findings) -> Markup | str:
    """Which class is the nearest to each label."""
    confusion = found.confusion
    if confusion is None or not confusion.counts.any():
        return ""
    counts = np.where(confusion.counts > 0, confusion.counts.astype(np.float64), np.nan)
    heat = [
        heat_table(
            counts,
            "inputs",
            "How many inputs with the label y (rows) have t (columns) as the nearest class, "
            "by certified radius.",
            spell=lambda value: f"{value:.0f}",
        ),
        heat_table(
            confusion.least,
            "least radius",
            "The smallest certified radius among them.",
            falling=True,
        ),
    ]
    return section("targets", "Nearest targets", tag("div", heat, class_="tables"))


def methods_section(found: Findings) -> Markup | str:
    """What each method proved."""
    if not found.methods:
        return ""
    columns = (
        ("method", ""),
        ("inputs", "number"),
        ("share", "number"),
        ("mean radius", "number"),
        ("exact", "number"),
        ("", "wide"),
    )
    rows: list[list[Child]] = [
        [
            row.name,
            f"{row.count:,}",
            percent(row.share),
            number(row.mean) if found.curved else "–",
            percent(row.exact),
            stack([("share", row.share)], f"{row.name}: {percent(row.share)} of the inputs"),
        ]
        for row in found.methods
    ]
    did = "gave" if found.probable else "proved"
    caption = (
        f"Each input's radius is the largest that any method {did}, and counts for that method "
        "if it is above 0. Means and exact radii (an adversarial input within 0.1 %) are of "
        "correct inputs."
    )
    return section("methods", "By method", table(columns, rows, caption))


def layers_section(found: Findings) -> Markup | str:
    """Where the curvature bound comes from."""
    if found.layers is None:
        return ""
    columns = (
        ("layer", ""),
        ("activation", ""),
        ("‖A‖ ≤", "number"),
        ("share of κ", "number"),
        ("", "wide"),
    )
    rows: list[list[Child]] = [
        [
            row.name,
            row.activation or "–",
            number(row.norm, 5),
            percent(row.share),
            stack([("share", row.share)], f"{row.name}: {percent(row.share)} of the bound"),
        ]
        for row in found.layers
    ]
    text = (
        "Radii by curvature shrink as κ, the bound of the second derivatives, grows. Where a layer "
        "has a large share of it, a smaller norm there, or a flatter activation, helps the most."
    )
    return section(
        "layers",
        "Share of the curvature by layer",
        lead(text),
        table(columns, rows, "Proved bounds, means over all pairs of classes."),
    )
