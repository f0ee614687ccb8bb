"""What pages of results are made of: headers, notes, plain tables, bars of shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vercomp.report.markup import Child, Markup, tag
from vercomp.report.markup import caption as written
from vercomp.report.tables import number


def header(
    kicker: str,
    title: str,
    facts: Iterable[tuple[str, str]],
    links: Iterable[tuple[str, str]],
    notes: Iterable[str] = (),
) -> Markup:
    """The head of a page.

    Args:
        kicker: A line above the title.
        title: The title.
        facts: (what, value).
        links: (id of a section, what it is called).
        notes: Sentences that a reader must not miss.
    """
    return tag(
        "header",
        tag("p", kicker, class_="kicker"),
        tag("h1", title),
        tag(
            "dl",
            (tag("div", tag("dt", what), tag("dd", value)) for what, value in facts),
            class_="facts",
        ),
        (tag("p", note, class_="note") for note in notes),
        tag("nav", (tag("a", text, href=f"#{to}") for to, text in links), aria_label="Sections"),
    )


def section(identifier: str, title: str, *content: Child) -> Markup:
    """A section with its heading."""
    return tag("section", tag("h2", title), *content, id=identifier)


def lead(text: str) -> Markup:
    """A paragraph that says what a section shows."""
    return tag("p", text, class_="lead")


def table(
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[Child]],
    caption: str,
    *,
    narrow: bool = False,
) -> Markup:
    """A table whose first column names the rows.

    Args:
        columns: (heading, class of its cells); an element in the place of a cell stays as it is.
        rows: The cells.
        caption: What the table shows.
        narrow: Whether it is no wider than its content.
    """
    head = tag("tr", (tag("th", text, scope="col", class_=kind or None) for text, kind in columns))
    body = [
        tag(
            "tr",
            (
                tag("td", value, class_=kind or None)
                if place
                else tag("th", value, scope="row", class_=kind or None)
                for place, ((_, kind), value) in enumerate(zip(columns, row, strict=True))
            ),
        )
        for row in rows
    ]
    made = tag(
        "table",
        written(caption),
        tag("thead", head),
        tag("tbody", body),
        class_="layers narrow" if narrow else "layers",
    )
    return tag("div", made, class_="scroll", tabindex=0)


def stack(parts: Sequence[tuple[str, float]], title: str) -> Markup:
    """A bar of several shares beside each other.

    Args:
        parts: (class, share of the whole bar).
        title: What a pointer is told.
    """
    pieces = (tag("span", class_=kind, style=f"--w:{share:.4f}") for kind, share in parts)
    return tag("div", pieces, class_="stack", title=title, role="img", aria_label=title)


def swatches(entries: Iterable[tuple[str, str]]) -> Markup:
    """A legend of bars: (class, what it means)."""
    return tag(
        "ul",
        (
            tag(
                "li",
                tag(
                    "span",
                    tag("span", class_=kind, style="--w:1"),
                    class_="stack swatch",
                    aria_hidden="true",
                ),
                text,
            )
            for kind, text in entries
        ),
        class_="legend",
    )


def settings(summary: Mapping[str, Any]) -> list[str]:
    """The norm, and what else narrows the perturbations that count."""
    parts = [str(summary["norm"])]
    box = summary["box"]
    if isinstance(box, list):
        parts.append(f"within [{number(float(box[0]))}, {number(float(box[1]))}]")
    if "scales" in summary:
        parts.append("features scaled")
    frozen = summary.get("frozen")
    if isinstance(frozen, list):
        parts.append(f"{len(frozen)} features frozen")
    return parts
