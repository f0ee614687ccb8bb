"""``vercomp certify``: radii for labelled inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vercomp.commands.blocks import Arrays, describe, run_in_blocks
from vercomp.commands.compare import beside, expect
from vercomp.commands.html import write_html
from vercomp.commands.models import identity, open_model
from vercomp.commands.patience import Patience
from vercomp.commands.printing import REPORTS, check_outputs, deliver_run
from vercomp.commands.questions import Asked, Confidence, Scales
from vercomp.compiled import CompiledNetwork
from vercomp.core.claims.claim import Claim
from vercomp.core.memory import memory_limit
from vercomp.data import Dataset, load_data
from vercomp.distributed import processes
from vercomp.errors import UsageError
from vercomp.outputs import RunFolder
from vercomp.report.certify_page import certify_page
from vercomp.report.tables import certificate_table
from vercomp.results.adversaries import Surroundings
from vercomp.results.certificates import certificate_arrays
from vercomp.results.comparison import Comparison
from vercomp.results.findings import findings_of
from vercomp.results.runs import read_run
from vercomp.results.summaries import Summary, certificate_summary, plain
from vercomp.results.tightness import certificate_notes, few, ratio_of, seen_distances

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
    question: Asked,
    scales: Scales,
    confidence: Confidence,
    methods: tuple[str, ...] | None,
    timeout: float | None,
    max_memory: float | None,
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
    """Certify block by block; the table, or JSON, at the end."""
    if targets != "all" and not question.plain:
        raise UsageError("only the question of the largest output has --targets")
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
        check_outputs(json_path, csv_path, html, out)
        before = [read_run(path) for path in earlier]
        with Patience(f"compiling {model}", shown=team.main):
            network = open_model(model, mean=mean, std=std, input_shape=input_shape, output=output)
        shape, classes = tuple(network.network.input_shape), question.classes(network)
        labelled = question.labelled
        dataset = load_data(data, shape, limit, classes=classes, labelled=labelled, tell=team.say)
        weights, extra = scales.tensor(shape), {**question.words(), **scales.words()}
        chance = confidence.options(network, methods, targets, len(dataset))
        description = describe("certify", identity(network), dataset, {**asked, **extra, **chance})
        expect(before, "certify", description)
        if out is not None and team.main:
            folder = RunFolder(out, description, RESULTS, REPORTS)
        with network.network.held():  # weights are hashed once for all blocks
            arrays = run_in_blocks(
                f"certifying {data}",
                len(dataset),
                lambda rows: certificate_arrays(
                    network,
                    dataset.x[rows],
                    question.claim(dataset.y[rows]),
                    dataset.y[rows] if labelled else None,
                    scales=weights,
                    **asked,
                    **chance,
                ),
                folder,
                COLUMNS,
                team,
                timeout,
            )
    if arrays is None:
        return
    undecided = len(dataset) - len(arrays["index"])
    summary = {**certificate_summary(arrays, **asked, undecided=undecided), **extra}
    summary["seen_over_radius"] = (
        None
        if decide
        else _seen_over_radius(
            network, dataset, question.claim, arrays, weights, norm=norm, box=box
        )
    )
    if folder is not None:
        folder.write_summary(plain(summary))
    title = f"{network.name}: {norm} certificates on {data}"
    if not question.plain:
        title += f": {question.title()}"
    notes = certificate_notes(network, summary["seen_over_radius"], methods)
    compared = beside(before, "certify", arrays, description)
    if html is not None:
        y = dataset.y.clone()
        y[torch.from_numpy(arrays["index"])] = torch.from_numpy(arrays["label"])
        surroundings = Surroundings(
            network, dataset.x, y, question.claim, question.plain, norm, box, weights, methods
        )
        _write_report(html, surroundings, arrays, summary, dataset, question, notes, compared)
    table = certificate_table(summary, arrays, title)
    deliver_run(summary, arrays, compared, table, *notes, csv_path=csv_path, json_path=json_path)


def _write_report(
    html: Path,
    asked: Surroundings,
    arrays: Arrays,
    summary: Summary,
    dataset: Dataset,
    question: Asked,
    notes: Sequence[str],
    compared: Comparison | None,
) -> None:
    """Look for the nearest adversarial inputs, and draw everything as one page."""
    with Patience("looking for adversarial inputs"):
        found = findings_of(
            asked,
            arrays,
            summary,
            dataset,
            question="" if question.plain else question.title(),
            labelled=question.deviation is None,
        )
    said = [note.removeprefix("note: ") for note in notes]
    write_html(html, certify_page(found, said, compared))


def _seen_over_radius(
    network: CompiledNetwork,
    dataset: Dataset,
    claim: Callable[[Tensor], Claim],
    arrays: Arrays,
    weights: Tensor | None,
    *,
    norm: str,
    box: tuple[float, float] | None,
) -> float | None:
    """How many times as far as its radius a point that breaks the claim was seen, the median."""
    held = np.flatnonzero((arrays["label"] == arrays["prediction"]) & ~np.isnan(arrays["radius"]))
    if not len(held):
        return None
    count = few(len(held), network.network.outputs)
    chosen = torch.from_numpy(held[np.linspace(0, len(held) - 1, count).astype(int)])
    own = claim(dataset.y[chosen])
    seen = seen_distances(network, dataset.x[chosen], own, norm, weights, box)
    return ratio_of(seen, torch.from_numpy(arrays["radius"])[chosen])
