"""``vercomp certify`` of a cascade: in which balls no wrong answer occurs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from vercomp.commands.blocks import describe, run_in_blocks
from vercomp.commands.models import identity, open_cascade
from vercomp.commands.patience import Patience
from vercomp.commands.printing import REPORTS, check_outputs, deliver_run
from vercomp.core.memory import memory_limit
from vercomp.data import load_data
from vercomp.distributed import processes
from vercomp.errors import UsageError
from vercomp.outputs import RunFolder, write_atomically
from vercomp.report.cascade_tables import certified_table
from vercomp.results.cascades import CERTIFIED, certified_arrays, certified_summary, left_over
from vercomp.results.summaries import plain

RESULTS = "certificates.npz"


def run(
    model: str,
    *,
    data: str,
    radius: float | None,
    timeout: float | None,
    max_memory: float | None,
    limit: int | None,
    left: Path | None,
    out: Path | None,
    csv_path: str | None,
    json_path: str | None,
) -> None:
    """Certify block by block; the table, or JSON, at the end.

    Args:
        model: The folder of a cascade.
        data: The inputs.
        radius: At most that of the rule, whose balls hold all smaller ones.
        timeout: Seconds after which no further block is begun.
        max_memory: In GB.
        limit: How many inputs are looked at.
        left: A file for the inputs on which the cascade abstains, to train a next stage on.
        out: The folder of the results.
        csv_path: Where a row for each input goes.
        json_path: Where JSON goes.
    """
    folder = None
    with processes() as team, memory_limit(max_memory):
        check_outputs(json_path, csv_path, None, out)
        with Patience(f"opening {model}", shown=team.main):
            cascade = open_cascade(model)
        network, rule = cascade.network, cascade.rule
        if radius is not None and radius > rule.radius:
            raise UsageError(
                f"the cascade answers what is proved within {rule.norm} {rule.radius:g}, and "
                f"nothing is known of its answers within {radius:g}",
                remedy="Leave --radius out, or make a cascade with a larger one",
            )
        dataset = load_data(
            data, network.input_shape, limit, classes=network.classes, tell=team.say
        )
        if out is not None and team.main:
            description = describe("certify", identity(cascade), dataset, {})
            folder = RunFolder(out, description, RESULTS, REPORTS)
        arrays = run_in_blocks(
            f"certifying {data}",
            len(dataset),
            lambda rows: certified_arrays(
                cascade.certify(dataset.x[rows], dataset.y[rows]), dataset.y[rows]
            ),
            folder,
            CERTIFIED,
            team,
            timeout,
        )
    if arrays is None:
        return
    if left is not None:
        rows, buffer = left_over(arrays), io.BytesIO()
        np.savez(buffer, x=dataset.x.numpy()[rows], y=dataset.y.numpy()[rows])
        write_atomically(left, buffer.getvalue())
    undecided = len(dataset) - len(arrays["index"])
    summary = certified_summary(arrays, rule, len(cascade.stages), undecided)
    if folder is not None:
        folder.write_summary(plain(summary))
    title = f"{cascade.name}: what the cascade answers within {rule.norm} {rule.radius:g} on {data}"
    table = certified_table(summary, title)
    deliver_run(summary, arrays, None, table, csv_path=csv_path, json_path=json_path)
