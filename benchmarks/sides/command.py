"""What the benchmarks of two sides share on the command line, and the jobs that follow from it."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import zoo

from .job import Job

COSTLY = ("alpha", "quadratic")
"""Methods that take seconds for each input: their blocks are smaller, so that time is kept."""
SMALLER = 5


def parser(description: str, build: Path) -> argparse.ArgumentParser:
    """The options of both benchmarks; ``build`` is where results are kept."""
    made = argparse.ArgumentParser(description=description.split("\n")[0])
    made.add_argument("networks", nargs="*", metavar="NETWORK", default=list(zoo.NAMES))
    made.add_argument("--list", action="store_true", help="the networks that run without any given")
    made.add_argument("--limit", type=int, default=100, help="inputs of each network")
    made.add_argument("--block", type=int, default=10, help="inputs that are given at once")
    made.add_argument("--iterations", type=int, default=20, help="of α-CROWN; ours always takes 20")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--timeout", type=float, default=600.0, help="seconds a method and network")
    made.add_argument("--build", type=Path, default=build, help="where results are kept")
    made.add_argument("--dry", action="store_true", help="print the tables, leave RESULTS.md alone")
    return made


def job(
    options: argparse.Namespace,
    side: str,
    task: str,
    network: str,
    method: str,
    norm: str,
    radius: float | None,
) -> Job:
    """The job of a method, with the options that concern it."""
    costly = method in COSTLY
    return Job(
        side,
        task,
        network,
        method,
        norm,
        radius,
        iterations=options.iterations if method == "alpha" else 0,
        block=max(1, options.block // SMALLER) if costly else options.block,
        threads=options.threads,
    )
