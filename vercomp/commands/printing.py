"""Where a command's result goes: a table, a JSON file, or JSON alone on standard output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from numpy.typing import NDArray
from rich.console import RenderableType

from vercomp.commands.html import check_html_path
from vercomp.errors import OutputFolderError, UsageError
from vercomp.outputs import write_atomically
from vercomp.report.tables import comparison_table, show
from vercomp.results.comparison import Comparison
from vercomp.results.rows import to_csv
from vercomp.results.summaries import Summary, to_json

REPORTS = ("*.html", "*.csv")
"""What a run's folder may hold beside its results."""


def check_outputs(
    json_path: str | None, csv_path: str | None, html: Path | None, out: Path | None
) -> None:
    """Refuse, before any work, files that could not be written at its end.

    Args:
        json_path: Where JSON shall go.
        csv_path: Where rows shall go.
        html: Where a report shall go.
        out: The folder of the run, which is made where it is not there yet.

    Raises:
        UsageError: Standard output is to hold two things.
        OutputFolderError: One of the files cannot be written.
    """
    if json_path == csv_path == "-":
        raise UsageError("standard output cannot hold both --json and --csv: give one a file")
    check_json_path(json_path)
    if csv_path is not None and (out is None or Path(csv_path).parent != out or out.exists()):
        check_json_path(csv_path)
    if html is not None:
        check_html_path(html, out)


def check_json_path(json_path: str | None) -> None:
    """Refuse, before any work, a file that could not be written at its end.

    Raises:
        OutputFolderError: The path is a folder, or lies where nothing can be written.
    """
    if json_path is None or json_path == "-":
        return
    path = Path(json_path)
    if path.is_dir():
        raise OutputFolderError("a folder stands there, not a file", location=json_path)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise OutputFolderError(
            "its folder is not there, or cannot be written to",
            location=json_path,
            remedy="Make the folder, or give '-' for standard output",
        )


def deliver(
    summary: Mapping[str, Any],
    json_path: str | None,
    *tables: RenderableType,
    quiet: bool = False,
) -> None:
    """Print the tables, unless standard output is to be JSON; write the JSON where it is asked.

    Args:
        summary: What the JSON says.
        json_path: Where it goes.
        tables: What is printed.
        quiet: Whether standard output belongs to something else.
    """
    if json_path == "-":
        click.echo(to_json(summary))
        return
    if json_path is not None:
        write_atomically(Path(json_path), (to_json(summary) + "\n").encode())
    if not quiet:
        show(*tables)


def deliver_run(
    summary: Summary,
    arrays: Mapping[str, NDArray[Any]],
    compared: Comparison | None,
    *tables: RenderableType,
    csv_path: str | None,
    json_path: str | None,
) -> None:
    """Deliver the results of a run of inputs.

    Args:
        summary: What the JSON says; it takes up the comparison.
        arrays: The rows of the CSV.
        compared: The run beside earlier ones, if there are any.
        tables: What is printed.
        csv_path: Where the rows go.
        json_path: Where the JSON goes.
    """
    if compared is not None:
        summary["comparison"] = compared.summary()
        tables = (*tables, comparison_table(compared))
    if csv_path == "-":
        click.echo(to_csv(arrays), nl=False)
    elif csv_path is not None:
        write_atomically(Path(csv_path), to_csv(arrays).encode())
    deliver(summary, json_path, *tables, quiet=csv_path == "-")
