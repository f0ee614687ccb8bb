"""The page of the report of trainings."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vercomp.report.document import document
from vercomp.report.markup import Markup, tag
from vercomp.report.tables import number, percent
from vercomp.report.training_run import Row, Run, finite

STYLES = ("page.css", "training.css")

CAPTIONS = {
    "sweep": "Certified accuracy against radius: the share of the validation split with a "
    "certified l2 radius above r, all other classes being targets.",
    "bounds": "K_ub is the proved bound of curvature, K_lb the largest curvature found at inputs "
    "(upwards the axis is logarithmic); the number between them is their ratio. The nearer they "
    "are, the less certificates lose.",
    "trade-off": "Certified against clean accuracy of the selected networks.",
    "certified": "Certified accuracy against radius of every network that was evaluated, coloured "
    "by epoch.",
    "epochs": "The course of training. Accuracies on training batches are those of the weights of "
    "the moment, attacked at the radius of the moment. Certified accuracy is a lower bound of what "
    "any attack leaves.",
}


@dataclass(frozen=True)
class Section:
    """A run and its pictures by file name."""

    run: Run
    pictures: Mapping[str, bytes]


def training_page(sections: Sequence[Section], pictures: Mapping[str, bytes]) -> bytes:
    """The page: a table over all runs, pictures over all of them, and a section each.

    Args:
        sections: The runs.
        pictures: Those over all runs, by file name.
    """
    runs = [section.run for section in sections]
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} trainings"
    return document(
        f"{title}: training",
        tag("header", tag("p", "vercomp train", class_="kicker"), tag("h1", title)),
        tag(
            "main",
            _summary(runs),
            tag("div", (_figure(*item) for item in pictures.items()), class_="figures"),
            (_section(section, place) for place, section in enumerate(sections, 1)),
        ),
        _footer(),
        styles=STYLES,
        pictures=True,
    )


def _summary(runs: Sequence[Run]) -> Markup:
    columns = (
        ("training", ""),
        ("method", ""),
        ("ρ", "number"),
        ("γ", "number"),
        ("epochs", "number"),
        ("selected epoch", "number"),
        ("clean accuracy", "number"),
        ("certified at ρ", "number"),
        ("mean radius", "number"),
        ("mean κ", "number"),
        ("K_lb", "number"),
        ("K_ub", "number"),
        ("seconds", "number"),
    )
    rows = [_summary_row(run, place) for place, run in enumerate(runs, 1)]
    caption = (
        "The selected networks on the validation split, which is held out of the training data. "
        "Certified: every other class is a target."
    )
    return _table(columns, rows, caption)


def _summary_row(run: Run, place: int) -> Markup:
    best = run.best
    row = run.row(best)
    lower, upper = run.bounds or (None, None)
    values = [
        number(run.radius),
        number(run.penalty),
        _of(len(run.history), run.recipe.get("epochs")),
        "–" if best is None else str(best),
        percent(finite(row.get("validation_clean_accuracy"))),
        percent(finite(row.get("validation_certified_accuracy"))),
        number(finite(row.get("validation_mean_radius"))),
        number(finite(row.get("validation_curvature", row.get("curvature")))),
        number(finite(lower)),
        number(finite(upper)),
        _seconds(run.seconds),
    ]
    return tag(
        "tr",
        tag("th", tag("a", run.name, href=f"#run-{place}"), scope="row"),
        tag("td", str(run.recipe.get("method", "–"))),
        (tag("td", value, class_="number") for value in values),
    )


def _of(done: int, planned: object) -> str:
    """How many of the planned epochs were trained."""
    return str(done) if planned in (None, done) else f"{done} of {planned}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _section(section: Section, place: int) -> Markup:
    run = section.run
    notes = []
    if not run.history:
        notes.append("No epoch has ended yet.")
    elif run.best is None:
        notes.append("No network was evaluated yet.")
    return tag(
        "section",
        tag("h2", run.name),
        (tag("p", note) for note in notes),
        tag("div", (_figure(*item) for item in section.pictures.items()), class_="figures"),
        _listed("Recipe", run.recipe),
        _listed("Run", run.about),
        _history(run),
        id=f"run-{place}",
    )


def _figure(name: str, content: bytes) -> Markup:
    kind = name.removesuffix(".png").rstrip("-0123456789")
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return tag(
        "figure",
        tag("img", src=source, alt=CAPTIONS[kind]),
        tag("figcaption", CAPTIONS[kind]),
    )


def _listed(title: str, values: Mapping[str, object]) -> Markup | str:
    """Names and values, a value with all its digits."""
    if not values:
        return ""
    each = (
        tag("div", tag("dt", str(key)), tag("dd", _value(value))) for key, value in values.items()
    )
    return tag("div", tag("h3", title), tag("dl", each, class_="facts listed"))


def _value(value: object) -> str:
    return "–" if value is None else str(value)


HISTORY: tuple[tuple[str, str, bool], ...] = (
    ("loss", "loss", False),
    ("learning_rate", "learning rate", False),
    ("radius", "radius", False),
    ("penalty", "penalty", False),
    ("clean_accuracy", "batches, clean", True),
    ("attacked_accuracy", "batches, attacked", True),
    ("bounded_accuracy", "batches, bounded", True),
    ("curvature", "steps, mean κ", False),
    ("validation_clean_accuracy", "validation, clean", True),
    ("validation_certified_accuracy", "validation, certified at ρ", True),
    ("validation_mean_radius", "validation, mean radius", False),
    ("validation_curvature", "proved mean κ", False),
    ("seconds", "seconds", False),
)
"""Key, heading, and whether it is a share."""


def _history(run: Run) -> Markup | str:
    if not run.history:
        return ""
    columns = (("epoch", "number"), *((heading, "number") for _, heading, _ in HISTORY))
    rows = [_history_row(epoch, row, epoch == run.best) for epoch, row in run.epochs()]
    table = _table(columns, rows, "Every epoch; the selected one is tinted.")
    return tag("details", tag("summary", f"{len(rows)} epochs"), table)


def _history_row(epoch: int, row: Row, selected: bool) -> Markup:
    cells = [_cell(row.get(key), share) for key, _, share in HISTORY]
    return tag(
        "tr",
        tag("th", str(epoch), scope="row", class_="number"),
        (tag("td", cell, class_="number") for cell in cells),
        class_="selected" if selected else None,
    )


def _cell(value: object, share: bool) -> str:
    """A number; what is none by now (a loss that diverged) is shown, not hidden."""
    if isinstance(value, str) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return percent(finite(value)) if share else number(finite(value))


def _table(columns: Sequence[tuple[str, str]], rows: Sequence[Markup], caption: str) -> Markup:
    head = tag("tr", (tag("th", text, scope="col", class_=kind or None) for text, kind in columns))
    table = tag(
        "table", tag("caption", caption), tag("thead", head), tag("tbody", rows), class_="layers"
    )
    return tag("div", table, class_="scroll", tabindex=0)


def _footer() -> Markup:
    return tag(
        "footer",
        tag(
            "p",
            "Selection and everything above use the validation split; the test split was not "
            "looked at. Certificates are proved bounds against every other class, in float64. ",
            "Accuracies on training batches are not proved.",
        ),
    )
