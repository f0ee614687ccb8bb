"""Where a command's result goes: a table, a JSON file, or JSON alone on standard output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import RenderableType

from vercomp.errors import OutputFolderError
from vercomp.outputs import write_atomically
from vercomp.report.tables import show
from vercomp.results.summaries import to_json


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


def deliver(summary: Mapping[str, Any], json_path: str | None, *tables: RenderableType) -> None:
    """Print the tables, unless standard output is to be JSON; write the JSON where it is asked."""
    if json_path == "-":
        click.echo(to_json(summary))
        return
    if json_path is not None:
        write_atomically(Path(json_path), (to_json(summary) + "\n").encode())
    show(*tables)
