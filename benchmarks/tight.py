"""How close certified l2 radii come to what the strongest attack finds, and at what price.

Usage: VERCOMP_DATA=… [VERCOMP_PEER_PYTHON=…] python -m benchmarks.tight [NETWORK …] [--list]

For each network: the mean over correctly classified inputs, against all other classes, of the
certified radius divided by the distance of the nearest adversarial point (1 is perfect), for the
portfolio, for each method of ours alone, for what the paper of global curvature has in its
appendix, and for auto_LiRPA's CROWN and α-CROWN; the share of the
gap between CROWN and the attack that each one closes; and seconds an input. A certificate of ours
beyond an adversarial point stops the benchmark.

What is finished is kept (build/benchmarks/tight) and not done again while the code, the weights and
the options are the same; what was interrupted resumes. The table goes into benchmarks/RESULTS.md,
between two marks. VERCOMP_PEER_PYTHON is the Python of an environment that has auto_LiRPA.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vercomp.outputs import write_atomically

from . import boundary_attack as descents
from . import nearest as nearest_module
from .published_radii import PUBLISHED, takes
from .sections import write_section
from .sides.command import job, parser
from .sides.job import OURS, PEER, RADII
from .sides.runner import Runner, digest, end_with_us, weights_of
from .tight_tables import Row, table
from .zoo import Subject, subject

BUILD = Path("build/benchmarks/tight")
METHODS = ("portfolio", "curvature", *PUBLISHED, "crown", "local", "alpha", "quadratic")
PEER_METHODS = ("crown", "alpha")
SOUND = 1e-6
"""How far, relatively, a certificate may exceed the distance of a point found in float64."""


def rows(runner: Runner, this: Subject, options: argparse.Namespace) -> Iterator[Row]:
    """A row for each method of each side."""
    able = [m for m in options.methods if m not in PUBLISHED or takes(m, this.module)]
    asked = [(OURS, method) for method in able]
    if this.has_peer:
        asked += [(PEER, method) for method in PEER_METHODS if method in options.peer_methods]
    distance = distances(runner, this)
    for side, method in asked:
        question = job(options, side, RADII, this.name, method, "l2", None)
        results = runner.run(question, this)
        if results is not None:
            row = Row(question, results, distance)
            check(row)
            yield row


def distances(runner: Runner, this: Subject) -> Tensor:
    """The attack's distances (N,), kept as results are."""
    path = runner.folder / this.name / "distances.json"
    attack = (Path(file).read_text() for file in (nearest_module.__file__, descents.__file__))
    stamp = digest(weights_of(this.module), *attack)
    kept = json.loads(path.read_text()) if path.exists() else {}
    found: list[float] = kept["distances"] if kept.get("stamp") == stamp else []
    if len(found) < len(this.x):
        found = nearest_module.nearest(this).tolist()
        content = {"stamp": stamp, "distances": found}
        write_atomically(path, json.dumps(content).encode())
    return torch.tensor(found[: len(this.x)], dtype=torch.float64)


def check(row: Row) -> None:
    """No certificate of ours may reach beyond an adversarial point.

    Raises:
        SystemExit: One does.
    """
    false = torch.nonzero(row.radii > row.common * (1.0 + SOUND))[:, 0].tolist()
    if false and row.job.side == OURS:
        raise SystemExit(f"{row.job.network}: false certificates by {row.job.method}: {false}")
    if false:
        say(f"  {row.job.side}'s {row.job.method} is beyond an adversarial point at {false}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    command = parser(__doc__ or "", BUILD)
    command.add_argument("--methods", nargs="+", default=list(METHODS), help="of ours")
    command.add_argument("--peer-methods", nargs="*", default=list(PEER_METHODS))
    options = command.parse_args()
    if options.list:
        print("\n".join(options.networks))
        return
    end_with_us()
    runner, found = Runner(options.build, options.timeout), list[Row]()
    for name in options.networks:
        say(name)
        for row in rows(runner, subject(name, options.limit), options):
            found.append(row)
            say(f"  {row.line()}")
            if not options.dry:
                write_section("tight", table(found, options))
    if options.dry:
        print(table(found, options))


if __name__ == "__main__":
    main()
