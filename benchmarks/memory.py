"""What it costs to compile one convolution: peak memory and seconds.

Usage: python -m benchmarks.memory [--all]

Each row compiles a convolution with as many outputs as inputs, a tanh and a dense layer of ten
classes, with all bounds, in a process of its own, so that its peak memory is its own. Seconds are
of the processor, because other processes may share it. The table goes into benchmarks/RESULTS.md,
between two marks.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import platform
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch
from torch import nn

import vercomp
from benchmarks.scale import peak_megabytes
from benchmarks.sections import write_section
from vercomp.core.maps.convolution import Convolution
from vercomp.core.norms.bounds import prove

CLASSES = 10


class Case(NamedTuple):
    """A k × k convolution of images of c channels and n × n pixels, padded to its own size."""

    kernel: int
    channels: int
    image: int


class Cost(NamedTuple):
    """What a case took, and how the norm of its convolution was proved."""

    seconds: float
    before: float
    peak: float
    how: str


def measure(case: Case, channel: Connection) -> None:
    """Send the cost of a case through the channel."""
    torch.manual_seed(0)
    k, c, n = case
    convolution = nn.Conv2d(c, c, k, padding=k // 2)
    module = nn.Sequential(
        convolution, nn.Tanh(), nn.Flatten(), nn.Linear(c * n * n, CLASSES)
    ).eval()
    before = peak_megabytes()
    start = time.process_time()
    vercomp.compile(module, input_shape=(c, n, n)).network.bounds()
    seconds, peak = time.process_time() - start, peak_megabytes()
    kernel = convolution.weight.detach().double()
    how = prove(Convolution.sliding(kernel, (c, n, n), padding=k // 2)).how
    channel.send(Cost(seconds, before, peak, how))


def costs(cases: Iterable[Case]) -> Iterator[tuple[Case, Cost]]:
    """Measure each case in a fresh process."""
    context = multiprocessing.get_context("spawn")
    for case in cases:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=measure, args=(case, sender))
        process.start()
        sender.close()
        try:
            yield case, receiver.recv()
        except EOFError:
            raise SystemExit(f"{case} failed") from None
        finally:
            process.join()


def grid(every: bool) -> Iterator[Case]:
    """Kernels, channels and images: some of each, or more if ``every`` asks for them."""
    kernels = (3, 5, 7, 9, 11) if every else (3, 5, 11)
    channels = (1, 4, 16, 64) if every else (1, 8, 64)
    images = (8, 16, 28, 64) if every else (8, 28, 64)
    return itertools.starmap(Case, itertools.product(kernels, channels, images))


def table(rows: Iterable[str]) -> str:
    """The section between the marks."""
    versions = (
        f"vercomp {version('vercomp')}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {torch.get_num_threads()} threads, seed 0"
    )
    return "\n".join(("```", versions, *rows, "```", ""))


def main() -> None:
    """Print the table and write it down."""
    parser = argparse.ArgumentParser(description="memory and time of compiling one convolution")
    parser.add_argument("--all", action="store_true", help="the whole grid, not a part of it")
    options = parser.parse_args()
    rows = ["kernel  channels  image    CPU s  MB before  peak MB  proof of its norm"]
    print(rows[0])
    for case, cost in costs(grid(options.all)):
        rows.append(
            f"{case.kernel:6d}  {case.channels:8d}  {case.image:5d}  {cost.seconds:7.1f}  "
            f"{cost.before:9.0f}  {cost.peak:7.0f}  {cost.how}"
        )
        print(rows[-1], flush=True)
    write_section("memory", table(rows))


if __name__ == "__main__":
    main()
