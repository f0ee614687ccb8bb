"""Tables of cascades: what is certified, and the paper's count, which is not."""

from __future__ import annotations

from rich.console import RenderableType

from vercomp.report.tables import number, percent, two_columns
from vercomp.results.summaries import Summary


def certified_table(summary: Summary, title: str) -> RenderableType:
    """The summary of a cascade's certificates."""
    rows = [("inputs", str(summary["n"]))]
    if summary["undecided"]:
        rows.append(("inputs left undecided when the time was over", str(summary["undecided"])))
    rows += [
        ("answers that are the label", percent(summary["clean_accuracy"])),
        ("abstained", percent(summary["abstained"])),
        *(
            (f"answered by stage {stage}", percent(share))
            for stage, share in enumerate(summary["answered_by_stage"], 1)
        ),
        ("certified: no other answer in the ball", percent(summary["certified_accuracy"])),
        ("  and answered at the input", percent(summary["certified_and_answered"])),
        (
            "the paper's count: the first stage that certifies is right (no certificate)",
            percent(summary["counted_accuracy"]),
        ),
        ("seconds an input", number(summary["seconds_per_input"], 2)),
    ]
    return two_columns(title, rows)


def attacked_table(summary: Summary, title: str) -> RenderableType:
    """The summary of attacks on a cascade."""
    return two_columns(
        title,
        [
            ("inputs", str(summary["n"])),
            ("answers that are the label", percent(summary["clean_accuracy"])),
            ("abstained", percent(summary["abstained"])),
            ("no other answer found in the ball", percent(summary["attacked_accuracy"])),
            ("  and answered at the input", percent(summary["attacked_and_answered"])),
            ("  but an abstention", percent(summary["silenced"])),
            ("the paper's count", percent(summary["counted_accuracy"])),
            ("  of which another answer was found", percent(summary["counted_and_broken"])),
            ("seconds an input", number(summary["seconds_per_input"], 2)),
        ],
    )
