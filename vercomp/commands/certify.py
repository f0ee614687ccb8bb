"""``vercomp certify``: radii for labelled inputs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vercomp.commands.blocks import Arrays, describe, run_in_blocks
from vercomp.commands.models import open_model
from vercomp.commands.patience import Patience
from vercomp.commands.printing import check_json_path, deliver
from vercomp.data import load_data
from vercomp.distributed import processes
from vercomp.driver import CompiledNetwork
from vercomp.outputs import RunFolder
from vercomp.report.summaries import certificate_summary, plain
from vercomp.report.tables import certificate_table

RESULTS = "certificates.npz"
COLUMNS = frozenset(
    (
        "label",
        "prediction",
        "radius",
        "target",
        "exact",
        "gap",
        "radius_per_target",
        "runner_up",
        "radius_runner_up",
        "evaluations",
    )
)


def run(
    model: str,
    *,
    data: str,
    radius: float | None,
    decide: bool,
    targets: str,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    input_shape: tuple[int, ...] | None,
    output: str | None,
    limit: int | None,
    out: Path | None,
    json_path: str | None,
) -> None:
    """Certify block by block; the table, or JSON, at the end."""
    asked: dict[str, Any] = {"radius": radius, "decide": decide, "targets": targets}
    folder = None
    with processes() as team:
        check_json_path(json_path)
        with Patience(f"compiling {model}", shown=team.main):
            network = open_model(model, mean=mean, std=std, input_shape=input_shape, output=output)
        shape, classes = tuple(network.network.input_shape), network.network.classes
        dataset = load_data(data, shape, limit, classes=classes, tell=team.say)
        if out is not None and team.main:
            folder = RunFolder(out, describe("certify", network, dataset, asked), RESULTS)
        arrays = run_in_blocks(
            f"certifying {data}",
            len(dataset),
            lambda rows: certificate_arrays(network, dataset.x[rows], dataset.y[rows], **asked),
            folder,
            COLUMNS,
            team,
        )
    if arrays is None:
        return
    summary = certificate_summary(arrays, **asked)
    if folder is not None:
        folder.write_summary(plain(summary))
    title = f"{network.name}: l2 certificates on {data}"
    deliver(summary, json_path, certificate_table(summary, arrays, title))


def certificate_arrays(
    network: CompiledNetwork,
    x: Tensor,
    y: Tensor,
    *,
    radius: float | None = None,
    decide: bool = False,
    targets: str = "all",
) -> Arrays:
    """Certificates of a batch as the arrays of ``certificates.npz``.

    With ``targets="runner-up"`` no radius is a certificate against every class: ``radius`` is NaN
    and only ``radius_runner_up`` is filled.
    """
    options: dict[str, Any] = {"radius": radius, "decide": decide}
    begin = time.perf_counter()
    found = network.certify(x, y, targets=targets, **options)
    seconds = (time.perf_counter() - begin) / max(len(x), 1)
    runner_up, beyond = found.target, found.radius
    whole = found.radius
    if targets == "all":
        logits = predict(network, x)
        runner_up = logits.scatter(1, y[:, None], -torch.inf).argmax(1)
        beyond = found.radius_per_target.gather(1, runner_up[:, None])[:, 0]
        # Targets that are not the nearest are refined only as far as it takes to know that: a
        # figure for the runner-up alone needs a search of its own.
        other = (runner_up != found.target) & (found.radius > 0)
        if other.any():
            alone = network.certify(x[other], y[other], targets=runner_up[other], **options)
            beyond = beyond.clone()
            beyond[other] = torch.maximum(beyond[other], alone.radius)
    else:
        whole = torch.full_like(found.radius, torch.nan)
    columns = {
        "label": y,
        "prediction": found.prediction,
        "radius": whole,
        "target": found.target,
        "exact": found.exact,
        "gap": found.gap,
        "radius_per_target": found.radius_per_target,
        "runner_up": runner_up,
        "radius_runner_up": beyond,
        "evaluations": found.evaluations,
        "seconds": torch.full_like(found.radius, seconds),
    }
    return {name: tensor.numpy() for name, tensor in columns.items()}


def predict(network: CompiledNetwork, x: Tensor) -> Tensor:
    """Logits (B, C) in the network's own type."""
    dtype = next(network.network.parameters()).dtype
    with torch.no_grad():
        logits: Tensor = network.network(x.to(dtype))
    return logits
