"""Time and memory of intervals by the dual network, exact and by random projections, over widths.

``python -m benchmarks.widths`` bounds the units behind one 3×3 convolution on a 28×28 image with
more and more filters, as Figure 7 of Wong et al. (*Scaling provable adversarial defenses*, 2018)
does, each in a process of its own, whose largest resident memory is read at its end.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
from torch import nn

import vercomp
from vercomp.core.chance import Chance
from vercomp.core.domains.dual_network import DualIntervals, ProjectedIntervals
from vercomp.core.domains.intervals import RowNorms
from vercomp.core.projections import Projection
from vercomp.core.walk import forward

PIXELS, RADIUS, CONFIDENCE = 784, 0.1, 0.99
FILTERS = (1, 2, 4, 8, 16, 32)
WAYS = ("exact", "projected")


def network(filters: int) -> nn.Module:
    """Two convolutions, so that the second has intervals that the dual network bounds."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, filters, 3, padding=1), nn.Conv2d(filters, filters, 3, padding=1))
    head = nn.Linear(filters, 10)
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), *pool, head)


def measure(way: str, filters: int, columns: int) -> dict[str, float]:
    """Seconds and MiB of the intervals of one image, and their mean width in the second layer."""
    net = vercomp.compile(network(filters), (1, 28, 28))
    graph = net.network.in_double()[1]
    region = vercomp.Ball(torch.rand(1, 1, 28, 28), RADIUS, "linf")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.thread_time()
    domain = (
        DualIntervals(graph, region, RowNorms())
        if way == "exact"
        else ProjectedIntervals(
            graph, region, RowNorms(), Projection(columns), Chance(1.0 - CONFIDENCE, 0)
        )
    )
    forward(domain, graph)
    seconds = time.thread_time() - begin
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    read = [node.parent for node in graph.nodes if hasattr(node, "function")][-1]
    kept = domain.relaxation.intervals[read]
    width = float((kept.upper - kept.lower).mean())
    return {"units": PIXELS * filters, "seconds": seconds, "MiB": grown / 1024, "width": width}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.widths", description=__doc__)
    parser.add_argument("--filters", type=int, nargs="+", default=FILTERS)
    parser.add_argument("--columns", type=int, default=128, help="Products of an estimate.")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FILTERS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]), options.columns)))
        return
    print(f"{'units':>8}  {'way':<10} {'seconds':>8} {'MiB':>6} {'mean width':>10}")
    for filters in options.filters:
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.widths", "--one", way, str(filters)]
            command += ["--columns", str(options.columns)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
            found = json.loads(done.stdout)
            print(
                f"{found['units']:>8.0f}  {way:<10} {found['seconds']:>8.2f} {found['MiB']:>6.0f} "
                f"{found['width']:>10.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
