"""The report of certificates: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vercomp.report.blocks import header, lead, section, settings
from vercomp.report.certify_sections import (
    classes_section,
    confusion_section,
    layers_section,
    methods_section,
    radius_section,
)
from vercomp.report.compare_page import earlier_section
from vercomp.report.document import document
from vercomp.report.example_cards import change_words, example_cards
from vercomp.report.inputs_table import Column, inputs_table
from vercomp.report.markup import Markup, tag
from vercomp.report.photographs import picture_shape
from vercomp.report.tables import number, percent
from vercomp.results.comparison import Comparison
from vercomp.results.examples import Example
from vercomp.results.findings import Findings

STYLES = ("page.css", "certify.css")

KEYS = {
    "radius": ("certified_accuracy", "mean_radius"),
    "radius_runner_up": ("certified_accuracy_runner_up", "mean_radius_runner_up"),
    "probable_radius": ("probably_certified_accuracy", "mean_probable_radius"),
}
"""Under what names the summary has the share at the radius asked about, and the mean radius."""


FOUND = (
    "Adversarial inputs are found, not proved to be the nearest: by tangent steps around every "
    "input, by descents on shrinking balls around some, and as witnesses of certificates. The "
    "truth lies between a radius and the distance of its adversarial input."
)


def certify_page(
    found: Findings, notes: Sequence[str] = (), compared: Comparison | None = None
) -> bytes:
    """The page of a run of ``certify``.

    Args:
        found: The run.
        notes: What the command says beside its table.
        compared: The run beside earlier ones.
    """
    sections = [
        ("radius", "radius", radius_section(found)),
        ("classes", "classes", classes_section(found) if found.classes else ""),
        ("targets", "nearest targets", confusion_section(found)),
        ("methods", "methods", methods_section(found)),
        ("layers", "layers", layers_section(found)),
        ("weakest", "weakest", _examples(found, weakest=True)),
        ("strongest", "strongest", _examples(found, weakest=False)),
        ("runs", "earlier runs", earlier_section(compared)),
        ("inputs", "all inputs", _inputs(found)),
    ]
    there = [(name, text) for name, text, content in sections if content]
    return document(
        f"{found.name}: certificates",
        header(_kicker(found), found.name, _facts(found), there, [*_warnings(found), *notes]),
        tag("main", (content for _, _, content in sections)),
        _footer(found),
        styles=STYLES,
        script="tables.js",
        pictures=True,
    )


def chance(confidence: float) -> str:
    """A probability, rounded down to six digits."""
    return f"{np.floor(confidence * 1e6 + 1e-6) / 1e6:.6g}"


def ranges(pairs: Sequence[tuple[int, int]]) -> str:
    """Ranges of inputs in words."""
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in pairs)


def _kicker(found: Findings) -> str:
    parts = ["vercomp certify", found.data, *settings(found.summary)]
    return " · ".join(parts)


def _facts(found: Findings) -> list[tuple[str, str]]:
    summary = found.summary
    of_labels = "deviation" not in summary and "labels" not in summary
    facts = [("inputs", f"{summary['n']:,}")]
    if of_labels:
        facts.append(("clean accuracy", percent(summary["clean_accuracy"])))
    if "abstained" in summary:
        facts.append(("abstained", percent(summary["abstained"])))
    elif "labels" in summary:
        facts.append(("labels", "as predicted"))
    if summary["radius"] is not None:
        word = "probably certified" if found.probable else "certified"
        share = percent(summary[KEYS[found.column][0]])
        facts.append((f"{word} at {number(summary['radius'])}", share))
    if found.curved:
        facts.append(("median radius", number(found.overall.median)))
        facts.append(("mean radius", number(summary[KEYS[found.column][1]])))
        if found.column == "radius":
            facts.append(("exact", percent(summary["exact_fraction"])))
    facts.append(("seconds an input", number(summary["seconds_per_input"], 2)))
    return facts


def _warnings(found: Findings) -> list[str]:
    notes = []
    if found.question:
        what = "The question" if found.searched else "These are radii of another classifier"
        notes.append(f"{what}: {found.question}.")
    if found.probable:
        each, every = (chance(found.summary[key]) for key in ("confidence", "confidence_of_all"))
        notes.append(
            f"Nothing on this page is proved: each radius holds with a probability of at least "
            f"{each}, all of them together of at least {every}."
        )
    if found.column == "radius_runner_up":
        notes.append(
            "Only the runner-up, the second largest logit, was a target: another class may be "
            "nearer, so that these radii are no certificates of robustness."
        )
    if found.missing:
        count = sum(last - first + 1 for first, last in found.missing)
        which = ranges(found.missing)
        notes.append(
            f"The time was over before {count:,} inputs were reached (inputs {which}); nothing on "
            "this page speaks of them."
        )
    return notes


def _examples(found: Findings, *, weakest: bool) -> Markup | str:
    shown = found.weakest if weakest else found.strongest
    if not shown:
        return ""
    shape = picture_shape(*found.shapes)
    which = "smallest" if weakest else "largest"
    kind = "probable" if found.probable else "certified"
    text = (
        f"Of the inputs that are classified correctly, those with the {which} {kind} radius"
        if found.classes
        else f"The inputs with the {which} {kind} radius"
    )
    if found.searched:
        text += ", each with the nearest adversarial input known and the change that makes it."
        text += change_words(shape)
    else:
        text += "."
    return section(
        "weakest" if weakest else "strongest",
        f"The {'weakest' if weakest else 'strongest'} inputs",
        lead(text),
        example_cards(
            shown,
            shape,
            lambda one: _example(found, one),
            beside="adversarial" if found.searched else None,
        ),
    )


def _example(found: Findings, one: Example) -> list[tuple[str, str]]:
    """What is said of an input that is shown."""
    facts = [("input", str(one.index))]
    if found.classes:
        facts.append(("label", str(one.label)))
    facts.append((_radius(found), number(one.radius)))
    if one.adversary is not None:
        facts.append(("adversarial at", number(one.distance)))
    if one.target >= 0:
        facts.append(("becomes", str(one.target)))
    if len(one.outputs[0]) == 1 and one.adversary is not None:
        facts.append(("output", " → ".join(number(said[0]) for said in one.outputs)))
    return facts


def _radius(found: Findings) -> str:
    """What a certified radius is called."""
    return "radius" if found.curved else "radius, at least"


def _inputs(found: Findings) -> Markup:
    arrays, column = found.arrays, found.column
    columns = [Column("input", "Its number in the data, from 0.", arrays["index"])]
    if found.classes:
        columns.append(Column("label", "What shall stay.", arrays["label"]))
        if "labels" not in found.summary:
            about = "What the network says of the input itself."
            columns.append(Column("predicted", about, arrays["prediction"]))
    columns.append(
        Column(
            _radius(found),
            "Probably no perturbation with a smaller norm breaks the claim."
            if found.probable
            else "No perturbation with a smaller norm breaks the claim; 0 where it fails already.",
            arrays[column],
        )
    )
    by = len(columns) - 1
    if found.summary["radius"] is not None:
        at = found.summary["radius"]
        beyond = (arrays[column] > at) & (arrays["label"] == arrays["prediction"])
        columns.append(Column(f"beyond {number(at)}", "The radius is larger than that.", beyond))
    if found.searched:
        about = "The nearest adversarial input that is known."
        columns.append(Column("adversarial at", about, found.distance))
    if found.confusion is not None:
        columns.append(Column("nearest", "The class with the smallest radius.", arrays["target"]))
    if "exact" in arrays:
        about = "An adversarial input lies within 0.1 % of the radius."
        columns.append(Column("exact", about, arrays["exact"]))
    if "method" in arrays:
        method = arrays["method"].astype(np.str_)
        columns.append(Column("method", "What gave the radius.", method))
    caption = "Press a heading to sort by it; its tooltip says what it means."
    return section("inputs", "All inputs", inputs_table(columns, caption, by))


def _footer(found: Findings) -> Markup:
    norm = found.summary["norm"]
    worth = (
        "Radii are probable: they rest on random numbers, and may be wrong with the probability "
        "that is stated."
        if found.probable
        else "Radii are proved: they hold in real arithmetic for the given weights, with the last "
        "word in float64 and the rounding accounted for."
    )
    return tag(
        "footer",
        tag(
            "p",
            f"{worth} They are {norm} norms of perturbations, in the units of the input. What is "
            "printed is rounded to the nearest.",
        ),
        tag("p", FOUND) if found.searched else "",
    )
