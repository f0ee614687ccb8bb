"""``vercomp compile``: a model becomes a package's folder."""

from __future__ import annotations

from pathlib import Path

import click

from vercomp.commands.models import open_model
from vercomp.commands.patience import Patience
from vercomp.errors import UsageError
from vercomp.outputs import check_package_folder, write_package
from vercomp.report.tables import number


def run(
    model: str,
    *,
    out: Path,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    input_shape: tuple[int, ...] | None,
    output: str | None,
    emit: tuple[str, ...] | None,
) -> None:
    """Compile and write; the folder is checked first, so that nobody waits for a refusal."""
    if Path(model).is_dir():
        raise UsageError(
            "this is a folder; compile takes a model, not a package",
            location=model,
            remedy="With config.json and .safetensors in it, MODEL is package.module:Class@FOLDER"
            if (Path(model) / "config.json").exists()
            else None,
        )
    check_package_folder(out)
    with Patience(f"compiling {model}"):
        network = open_model(
            model, mean=mean, std=std, input_shape=input_shape, output=output, emit=emit
        )
    written = write_package(out, network.files)
    reach = "methods: " + ", ".join(network.manifest["methods"])
    outputs = network.network.outputs
    if network.manifest["bounds"] is not None:
        lower, upper = network.curvature()
        reach = f"curvature at most {number(float(max(lower.abs().max(), upper.abs().max())))}"
    shape = "×".join(map(str, network.network.input_shape))
    state = "wrote" if written else "unchanged:"
    click.echo(
        f"{state} {out} ({len(network.files)} files): network {network.name!r}, "
        f"inputs {shape}, {f'{outputs} classes' if outputs > 1 else '1 output'}, {reach}"
    )
    if network.manifest["tail"] is not None:
        click.echo(f"labels are compared in front of {network.manifest['tail']}, which keeps order")
    click.echo(f"it can: {', '.join(network.manifest['emit'])}")
