"""The report of attacks: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import numpy as np

from vercomp.report.blocks import header, lead, section, settings, table
from vercomp.report.compare_page import earlier_section
from vercomp.report.curve_chart import Line, curve_chart, legend
from vercomp.report.document import document
from vercomp.report.example_cards import change_words, example_cards
from vercomp.report.heat import heat_table
from vercomp.report.inputs_table import Column, inputs_table
from vercomp.report.markup import Markup, tag
from vercomp.report.photographs import picture_shape
from vercomp.report.tables import number, percent
from vercomp.report.verdicts import verdict_table
from vercomp.results.attack_findings import AttackFindings
from vercomp.results.breakdowns import reach
from vercomp.results.comparison import Comparison
from vercomp.results.curves import certified_curve
from vercomp.results.examples import Example

STYLES = ("page.css", "certify.css")


def attack_page(found: AttackFindings, compared: Comparison | None = None) -> bytes:
    """The page of a run of ``attack``, perhaps beside earlier ones."""
    sections = [
        ("radius", "at the radius", _at_radius(found)),
        ("classes", "classes", section("classes", "By class", verdict_table(found.classes))),
        ("targets", "targets", _targets(found)),
        ("weakest", "weakest", _examples(found, weakest=True)),
        ("strongest", "strongest", _examples(found, weakest=False)),
        ("runs", "earlier runs", earlier_section(compared)),
        ("inputs", "all inputs", _inputs(found)),
    ]
    summary = found.summary
    facts = [
        ("inputs", f"{summary['n']:,}"),
        ("radius", number(summary["radius"])),
        ("clean accuracy", percent(summary["clean_accuracy"])),
        ("left by the attack", percent(summary["attacked_accuracy"])),
        ("proved", percent(summary["certified_accuracy"])),
        ("provably worst", percent(summary["exact_fraction"])),
        ("seconds an input", number(summary["seconds_per_input"], 2)),
    ]
    kicker = " · ".join(["vercomp attack", found.data, *settings(summary)])
    there = [(name, text) for name, text, content in sections if content]
    return document(
        f"{found.name}: attacks",
        header(kicker, found.name, facts, there),
        tag("main", (content for _, _, content in sections)),
        tag(
            "footer",
            tag(
                "p",
                "A margin is z_y − max z_t at the worst point that was found, rounded up; no point "
                "of the ball has a margin below the lower bound, which is proved in float64 with "
                "the rounding accounted for. What is printed is rounded to the nearest.",
            ),
        ),
        styles=STYLES,
        script="tables.js",
        pictures=True,
    )


def _at_radius(found: AttackFindings) -> Markup:
    radius, norm = number(found.summary["radius"]), found.summary["norm"]
    correct = found.arrays["label"] == found.arrays["prediction"]
    proved, left = (
        np.where(correct, np.maximum(found.arrays[name], 0.0), 0.0)
        for name in ("lower_bound", "margin")
    )
    lines = [
        Line("proved", certified_curve(proved), "certified"),
        Line("left by the attack", certified_curve(left), "attacked"),
    ]
    right = reach(proved, left)
    chart = curve_chart(
        lines,
        right,
        title="Share of the inputs against the margin that is left in the ball",
        x_label="margin left, in units of the outputs",
    )
    text = (
        f"Every input may move by an {norm} norm of {radius}. Dashed: the share of inputs whose "
        "margin stays above a number at the worst point that was found. Solid: the share for which "
        "that is proved of all points. At margin 0 the class changes."
    )
    return section(
        "radius",
        f"At radius {radius}",
        lead(text),
        tag(
            "div",
            tag("div", chart, legend(lines)),
            tag("div", _numbers(found)),
            class_="plots",
        ),
        verdict_table([found.overall]),
    )


def _numbers(found: AttackFindings) -> Markup:
    summary = found.summary
    rows = [
        ["mean margin", number(summary["mean_margin"])],
        ["mean lower bound", number(summary["mean_lower_bound"])],
        ["gradients a target, at most", f"{summary['gradient_evaluations_max']:,}"],
    ]
    return table((("", ""), ("", "number")), rows, "Of all inputs.", narrow=True)


def _targets(found: AttackFindings) -> Markup | str:
    counts = found.confusion.counts
    if not counts.any():
        return ""
    heat = [
        heat_table(
            np.where(counts > 0, counts.astype(np.float64), np.nan),
            "inputs",
            "How many inputs with the label y (rows) were turned into t (columns).",
            spell=lambda value: f"{value:.0f}",
        ),
        heat_table(
            found.confusion.least,
            "least margin",
            "The smallest margin among them.",
            falling=True,
        ),
    ]
    return section("targets", "What they turn into", tag("div", heat, class_="tables"))


def _examples(found: AttackFindings, *, weakest: bool) -> Markup | str:
    shown = found.weakest if weakest else found.strongest
    if not shown:
        return ""
    which = "weakest" if weakest else "strongest"
    shape = picture_shape(*found.shapes)
    text = (
        "Of the inputs that are classified correctly, those with the "
        f"{'smallest' if weakest else 'largest'} margin at the worst point that was found, which "
        f"stands beside them.{change_words(shape)}"
    )
    cards = example_cards(shown, shape, _facts, beside="worst point")
    return section(which, f"The {which} inputs", lead(text), cards)


def _facts(one: Example) -> list[tuple[str, str]]:
    """What is said of an input that is shown."""
    return [
        ("input", str(one.index)),
        ("label", str(one.label)),
        ("margin", number(one.radius)),
        ("moved by", number(one.distance)),
        ("towards" if one.radius > 0 else "becomes", str(one.target)),
    ]


def _inputs(found: AttackFindings) -> Markup:
    arrays = found.arrays
    correct = arrays["label"] == arrays["prediction"]
    verdict = np.select(
        [~correct, arrays["margin"] <= 0.0, arrays["lower_bound"] > 0.0],
        ["wrong", "broken", "proved"],
        "open",
    )
    columns = [
        Column("input", "Its number in the data, from 0.", arrays["index"]),
        Column("label", "What shall stay.", arrays["label"]),
        Column("predicted", "What the network says of the input itself.", arrays["prediction"]),
        Column("margin", "At the worst point that was found.", arrays["margin"]),
        Column("lower bound", "No point of the ball has less.", arrays["lower_bound"]),
        Column("towards", "The class with the largest output there.", arrays["target"]),
        Column("worst", "Provably the worst point, within 0.1 %.", arrays["exact"]),
        Column("verdict", "Proved, broken, open, or wrong already.", verdict.astype(np.str_)),
    ]
    caption = "Press a heading to sort by it; its tooltip says what it means."
    return section("inputs", "All inputs", inputs_table(columns, caption, 3))
