"""The table of a smoothed classifier's certificates: each figure says whose it is, and how sure."""

from __future__ import annotations

from rich.console import RenderableType

from vercomp.report.tables import number, percent, probable_rows, two_columns
from vercomp.results.summaries import Arrays, Summary


def smoothed_table(summary: Summary, arrays: Arrays, title: str) -> RenderableType:
    """The summary of probable certificates, and a few points of the curve."""
    draws = f"{summary['selection']} + {summary['samples']}"
    rows = [
        ("clean accuracy of the smoothed classifier", percent(summary["clean_accuracy"])),
        ("  abstained", percent(summary["abstained"])),
        ("  accuracy of the network itself, without noise", percent(summary["base_accuracy"])),
        ("draws an input, to select a class and to bound it", draws),
        ("largest radius that so many draws can show", number(summary["largest_probable_radius"])),
    ]
    return two_columns(title, probable_rows(summary, arrays, rows))
