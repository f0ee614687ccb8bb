"""``vercomp cascade``: compiled networks become the stages of a cascade's package."""

from __future__ import annotations

from pathlib import Path

import click

from vercomp.cascades import CompiledCascade
from vercomp.commands.models import open_model
from vercomp.commands.patience import Patience
from vercomp.core.methods.cascade import Rule
from vercomp.outputs import check_package_folder, write_package


def run(
    stages: tuple[str, ...],
    *,
    out: Path,
    radius: float,
    norm: str,
    box: tuple[float, float] | None,
    methods: tuple[str, ...] | None,
    input_shape: tuple[int, ...] | None,
) -> None:
    """Open or compile every stage, and write them down with the rule."""
    check_package_folder(out)
    rule = Rule(radius, norm, box, methods)
    networks = []
    for stage in stages:
        with Patience(f"opening {stage}"):
            networks.append(open_model(stage, input_shape=input_shape))
    cascade = CompiledCascade(tuple(networks), rule, out.name)
    written = write_package(out, cascade.files)
    shape = "×".join(map(str, cascade.network.input_shape))
    number = f"{len(networks)} stage{'' if len(networks) == 1 else 's'}"
    click.echo(
        f"{'wrote' if written else 'unchanged:'} {out} ({len(cascade.files)} files): a cascade of "
        f"{number}, inputs {shape}, {cascade.network.classes} classes; it answers what a stage "
        f"proves within {norm} {radius:g}"
    )
