"""Where a command's result goes: a table, a JSON file, or JSON alone on standard output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import RenderableType

from vercomp.outputs import write_atomically
from vercomp.report.summaries import to_json
from vercomp.report.tables import show


def deliver(summary: Mapping[str, Any], json_path: str | None, *tables: RenderableType) -> None:
    """Print the tables, unless standard output is to be JSON; write the JSON where it is asked."""
    if json_path == "-":
        click.echo(to_json(summary))
        return
    if json_path is not None:
        write_atomically(Path(json_path), (to_json(summary) + "\n").encode())
    show(*tables)
