"""``vercomp compare``: finished runs beside each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vercomp.commands.html import write_html
from vercomp.commands.printing import check_outputs, deliver_run
from vercomp.report.compare_page import compare_page
from vercomp.report.tables import comparison_table
from vercomp.results.comparison import Comparison, check_comparable, compare
from vercomp.results.runs import FinishedRun, read_run
from vercomp.results.summaries import Arrays, plain

THIS = "this run"


def expect(earlier: Sequence[FinishedRun], command: str, description: Mapping[str, Any]) -> None:
    """Refuse, before any work, earlier runs that asked something else.

    Args:
        earlier: The finished runs.
        command: ``certify`` or ``attack``.
        description: What the run is, as :func:`vercomp.commands.blocks.describe` says it.

    Raises:
        UsageError: The runs will not be comparable.
    """
    if earlier:
        check_comparable([*earlier, _this(command, {}, description)])


def _this(command: str, arrays: Arrays, description: Mapping[str, Any]) -> FinishedRun:
    kept = {name: array for name, array in arrays.items() if name != "point"}
    asked = plain(json.loads(json.dumps(description["options"])))
    return FinishedRun(THIS, command, kept, asked, description["data"])


def beside(
    earlier: Sequence[FinishedRun], command: str, arrays: Arrays, description: Mapping[str, Any]
) -> Comparison | None:
    """The run that a command has just made beside earlier ones; None where there are none.

    Args:
        earlier: The finished runs.
        command: ``certify`` or ``attack``.
        arrays: The results.
        description: What the run is, as :func:`vercomp.commands.blocks.describe` says it.
    """
    if not earlier:
        return None
    return compare([*earlier, _this(command, arrays, description)])


def run(
    runs: Sequence[Path],
    *,
    html: Path | None,
    csv_path: str | None,
    json_path: str | None,
) -> None:
    """Read the runs, and print or draw what is different."""
    check_outputs(json_path, csv_path, html, None)
    found = compare([read_run(path) for path in runs])
    if html is not None:
        write_html(html, compare_page(found))
    notes = [f"note: {note}" for note in found.notes]
    table = comparison_table(found)
    deliver_run(
        found.summary(),
        found.arrays(),
        None,
        table,
        *notes,
        csv_path=csv_path,
        json_path=json_path,
    )
