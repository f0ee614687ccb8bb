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
from .sides.command import job, parser
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
                yield job(options, OURS, task, name, method, norm, radius)


def pairs(runner: Runner, this: Subject, options: argparse.Namespace) -> Iterator[Pair]:
    """Each question, answered by both sides."""
    for asked in questions(this.name, options):
        ours = runner.run(asked, this)
        theirs = runner.run(asked.by(PEER), this) if this.has_peer else None
        yield Pair(asked, ours, theirs)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    command = parser(__doc__ or "", BUILD)
    command.add_argument("--norms", nargs="+", choices=NORMS, default=list(NORMS))
    command.add_argument("--methods", nargs="+", default=list(METHODS))
    options = command.parse_args()
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
