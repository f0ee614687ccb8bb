"""``vercomp certify --methods smoothing``: probable radii of the smoothed classifier."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vercomp.commands.blocks import describe, run_in_blocks
from vercomp.commands.models import open_classifier
from vercomp.commands.patience import Patience
from vercomp.commands.printing import check_json_path, deliver
from vercomp.commands.questions import Confidence
from vercomp.core.memory import memory_limit
from vercomp.data import load_data
from vercomp.distributed import processes
from vercomp.outputs import RunFolder
from vercomp.report.smoothed_table import smoothed_table
from vercomp.results.smoothed import COLUMNS, smoothed_arrays, smoothed_summary
from vercomp.results.summaries import plain
from vercomp.smoothing.certify import Noise, certify

RESULTS = "certificates.npz"


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
        json_path: Where JSON goes.
    """
    every = sampling.pop("every", 1)
    folder = None
    with processes() as team, memory_limit(max_memory):
        check_json_path(json_path)
        with Patience(f"opening {model}", shown=team.main):
            classifier = open_classifier(
                model, mean=mean, std=std, input_shape=input_shape, output=output, tell=team.say
            )
        shape, classes = classifier.input_shape, classifier.classes
        dataset = load_data(data, shape, limit, classes=classes, tell=team.say)
        dataset = replace(dataset, x=dataset.x[::every], y=dataset.y[::every])
        each = confidence.of_each(len(dataset))
        noise = Noise(**sampling, confidence=each, seed=confidence.seed or 0)
        if out is not None and team.main:
            asked = {"methods": ["smoothing"], "radius": radius, "every": every, **asdict(noise)}
            folder = RunFolder(
                out, describe("certify", classifier.identity, dataset, asked), RESULTS
            )
        arrays = run_in_blocks(
            f"certifying {data} under noise",
            len(dataset),
            lambda rows: smoothed_arrays(
                certify(classifier, dataset.x[rows], noise), dataset.y[rows]
            ),
            folder,
            COLUMNS,
            team,
            timeout,
        )
    if arrays is None:
        return
    undecided = len(dataset) - len(arrays["index"])
    summary = smoothed_summary(arrays, noise, radius=radius, undecided=undecided)
    if folder is not None:
        folder.write_summary(plain(summary))
    title = (
        f"{classifier.name}: probable l2 certificates on {data}, of the classifier smoothed with "
        f"σ = {noise.sigma:g}"
    )
    deliver(summary, json_path, smoothed_table(summary, arrays, title))
