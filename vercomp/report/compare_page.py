"""Runs beside each other: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vercomp.report.blocks import header, lead, section, table
from vercomp.report.cards import shortened
from vercomp.report.curve_chart import Line, curve_chart, legend
from vercomp.report.document import document
from vercomp.report.inputs_table import Column, inputs_table
from vercomp.report.markup import Child, Markup, tag
from vercomp.report.tables import number, percent
from vercomp.results.breakdowns import reach
from vercomp.results.comparison import Comparison

STYLES = ("page.css", "certify.css")

HEAD = 20
"""Letters of a run's name over a column."""

LISTED = 10
"""Inputs with the largest gains, and with the largest losses."""


def compare_page(found: Comparison) -> bytes:
    """The page of a comparison."""
    facts = [("runs", str(len(found.names))), ("inputs compared", f"{len(found.index):,}")]
    return document(
        f"{len(found.names)} runs compared",
        header(
            f"vercomp compare · {found.command} · {found.norm}",
            " and ".join(found.names) if len(found.names) == 2 else f"{len(found.names)} runs",
            facts,
            links(found),
            found.notes,
        ),
        tag("main", *comparison_sections(found)),
        tag(
            "footer",
            tag(
                "p",
                f"Two values of an input count as equal within 0.1 %. {found.names[0]} is what the "
                "others are compared with. What is printed is rounded to the nearest.",
            ),
        ),
        styles=STYLES,
        script="tables.js",
    )


def links(found: Comparison) -> list[tuple[str, str]]:
    """(id, name) of the sections."""
    there = [("runs", "runs")]
    if found.curves:
        there.append(("curves", "curves"))
    if len(found.index):
        there += [("changes", "better and worse"), ("inputs", "all inputs")]
    return there


def comparison_sections(found: Comparison) -> list[Markup]:
    """A table, the curves, and what became better and worse by input."""
    parts = [section("runs", "The runs", _runs(found))]
    if found.curves:
        parts.append(_curves(found))
    if len(found.index):
        parts += [_changes(found), _inputs(found)]
    return parts


def earlier_section(found: Comparison | None) -> Markup | str:
    """A run beside earlier ones, as a section of its own page."""
    if found is None:
        return ""
    return tag(
        "div",
        section("runs", "Beside earlier runs", _runs(found)),
        (tag("p", note, class_="note") for note in found.notes),
        _curves(found) if found.curves else "",
        _changes(found) if len(found.index) else "",
    )


def share_names(found: Comparison) -> list[str]:
    """What the shares of a row are."""
    if found.command == "attack":
        at = f" at {number(found.radii[0])}" if found.radii else ""
        return [f"left{at}", f"proved{at}"]
    return [f"at {number(radius)}" for radius in found.radii]


def _word(found: Comparison) -> str:
    return "margin" if found.command == "attack" else "radius"


def _runs(found: Comparison) -> Markup:
    columns: list[tuple[str, str]] = [("run", ""), ("inputs", "number"), ("clean", "number")]
    columns += [(name, "number") for name in share_names(found)]
    word = _word(found)
    columns += [(f"median {word}", "number"), (f"mean {word}", "number")]
    columns += [("better", "number"), ("worse", "number")]
    rows: list[list[Child]] = []
    for place, row in enumerate(found.rows):
        counts = (
            ["–", "–"]
            if place == 0 or row.better is None
            else [f"{row.better:,}", f"{row.worse:,}"]
        )
        rows.append(
            [
                row.name,
                f"{row.count:,}",
                percent(row.clean),
                *map(percent, row.shares),
                number(row.median),
                number(row.mean),
                *counts,
            ]
        )
    caption = (
        "Certified shares of all inputs"
        if found.command == "certify"
        else "Shares of all inputs that the attack left, and that are proved"
    )
    caption += (
        f"; medians and means are of correct inputs. Better and worse: inputs with another {word} "
        f"than in {found.names[0]}."
    )
    return table(columns, rows, caption)


def _curves(found: Comparison) -> Markup:
    lines = [
        Line(name, curve, f"run-{place}")
        for place, (name, curve) in enumerate(zip(found.names, found.curves, strict=True), 1)
    ]
    right = max(reach(at[share > 0.0], at) for at, share in found.curves)
    certify = found.command == "certify"
    label = f"{found.norm} radius, in units of the input" if certify else "margin left"
    title = "Certified accuracy against radius" if certify else "Inputs against the margin left"
    chart = curve_chart(lines, right, title=title, x_label=label, shaded=False)
    return section(
        "curves",
        title,
        lead("Where one curve is above another, more inputs of that run withstand that much."),
        tag("div", tag("div", chart, legend(lines)), class_="plots"),
    )


def _changes(found: Comparison) -> Markup:
    """For each run beside the first: the inputs with the largest gains and losses."""
    tables = []
    for place in range(1, len(found.names)):
        moved = found.changes(place)
        order = np.argsort(moved, kind="stable")
        gains = [int(k) for k in order[::-1][:LISTED] if moved[k] > 0]
        losses = [int(k) for k in order[:LISTED] if moved[k] < 0]
        name = found.names[place]
        tables += [
            _listed(found, place, gains, f"{name}: the largest gains", "better"),
            _listed(found, place, losses, f"{name}: the largest losses", "worse"),
        ]
    return section(
        "changes",
        "What became better, and what worse",
        lead(
            f"By input, beside {found.names[0]}. "
            + (
                "A misclassified input has the radius 0."
                if found.value != "certified"
                else "1: certified at the radius that was asked about."
            )
        ),
        tag("div", tables, class_="tables"),
    )


def _listed(found: Comparison, place: int, rows: list[int], caption: str, kind: str) -> Markup:
    columns = (
        ("input", "number"),
        ("label", "number"),
        (shortened(found.names[0], HEAD), "number"),
        (shortened(found.names[place], HEAD), "number"),
        ("change", "number"),
    )
    moved = found.changes(place)
    cells: list[list[Child]] = [
        [
            str(found.index[k]),
            str(found.label[k]),
            number(found.values[0][k]),
            number(found.values[place][k]),
            tag("span", signed(moved[k]), class_=kind),
        ]
        for k in rows
    ]
    if not rows:
        return tag("p", f"{caption}: none.", class_="dim")
    return table(columns, cells, f"{caption}.", narrow=True)


def signed(value: float) -> str:
    """A change with its sign."""
    return f"{'+' if value > 0 else ''}{number(value, 3)}"


def _inputs(found: Comparison) -> Markup:
    columns = [
        Column("input", "Its number in the data, from 0.", found.index),
        Column("label", "What shall stay.", found.label),
    ]
    for name, value in zip(found.names, found.values, strict=True):
        about = f"The {_word(found)} in {name}."
        columns.append(Column(shortened(name, HEAD), about, _shown(found, value)))
    columns.append(Column("change", "What the last run has more than the first.", found.changes()))
    return section(
        "inputs",
        "All inputs",
        inputs_table(columns, "Press a heading to sort by it.", len(columns) - 1),
    )


def _shown(found: Comparison, value: NDArray[np.float64]) -> NDArray[np.generic]:
    return value > 0 if found.value == "certified" else value
