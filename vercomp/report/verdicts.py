"""What is proved at one radius, what is broken, and what is neither, as a table with bars."""

from __future__ import annotations

from collections.abc import Sequence

from vercomp.report.blocks import stack, swatches, table
from vercomp.report.markup import Child, Markup, join
from vercomp.report.tables import percent
from vercomp.results.breakdowns import Group

LEGEND = (
    ("open", "neither proved nor broken"),
    ("attacked", "broken, or wrong from the start"),
)


def verdict_table(groups: Sequence[Group], word: str = "certified") -> Markup:
    """What is certified, open and broken at the first radius of each group, with bars.

    Args:
        groups: The groups.
        word: What a certified share is called.
    """
    rows: list[list[Child]] = []
    for group in groups:
        proved, left = group.certified[0], max(group.left[0], group.certified[0])
        title = (
            f"{percent(proved)} {word}, {percent(left - proved)} open, "
            f"{percent(1.0 - left)} broken or wrong"
        )
        parts = [("certified", proved), ("open", left - proved), ("attacked", 1.0 - left)]
        rows.append(
            [
                group.name,
                f"{len(group.rows):,}",
                percent(proved),
                percent(left - proved),
                percent(1.0 - left),
                stack(parts, title),
            ]
        )
    columns = (
        ("label", ""),
        ("inputs", "number"),
        (word, "number"),
        ("open", "number"),
        ("broken", "number"),
        ("", "wide"),
    )
    caption = (
        f"Shares of the inputs: {word} at that radius, open, and broken within it or wrong already."
    )
    return join(table(columns, rows, caption), swatches([("certified", word), *LEGEND]))
