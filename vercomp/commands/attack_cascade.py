"""``vercomp attack`` on a cascade: points of its balls with wrong answers, by the whole rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from vercomp.cascades import CompiledCascade
from vercomp.commands.blocks import Arrays, describe, run_in_blocks
from vercomp.commands.models import identity, open_cascade
from vercomp.commands.patience import Patience
from vercomp.commands.printing import REPORTS, check_outputs, deliver_run
from vercomp.data import load_data
from vercomp.distributed import processes
from vercomp.errors import UsageError
from vercomp.outputs import RunFolder
from vercomp.report.cascade_tables import attacked_table
from vercomp.results.cascades import ATTACKED, attacked_arrays, attacked_summary
from vercomp.results.summaries import plain

RESULTS = "attacks.npz"


def run(
    model: str,
    *,
    data: str,
    radius: float,
    steps: int | None,
    restarts: int | None,
    limit: int | None,
    out: Path | None,
    csv_path: str | None,
    json_path: str | None,
) -> None:
    """Attack block by block; the table, or JSON, at the end."""
    folder = None
    given = {"steps": steps, "restarts": restarts}
    effort = {name: number for name, number in given.items() if number is not None}
    with processes() as team:
        check_outputs(json_path, csv_path, None, out)
        with Patience(f"opening {model}", shown=team.main):
            cascade = open_cascade(model)
        network, rule = cascade.network, cascade.rule
        if radius != rule.radius:
            raise UsageError(
                f"the cascade answers what is proved within {rule.norm} {rule.radius:g}, and is "
                f"attacked there",
                remedy=f"Give --radius {rule.radius:g}",
            )
        dataset = load_data(
            data, network.input_shape, limit, classes=network.classes, tell=team.say
        )
        if out is not None and team.main:
            description = describe("attack", identity(cascade), dataset, effort)
            folder = RunFolder(out, description, RESULTS, REPORTS)
        arrays = run_in_blocks(
            f"attacking {data}",
            len(dataset),
            lambda rows: _attacked(cascade, dataset.x[rows], dataset.y[rows], effort),
            folder,
            ATTACKED,
            team,
        )
    if arrays is None:
        return
    summary = attacked_summary(arrays, rule, len(cascade.stages))
    if folder is not None:
        folder.write_summary(plain(summary))
    title = f"{cascade.name}: attacks on the cascade within {rule.norm} {rule.radius:g} on {data}"
    table = attacked_table(summary, title)
    deliver_run(summary, arrays, None, table, csv_path=csv_path, json_path=json_path)


def _attacked(cascade: CompiledCascade, x: Tensor, y: Tensor, effort: dict[str, Any]) -> Arrays:
    found = cascade.attack(x, y, **effort)
    return attacked_arrays(found, cascade.predict(x).label, y)
