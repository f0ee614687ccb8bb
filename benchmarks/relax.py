"""Interval and linear relaxations beside those of auto_LiRPA: same networks, inputs and radii.

Usage: VERCOMP_DATA=… [VERCOMP_PEER_PYTHON=…] python -m benchmarks.relax [NETWORK …] [--list]

For l∞ and l1: the lower bounds of the margins of all other classes in one ball, by each method of
ours and its counterpart (``interval`` and IBP, ``crown`` and CROWN, ``alpha`` and α-CROWN with as
many iterations). For l2 the same, and the certified radii. Each method runs in a process of its own
with as many threads, ours and its counterpart one after the other; auto_LiRPA computes in float32,
ours has its last word in float64.

What is finished is kept (build/benchmarks/relax) and not done again while the code, the weights and
the options are the same; what was interrupted resumes. The tables go into benchmarks/RESULTS.md,
between two marks. VERCOMP_PEER_PYTHON is the Python of an environment that has auto_LiRPA; without
it, its columns stay empty.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from . import zoo
from .relax_tables import Pair, tables
from .sections import write_section
from .sides.job import BOUNDS, OURS, PEER, RADII, Job
from .sides.runner import Runner, end_with_us
from .zoo import Subject, subject

BUILD = Path("build/benchmarks/relax")
NORMS = ("linf", "l1", "l2")
METHODS = ("crown", "alpha")


def questions(name: str, options: argparse.Namespace) -> Iterator[Job]:
    """Ours, for a network: bounds in every norm, and radii in l2 by what does not optimise."""
    radii = zoo.radii_of(name)
    for method in options.methods:
        for norm in options.norms:
            asked: list[tuple[str, float | None]] = [(BOUNDS, radii[norm])]
            if norm == "l2" and method != "alpha":
                asked.append((RADII, None))
            for task, radius in asked:
                yield Job(
                    OURS,
                    task,
                    name,
                    method,
                    norm,
                    radius,
                    iterations=options.iterations if method == "alpha" else 0,
                    block=options.block,
                    threads=options.threads,
                )


def pairs(runner: Runner, this: Subject, options: argparse.Namespace) -> Iterator[Pair]:
    """Each question, answered by both sides."""
    for job in questions(this.name, options):
        ours = runner.run(job, this)
        theirs = runner.run(job.by(PEER), this) if this.has_peer else None
        yield Pair(job, ours, theirs)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    made.add_argument("networks", nargs="*", metavar="NETWORK", default=list(zoo.NAMES))
    made.add_argument("--list", action="store_true", help="the networks that run without any given")
    made.add_argument("--norms", nargs="+", choices=NORMS, default=list(NORMS))
    made.add_argument("--methods", nargs="+", default=list(METHODS))
    made.add_argument("--limit", type=int, default=100, help="inputs of each network")
    made.add_argument("--block", type=int, default=10, help="inputs that are given at once")
    made.add_argument("--iterations", type=int, default=20, help="of alpha and α-CROWN")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--timeout", type=float, default=600.0, help="seconds a method and network")
    made.add_argument("--build", type=Path, default=BUILD, help="where results are kept")
    made.add_argument("--dry", action="store_true", help="print the tables, leave RESULTS.md alone")
    return made


def main() -> None:
    options = parser().parse_args()
    if options.list:
        print("\n".join(options.networks))
        return
    end_with_us()
    runner, found = Runner(options.build, options.timeout), list[Pair]()
    for name in options.networks:
        say(name)
        for pair in pairs(runner, subject(name, options.limit), options):
            found.append(pair)
            say(f"  {pair.line()}")
            if not options.dry:
                write_section("relax", tables(found, options))
    if options.dry:
        print(tables(found, options))


if __name__ == "__main__":
    main()
