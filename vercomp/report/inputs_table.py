"""All inputs as a table that sorts: its first rows as HTML, all of them as compact data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vercomp.report.markup import Markup, clean, join, tag
from vercomp.report.markup import caption as written
from vercomp.report.tables import number
from vercomp.results.summaries import plain

ROWS = 50
"""Rows that stand in the page, and that a press of the button adds."""

DIGITS = 6
"""Significant digits of the data."""


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        name: Its heading.
        about: What it means, in a sentence.
        values: (N,): numbers, truth values or words.
    """

    name: str
    about: str
    values: NDArray[Any]

    @property
    def wordy(self) -> bool:
        """Whether it holds words."""
        return self.values.dtype.kind == "U"


def inputs_table(
    columns: Sequence[Column], caption: str, by: int, *, falling: bool = False
) -> Markup:
    """The table, sorted by one of its columns.

    Args:
        columns: The columns, the first of which names the rows.
        caption: What it shows.
        by: The column that the rows are sorted by at first.
        falling: Whether the largest value comes first.
    """
    count = len(columns[0].values)
    key = columns[by].values
    order = np.argsort(-key if falling else key, kind="stable")
    heads = [
        tag(
            "th",
            tag("button", column.name, type="button", title=column.about),
            scope="col",
            class_=None if column.wordy else "number",
            aria_sort=("descending" if falling else "ascending") if place == by else None,
        )
        for place, column in enumerate(columns)
    ]
    rows = [_row(columns, int(place)) for place in order[:ROWS]]
    table = tag(
        "table",
        written(caption),
        tag("thead", tag("tr", heads)),
        tag("tbody", rows),
        class_="layers sortable",
    )
    data = {
        "page": ROWS,
        "columns": [_data(column) for column in columns],
        "order": order.tolist() if count > ROWS else [],
    }
    return join(
        tag("div", table, class_="scroll", tabindex=0),
        tag(
            "p",
            tag("span", f"{min(count, ROWS):,} of {count:,} inputs. ", class_="shown"),
            tag("button", f"Show {ROWS} more", type="button", class_="more", hidden="hidden"),
            class_="dim",
        ),
        tag("script", _json(data), type="application/json", class_="rows"),
    )


def _row(columns: Sequence[Column], place: int) -> Markup:
    first, *others = columns
    return tag(
        "tr",
        tag("th", cell(first.values[place]), scope="row", class_="number"),
        (
            tag(
                "td",
                cell(column.values[place]),
                class_=None if column.wordy else "number",
            )
            for column in others
        ),
    )


def cell(value: Any) -> str:
    """A value as a cell says it."""
    if isinstance(value, np.bool_):
        return "yes" if value else "–"
    if isinstance(value, np.integer):
        return str(value)
    return clean(value) if isinstance(value, str) else number(float(value))


def _data(column: Column) -> dict[str, Any]:
    """A column as JSON: words once, and their numbers; floats with a few digits."""
    values = column.values
    if column.wordy:
        words, codes = np.unique(values, return_inverse=True)
        return {"words": [clean(str(word)) for word in words], "values": codes.tolist()}
    if values.dtype.kind == "b":
        return {"words": ["–", "yes"], "values": values.astype(int).tolist()}
    if values.dtype.kind == "f":
        return {"values": [plain(float(f"{value:.{DIGITS}g}")) for value in values.tolist()]}
    return {"values": values.tolist()}


def _json(data: Any) -> Markup:
    """JSON that ends no script element: every < is spelled out."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))
