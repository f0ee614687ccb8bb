"""A matrix over pairs of classes as an HTML table whose cells are coloured by their values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vercomp.report.markup import Markup, join, tag
from vercomp.report.markup import caption as written
from vercomp.report.tables import entry, number

NUMBERED = 12  # classes with a number in each cell
COLOURED = 64  # classes with a cell for each pair


def heat_table(
    matrix: NDArray[np.float64],
    symbol: str,
    caption: str | Markup,
    spell: Callable[[float], str] = entry,
    *,
    falling: bool = False,
) -> Markup:
    """A table of all pairs (y, t), rows y.

    Many classes have colours without numbers (a tooltip says them), very many only a summary.

    Args:
        matrix: (C, C); the diagonal means nothing, NaN is what is not known.
        symbol: What an entry is called in tooltips.
        caption: What the table shows.
        spell: How a cell says its value.
        falling: Whether the smallest value has the full colour.
    """
    classes = len(matrix)
    off = matrix[~np.eye(classes, dtype=bool)]
    known = off[~np.isnan(off)]
    least = float(known.min(initial=np.inf))
    spread = float(known.max(initial=0.0)) - least
    if classes > COLOURED:
        return tag("p", caption, " ", _summary(known))

    def cell(y: int, t: int) -> Markup:
        value = float(matrix[y, t])
        if y == t or np.isnan(value):
            return tag("td", "" if y == t else "–", class_="none")
        place = (value - least) / spread if spread > 0 else 0.0
        strength = 0.1 + 0.9 * (1.0 - place if falling else place)
        return tag(
            "td",
            spell(value) if classes <= NUMBERED else "",
            style=f"--v:{strength:.2f}",
            title=f"{symbol}({y}, {t}) = {value!r}",
        )

    head = tag(
        "tr",
        tag("th", "y \\ t", scope="col"),
        (tag("th", str(t), scope="col") for t in range(classes)),
    )
    rows = [
        tag("tr", tag("th", str(y), scope="row"), (cell(y, t) for t in range(classes)))
        for y in range(classes)
    ]
    table = tag(
        "table",
        written(caption, " ", _summary(known)),
        tag("thead", head),
        tag("tbody", rows),
        class_="heat" if classes <= NUMBERED else "heat fine",
    )
    return tag("div", table, class_="scroll", tabindex=0)


def _summary(known: NDArray[np.float64]) -> Markup:
    if len(known) == 0:
        return join("Nothing is known.")
    return join(
        f"{len(known)} pairs: smallest {number(known.min())}, mean {number(known.mean())}, "
        f"largest {number(known.max())}."
    )
