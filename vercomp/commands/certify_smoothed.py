"""``vercomp certify --methods smoothing``: probable radii of the smoothed classifier."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from vercomp.commands.blocks import Arrays, describe, run_in_blocks
from vercomp.commands.compare import beside, expect
from vercomp.commands.html import write_html
from vercomp.commands.models import open_classifier
from vercomp.commands.patience import Patience
from vercomp.commands.printing import REPORTS, check_outputs, deliver_run
from vercomp.commands.questions import Confidence
from vercomp.core.memory import memory_limit
from vercomp.data import Dataset, load_data
from vercomp.distributed import processes
from vercomp.outputs import RunFolder
from vercomp.report.certify_page import certify_page
from vercomp.report.smoothed_table import smoothed_table
from vercomp.results.findings import smoothed_findings
from vercomp.results.runs import read_run
from vercomp.results.smoothed import COLUMNS, smoothed_arrays, smoothed_summary
from vercomp.results.summaries import plain
from vercomp.smoothing.certify import Noise, certify
from vercomp.smoothing.classifier import Classifier

RESULTS = "certificates.npz"
FIXED = {"methods": ["smoothing"], "norm": "l2", "targets": "all"}
"""The options of a run that are no matter of choice."""


def run(
    model: str,
    *,
    data: str,
    radius: float | None,
    sampling: dict[str, Any],
    confidence: Confidence,
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
    """Certify block by block; the table, or JSON, at the end.

    Args:
        model: See :func:`vercomp.commands.models.open_classifier`, which takes ``mean``, ``std``,
            ``input_shape`` and ``output`` too.
        data: The inputs.
        radius: The radius that the certified accuracy is reported at.
        sampling: ``sigma``, ``samples`` and ``selection`` of the noise, and ``every``: every so
            many inputs one is taken.
        confidence: Of each certificate, or of all together; and the seed.
        timeout: Seconds after which no further block is begun.
        max_memory: In GB.
        limit: How many inputs are looked at, before ``every``.
        out: The folder of the results.
        earlier: Finished runs that this one is set beside.
        html: Where a report goes.
        csv_path: Where a row for each input goes.
        json_path: Where JSON goes.
    """
    every = sampling.pop("every", 1)
    folder = None
    with processes() as team, memory_limit(max_memory):
        check_outputs(json_path, csv_path, html, out)
        before = [read_run(path) for path in earlier]
        with Patience(f"opening {model}", shown=team.main):
            classifier = open_classifier(
                model, mean=mean, std=std, input_shape=input_shape, output=output, tell=team.say
            )
        shape, classes = classifier.input_shape, classifier.classes
        dataset = load_data(data, shape, limit, classes=classes, tell=team.say)
        dataset = replace(dataset, x=dataset.x[::every], y=dataset.y[::every])
        each = confidence.of_each(len(dataset))
        noise = Noise(**sampling, confidence=each, seed=confidence.seed or 0)
        asked = {**FIXED, "radius": radius, "every": every, **asdict(noise)}
        description = describe("certify", classifier.identity, dataset, asked)
        expect(before, "certify", description)
        if out is not None and team.main:
            folder = RunFolder(out, description, RESULTS, REPORTS)
        what = f"certifying {data} under noise"
        solve = partial(_solved, classifier, dataset, noise)
        arrays = run_in_blocks(what, len(dataset), solve, folder, COLUMNS, team, timeout)
    if arrays is None:
        return
    undecided = len(dataset) - len(arrays["index"])
    summary = smoothed_summary(arrays, noise, radius=radius, undecided=undecided)
    if folder is not None:
        folder.write_summary(plain(summary))
    table = smoothed_table(summary, arrays, _title(classifier.name, data, noise))
    compared = beside(before, "certify", arrays, description)
    if html is not None:
        found = smoothed_findings(classifier.name, arrays, summary, dataset)
        write_html(html, certify_page(found, (), compared))
    deliver_run(summary, arrays, compared, table, csv_path=csv_path, json_path=json_path)


def _title(name: str, data: str, noise: Noise) -> str:
    """What the table shows: whose certificates, and that they are probable."""
    whose = f"the classifier smoothed with σ = {noise.sigma:g}"
    return f"{name}: probable l2 certificates on {data}, of {whose}"


def _solved(classifier: Classifier, dataset: Dataset, noise: Noise, rows: slice) -> Arrays:
    """The certificates of some inputs."""
    return smoothed_arrays(certify(classifier, dataset.x[rows], noise), dataset.y[rows])
