"""``vercomp certify``: radii for labelled inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vercomp.commands.blocks import describe, run_in_blocks
from vercomp.commands.models import classes_of, open_model
from vercomp.commands.patience import Patience
from vercomp.commands.printing import check_json_path, deliver
from vercomp.core.memory import memory_limit
from vercomp.data import load_data
from vercomp.distributed import processes
from vercomp.outputs import RunFolder
from vercomp.report.tables import certificate_table
from vercomp.results.certificates import certificate_arrays
from vercomp.results.summaries import certificate_summary, plain

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
        "method",
    )
)


def run(
    model: str,
    *,
    data: str,
    radius: float | None,
    decide: bool,
    targets: str,
    norm: str,
    box: tuple[float, float] | None,
    methods: tuple[str, ...] | None,
    timeout: float | None,
    max_memory: float | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    input_shape: tuple[int, ...] | None,
    output: str | None,
    limit: int | None,
    out: Path | None,
    json_path: str | None,
) -> None:
    """Certify block by block; the table, or JSON, at the end."""
    asked: dict[str, Any] = {
        "radius": radius,
        "decide": decide,
        "targets": targets,
        "norm": norm,
        "box": box,
        "methods": methods,
    }
    folder = None
    with processes() as team, memory_limit(max_memory):
        check_json_path(json_path)
        with Patience(f"compiling {model}", shown=team.main):
            network = open_model(model, mean=mean, std=std, input_shape=input_shape, output=output)
        shape, classes = tuple(network.network.input_shape), classes_of(network)
        dataset = load_data(data, shape, limit, classes=classes, tell=team.say)
        if out is not None and team.main:
            folder = RunFolder(out, describe("certify", network, dataset, asked), RESULTS)
        with network.network.held():  # weights are hashed once for all blocks
            arrays = run_in_blocks(
                f"certifying {data}",
                len(dataset),
                lambda rows: certificate_arrays(network, dataset.x[rows], dataset.y[rows], **asked),
                folder,
                COLUMNS,
                team,
                timeout,
            )
    if arrays is None:
        return
    undecided = len(dataset) - len(arrays["index"])
    summary = certificate_summary(arrays, **asked, undecided=undecided)
    if folder is not None:
        folder.write_summary(plain(summary))
    title = f"{network.name}: {norm} certificates on {data}"
    deliver(summary, json_path, certificate_table(summary, arrays, title))
