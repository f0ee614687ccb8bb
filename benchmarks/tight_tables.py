"""The table of certified radii beside the distances of adversarial points, as Markdown."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .relax_tables import PEERS, header
from .sides.job import OURS, PEER, Job, Results
from .training_tables import DASH, markdown


@dataclass(frozen=True)
class Row:
    """The radii of one method on one network.

    Args:
        job: What was asked.
        results: The answers, for the first inputs at least.
        distance: Of the nearest adversarial point found, (N,) float64.
    """

    job: Job
    results: Results
    distance: Tensor

    @property
    def radii(self) -> Tensor:
        """Of the inputs that were answered, (n,) float64; a NaN of a side is no radius."""
        values = torch.tensor(self.results.values, dtype=torch.float64)
        return values.reshape(-1, 1)[:, 0].nan_to_num(nan=0.0)

    @property
    def common(self) -> Tensor:
        """The distances of those inputs."""
        return self.distance[: len(self.results.values)]

    @property
    def share(self) -> float:
        """Mean of radius / distance."""
        return float((self.radii / self.common).mean())

    def gap_closed(self, crown: Row) -> float:
        """The share of the gap between CROWN's radii and the distances that these radii close."""
        count = min(len(self.radii), len(crown.radii))
        mine, base, best = self.radii[:count], crown.radii[:count], self.common[:count]
        return float((mine - base).sum() / (best - base).sum())

    def at_least(self, crown: Row) -> float:
        """The share of inputs with a radius as large as CROWN's, to the tolerance of searches."""
        count = min(len(self.radii), len(crown.radii))
        mine, base = self.radii[:count], crown.radii[:count]
        return float((mine >= base * (1.0 - 1e-3)).double().mean())

    @property
    def name(self) -> str:
        """The method, and whose."""
        return self.job.method if self.job.side == OURS else f"auto_LiRPA, {PEERS[self.job.method]}"

    def line(self) -> str:
        """The row for whoever watches."""
        failed = f" ({self.results.failed})" if self.results.failed else ""
        if not self.results.values:
            return f"{self.name}: nothing{failed}"
        return (
            f"{self.name}: {len(self.radii)} inputs, radius / distance {self.share:.4f}, "
            f"{self.results.seconds('cpu'):.3g} s{failed}"
        )


def table(rows: Sequence[Row], options: argparse.Namespace) -> str:
    """What was run, and a line for each network and method that answered."""
    head = (
        "network",
        "method",
        "inputs",
        "mean radius",
        "radius / PGD",
        "least",
        "gap closed",
        "inputs ≥ CROWN",
        "s an input",
    )
    lines = []
    for network in dict.fromkeys(row.job.network for row in rows):
        own = [row for row in rows if row.job.network == network and row.results.values]
        crown = baseline(own)
        lines += [cells(row, crown) for row in own]
    return f"{header([row.results for row in rows], options)}\n{markdown(head, lines)}"


def baseline(rows: Sequence[Row]) -> Row | None:
    """CROWN: the peer's, or ours where it has none."""
    crowns = [row for row in rows if row.job.method == "crown"]
    theirs = [row for row in crowns if row.job.side == PEER]
    return next(iter([*theirs, *crowns]), None)


def cells(row: Row, crown: Row | None) -> tuple[str, ...]:
    beside = (DASH, DASH)
    if crown is not None:
        beside = (f"{row.gap_closed(crown):.1%}", f"{row.at_least(crown):.1%}")
    return (
        row.job.network,
        row.name,
        str(len(row.radii)),
        f"{row.radii.mean():.4f}",
        f"**{row.share:.4f}**" if row.job.method == "portfolio" else f"{row.share:.4f}",
        f"{(row.radii / row.common).min():.4f}",
        *beside,
        f"{row.results.seconds('cpu'):.3g}",
    )
