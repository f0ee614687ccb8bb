"""``vercomp attack``: the worst perturbation of each input in a ball."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vercomp.commands.blocks import Arrays, describe, run_in_blocks
from vercomp.commands.compare import beside, expect
from vercomp.commands.html import write_html
from vercomp.commands.models import identity, open_model
from vercomp.commands.patience import Patience
from vercomp.commands.printing import REPORTS, check_outputs, deliver_run
from vercomp.compiled import CompiledNetwork
from vercomp.core.claims.labels import Labels
from vercomp.core.methods.attack import AttackOptions
from vercomp.data import load_data
from vercomp.distributed import processes
from vercomp.outputs import RunFolder
from vercomp.report.attack_page import attack_page
from vercomp.report.tables import attack_table
from vercomp.results.adversaries import Surroundings
from vercomp.results.attack_findings import attack_findings_of
from vercomp.results.runs import read_run
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
    norm: str,
    box: tuple[float, float] | None,
    steps: int | None,
    restarts: int | None,
    budget: int | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    input_shape: tuple[int, ...] | None,
    output: str | None,
    limit: int | None,
    out: Path | None,
    earlier: tuple[Path, ...],
    html: Path | None,
    csv_path: str | None,
    json_path: str | None,
) -> None:
    """Attack block by block; the table, or JSON, at the end."""
    folder = None
    options: AttackOptions = {"norm": norm, "box": box}
    given = {"steps": steps, "restarts": restarts, "budget": budget}
    effort = {name: number for name, number in given.items() if number is not None}
    options |= effort  # type: ignore[typeddict-item]
    with processes() as team:
        check_outputs(json_path, csv_path, html, out)
        before = [read_run(path) for path in earlier]
        with Patience(f"compiling {model}", shown=team.main):
            network = open_model(model, mean=mean, std=std, input_shape=input_shape, output=output)
        shape, classes = tuple(network.network.input_shape), network.network.classes
        dataset = load_data(data, shape, limit, classes=classes, tell=team.say)
        asked = {"radius": radius, "norm": norm, "box": box, **effort}
        description = describe("attack", identity(network), dataset, asked)
        expect(before, "attack", description)
        if out is not None and team.main:
            folder = RunFolder(out, description, RESULTS, REPORTS)

        def solve(rows: slice) -> Arrays:
            return attack_arrays(network, dataset.x[rows], dataset.y[rows], radius, options)

        with network.network.held():  # weights are hashed once for all blocks
            what = f"attacking {data}"
            arrays = run_in_blocks(what, len(dataset), solve, folder, COLUMNS, team)
    if arrays is None:
        return
    summary = attack_summary(arrays, radius=radius, norm=norm, box=box)
    if folder is not None:
        folder.write_summary(plain(summary))
    compared = beside(before, "attack", arrays, description)
    if html is not None:
        around = Surroundings(network, dataset.x, dataset.y, Labels, norm=norm, box=box)
        found = attack_findings_of(around, arrays, summary, dataset)
        write_html(html, attack_page(found, compared))
    table = attack_table(summary, f"{network.name}: {norm} attacks on {data}")
    deliver_run(summary, arrays, compared, table, csv_path=csv_path, json_path=json_path)


def attack_arrays(
    network: CompiledNetwork, x: Tensor, y: Tensor, radius: float, options: AttackOptions
) -> Arrays:
    """Attacks on a batch as the arrays of ``attacks.npz``."""
    found = network.attack(x, y, radius, **options)
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
