"""The help of the whole command line: commands by what a person wants, and versions."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import click

GROUPS: Sequence[tuple[str, Sequence[str]]] = (
    ("Which inputs are safe, and which are weak", ("certify", "attack", "compare")),
    ("What a network is, and where its bounds are lost", ("analyze", "show")),
    ("Make a network that can be certified", ("compile", "train", "cascade")),
)
"""Titles, and the commands below them; others come last."""

_LONGEST = 200
"""Letters of what is said of a command: its first sentence is not cut off."""


class GroupedCommands(click.Group):
    """A group whose help lists its commands under titles."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the help."""
        known = [name for _, names in GROUPS for name in names if name in self.commands]
        return known + [name for name in super().list_commands(ctx) if name not in known]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A paragraph for each title."""
        left = self.list_commands(ctx)
        for title, names in (*GROUPS, ("Other commands", tuple(left))):
            rows = []
            for name in names:
                command = self.get_command(ctx, name) if name in left else None
                if command is not None and not command.hidden:
                    rows.append((name, command.get_short_help_str(_LONGEST)))
                    left.remove(name)
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def print_version(context: click.Context, option: click.Parameter, asked: bool) -> None:
    """A callback: print the versions that results depend on, and exit. Torch is not imported."""
    if not asked or context.resilient_parsing:
        return
    try:
        torch = f"torch {version('torch')}"
    except PackageNotFoundError:
        torch = "without torch"
    click.echo(f"vercomp {version('vercomp')} ({torch}, Python {platform.python_version()})")
    context.exit()
