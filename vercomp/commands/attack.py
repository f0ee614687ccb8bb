"""``vercomp attack``: the worst perturbation of each input in a ball."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vercomp.commands.blocks import Arrays, describe, run_in_blocks
from vercomp.commands.models import open_model
from vercomp.commands.patience import Patience
from vercomp.commands.printing import check_json_path, deliver
from vercomp.compiled import CompiledNetwork
from vercomp.data import load_data
from vercomp.distributed import processes
from vercomp.outputs import RunFolder
from vercomp.report.tables import attack_table
from vercomp.results.summaries import attack_summary, plain

RESULTS = "attacks.npz"
COLUMNS = frozenset(
    (
        "label",
        "prediction",
        "point",
        "margin",
        "lower_bound",
        "target",
        "exact",
        "evaluations",
    )
)


def run(
    model: str,
    *,
    data: str,
    radius: float,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    input_shape: tuple[int, ...] | None,
    output: str | None,
    limit: int | None,
    out: Path | None,
    json_path: str | None,
) -> None:
    """Attack block by block; the table, or JSON, at the end."""
    folder = None
    with processes() as team:
        check_json_path(json_path)
        with Patience(f"compiling {model}", shown=team.main):
            network = open_model(model, mean=mean, std=std, input_shape=input_shape, output=output)
        shape, classes = tuple(network.network.input_shape), network.network.classes
        dataset = load_data(data, shape, limit, classes=classes, tell=team.say)
        if out is not None and team.main:
            description = describe("attack", network, dataset, {"radius": radius})
            folder = RunFolder(out, description, RESULTS)
        with network.network.held():  # weights are hashed once for all blocks
            arrays = run_in_blocks(
                f"attacking {data}",
                len(dataset),
                lambda rows: attack_arrays(network, dataset.x[rows], dataset.y[rows], radius),
                folder,
                COLUMNS,
                team,
            )
    if arrays is None:
        return
    summary = attack_summary(arrays, radius=radius)
    if folder is not None:
        folder.write_summary(plain(summary))
    deliver(summary, json_path, attack_table(summary, f"{network.name}: l2 attacks on {data}"))


def attack_arrays(network: CompiledNetwork, x: Tensor, y: Tensor, radius: float) -> Arrays:
    """Attacks on a batch as the arrays of ``attacks.npz``."""
    found = network.attack(x, y, radius)
    columns = {
        "label": y,
        "prediction": found.prediction,
        "point": found.point,
        "margin": found.margin,
        "lower_bound": found.lower_bound,
        "target": found.target,
        "exact": found.exact,
        "evaluations": found.evaluations,
    }
    return {name: tensor.numpy() for name, tensor in columns.items()}
