"""Tables of bounds and radii beside auto_LiRPA's, as Markdown."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .comparison import Difference, of_bounds, of_radii
from .sides.job import RADII, Job, Results
from .training_tables import DASH, markdown

PEERS = {"interval": "IBP", "crown": "CROWN", "alpha": "α-CROWN"}
NORMS = {"linf": "l∞", "l1": "l1", "l2": "l2"}


@dataclass(frozen=True)
class Pair:
    """A question, and both answers.

    Args:
        job: Ours.
        ours: Our results.
        theirs: The peer's; None where it was not asked.
    """

    job: Job
    ours: Results | None
    theirs: Results | None

    @property
    def difference(self) -> Difference | None:
        if self.ours is None or self.theirs is None:
            return None
        compare = of_radii if self.job.task == RADII else of_bounds
        return compare(self.ours, self.theirs)

    @property
    def ball(self) -> str:
        """The norm and the radius."""
        radius = "radii" if self.job.radius is None else f"{self.job.radius:g}"
        return f"{NORMS[self.job.norm]} {radius}"

    def line(self) -> str:
        """The answers in a line, for whoever watches."""
        parts = [f"{self.job.method} {self.ball}"]
        for name, side in (("ours", self.ours), ("theirs", self.theirs)):
            if side is not None:
                failed = f" ({side.failed})" if side.failed else ""
                cost = f"{side.seconds('cpu'):.3g} s, {side.peak:.0f} MB"
                parts.append(f"{name} {len(side.values)} inputs, {cost}{failed}")
        found = self.difference
        if found is not None:
            parts.append(
                f"least {found.least:.4g} at input {found.where}, mean {found.mean:.4g}, "
                f"as good on {found.at_least:.1%}"
            )
        return "; ".join(parts)


def tables(pairs: Sequence[Pair], options: argparse.Namespace) -> str:
    """The section: what was run, then a table of bounds and a table of radii for each method."""
    sides = [side for pair in pairs for side in (pair.ours, pair.theirs) if side is not None]
    parts = [header(sides, options)]
    for method in dict.fromkeys(pair.job.method for pair in pairs):
        for task, title, make in (
            ("bounds", "lower bounds of margins", bounds_table),
            ("radii", "certified l2 radii", radii_table),
        ):
            chosen = [p for p in pairs if p.job.method == method and p.job.task == task]
            if chosen:
                peer = PEERS.get(method, DASH)
                parts.append(f"### `{method}` and {peer}: {title}\n\n{make(chosen)}")
    return "\n".join(parts)


def header(results: Sequence[Results], options: argparse.Namespace) -> str:
    """Versions and options, without folders."""
    versions = dict.fromkeys(each.versions for each in results if each.versions)
    threads = "one thread" if options.threads == 1 else f"{options.threads} threads"
    return (
        f"{'; '.join(versions)}; Python {platform.python_version()}. The first {options.limit} "
        f"correctly classified test images, in blocks of {options.block}, {threads} a side; α with "
        f"{options.iterations} iterations; no further block is begun after {options.timeout:g} s. "
        "Seconds are of the processor (and by the clock), an input; megabytes are the most that a "
        "process held while it answered (and at any time, compiling included). The seed of a "
        "training is the network's number of layers, or 0 for the residual one.\n"
    )


def bounds_table(pairs: Sequence[Pair]) -> str:
    head = (
        "network",
        "ball",
        "inputs",
        "ours − theirs, least",
        "mean",
        "rows at least as good",
        *("s, ours", "s, theirs", "MB, ours", "MB, theirs"),
    )
    rows = []
    for pair in pairs:
        found = pair.difference
        gains = (
            (DASH, DASH, DASH)
            if found is None
            else (f"{found.least:.3g}", f"{found.mean:.3g}", f"{found.at_least:.1%}")
        )
        rows.append((pair.job.network, pair.ball, inputs(pair), *gains, *costs(pair)))
    return markdown(head, rows)


def radii_table(pairs: Sequence[Pair]) -> str:
    head = (
        "network",
        "inputs",
        "mean radius, ours",
        "theirs",
        "ours / theirs, least",
        "mean",
        "inputs at least as good",
        *("s, ours", "s, theirs", "MB, ours", "MB, theirs"),
    )
    rows = []
    for pair in pairs:
        found = pair.difference
        means = (mean(pair.ours), mean(pair.theirs))
        gains = (
            (DASH, DASH, DASH)
            if found is None
            else (f"{found.least:.4g}", f"{found.mean:.4g}", f"{found.at_least:.1%}")
        )
        rows.append((pair.job.network, inputs(pair), *means, *gains, *costs(pair)))
    return markdown(head, rows)


def inputs(pair: Pair) -> str:
    """How many inputs were compared, or answered by the only side that did."""
    counts = [len(side.values) for side in (pair.ours, pair.theirs) if side is not None]
    return str(min((count for count in counts if count), default=0))


def mean(side: Results | None) -> str:
    if side is None or not side.values:
        return DASH
    return f"{torch.tensor(side.values, dtype=torch.float64).mean():.4f}"


def costs(pair: Pair) -> tuple[str, ...]:
    """Seconds of the processor (by the clock), and megabytes while answering (at any time)."""
    sides = [
        side if side is not None and side.values else None for side in (pair.ours, pair.theirs)
    ]
    seconds = (
        DASH if side is None else f"{side.seconds('cpu'):.3g} ({side.seconds('wall'):.3g})"
        for side in sides
    )
    memory = (DASH if side is None else f"{side.answering:.0f} ({side.peak:.0f})" for side in sides)
    return (*seconds, *memory)
