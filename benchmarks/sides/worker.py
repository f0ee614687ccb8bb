"""The process of a side: reads a job, answers block by block, writes after each block.

Usage: python -m benchmarks.sides.worker ASSIGNMENT.json

The assignment holds the job, the stamp, the number of inputs, seconds after which no further block
is begun, and the paths of the network, of the inputs and of the results. The network is a
``torch.fx.GraphModule`` of torch's own modules, which any environment with torch can load.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .job import OURS, PEER, RADII, Block, Job, Results, parsed

MODULES = {OURS: "benchmarks.sides.vercomp_side", PEER: "benchmarks.sides.auto_lirpa_side"}


class Side(Protocol):
    """A program that bounds networks."""

    def bounds(self, x: Tensor, y: Tensor, job: Job) -> Tensor:
        """Lower bounds (B, C − 1) of the margins of the labels y, other classes in their order."""

    def radii(self, x: Tensor, y: Tensor, job: Job) -> Tensor:
        """Radii (B,) in which all margins stay positive."""


def answers(side: Side, x: Tensor, y: Tensor, job: Job) -> list[list[float]]:
    """What the job asks for of each input."""
    if job.task == RADII:
        return [[radius] for radius in side.radii(x, y, job).double().tolist()]
    bounds: list[list[float]] = side.bounds(x, y, job).double().tolist()
    return bounds


def run(job: Job, assignment: dict[str, Any], results: Results) -> None:
    """Answer what is not answered yet."""
    torch.set_num_threads(job.threads)
    # Written by this very run: a module has no form that is free of code.
    network: nn.Module = torch.load(assignment["network"], weights_only=False)
    inputs = torch.load(assignment["inputs"], weights_only=True)
    x, y = inputs["x"][: assignment["count"]], inputs["y"][: assignment["count"]]
    module = importlib.import_module(MODULES[job.side])
    results.versions = module.versions()
    results.before = peak_megabytes()
    begun, start = time.perf_counter(), time.process_time()
    side: Side = module.prepared(network.eval(), x[:1])
    answers(side, x[:1], y[:1], job)
    results.setup = time.process_time() - start
    results.peak = max(results.peak, peak_megabytes())
    forget_peak()
    for first in range(len(results.values), len(x), job.block):
        if results.blocks and time.perf_counter() - begun > assignment["timeout"]:
            break
        rows = slice(first, first + job.block)
        wall, cpu = time.perf_counter(), time.process_time()
        values = answers(side, x[rows], y[rows], job)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        results.blocks.append(Block(values, wall, cpu))
        results.answering = max(results.answering, peak_megabytes())
        results.peak = max(results.peak, results.answering)
        write(assignment["results"], results)


def write(path: str, results: Results) -> None:
    """Replace the file of the results, whole."""
    temporary = Path(f"{path}.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(results)))
    temporary.replace(path)


def peak_megabytes() -> float:
    """The most memory that this process has held.

    Linux's ``ru_maxrss`` counts what the parent held when it started the process; ``VmHWM`` does
    not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak() -> None:
    """Let ``VmHWM`` begin anew, where the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    assignment = json.loads(Path(sys.argv[1]).read_text())
    path, job = assignment["results"], Job(**assignment["job"])
    results = Results(assignment["stamp"])
    if Path(path).exists():
        results = parsed(json.loads(Path(path).read_text()))
        results.failed = None
    try:
        run(job, assignment, results)
    except Exception as error:  # whatever a side meets is a result of the comparison
        traceback.print_exc()
        results.failed = (
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        )
    write(path, results)


if __name__ == "__main__":
    main()
