"""Whether rows are positive on a ball around one input: slabs cover it, each is bounded by itself.

The ball ‖x − x₀‖ ≤ R is cut across a direction u, towards the nearest boundary point that is
known. In a thin slab u hardly moves, and along u is where most of the curvature is. The outermost
slabs are open, so that together they cover the ball whatever the computed u is. Linear bounds go
first; what they leave open is searched with quadratic bounds. The first slabs are for all rows;
a row that stays open there gets slabs along its own direction. A slab that stays open is halved,
and when all look positive they are proved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..domains.refined_intervals import relax
from ..regions.constructors import Ball
from ..specifications import Specification
from .optimiser import optimise
from .parameters import Parameters
from .proof import Piece, values_at
from .setting import Network, Setting

EDGES = (-1.0, 0.3, 0.6, 0.85, 1.0)
"""Where the ball is cut, in shares of R; the outermost slabs are open."""

_HOPELESS = 0.6
"""A slab is not halved whose estimate lies below minus this share of the margin at its point."""

_SPARE = 0.01
"""Estimates should exceed this share of the margin before a proof is tried."""


@dataclass(frozen=True)
class Effort:
    """How much is tried before an answer is no.

    Args:
        steps: Optimisation steps of each search,
        first_steps: of those where not all directions are the rows' own.
        halvings: How often a slab may be halved.
    """

    steps: int = 60
    first_steps: int = 20
    halvings: int = 2


class Slab(NamedTuple):
    """A part of a ball, a ≤ u·(x − x₀) ≤ b, and the rows that are asked about there.

    Args:
        low: a.
        high: b.
        depth: How often it has been halved.
        direction: The number of the row whose direction u is.
        rows: The numbers of rows.
    """

    low: float
    high: float
    depth: int
    direction: int
    rows: tuple[int, ...]

    def halves(self, rows: Sequence[int]) -> tuple[Slab, Slab]:
        """The slab in two, for some of its rows."""
        middle, asked = 0.5 * (self.low + self.high), tuple(sorted(rows))
        lower = Slab(self.low, middle, self.depth + 1, self.direction, asked)
        return lower, Slab(middle, self.high, self.depth + 1, self.direction, asked)


class Likely(NamedTuple):
    """A row that looks positive on a slab.

    Args:
        estimate: Its estimated bound.
        slab: The slab.
        setting: Where it is one of the pieces,
        piece: with this number.
        row: The number of the row.
        parameters: Of its bound.
    """

    estimate: float
    slab: Slab
    setting: Setting
    piece: int
    row: int
    parameters: Parameters


Open = dict[Slab, set[int]]
"""Slabs with the numbers of rows that stay open there."""


@dataclass
class Cover:
    """Slabs that cover a ball, on each of which all rows look positive.

    Args:
        network: The network.
        center: x₀, (*shape) in float64.
        radius: R.
        directions: u for each row, (R, D), of a length near 1.
        nearest: The number of the row whose direction is for all of them, at first.
        rows: C and d, of this one input.
        effort: How much is tried.
    """

    network: Network
    center: Tensor
    radius: float
    directions: Tensor
    nearest: int
    rows: tuple[Tensor, Tensor]
    effort: Effort

    def __post_init__(self) -> None:
        """Nothing has been looked at yet. What was given up once stays so."""
        self.pending = self._whole(self.nearest, range(len(self.directions)))
        self.likely: list[Likely] = []
        self.is_proved = self.is_lost = False

    def looks_positive(self) -> bool:
        """Whether all rows look positive on slabs that cover the ball; proves nothing."""
        while self.pending and not self.is_lost:
            slabs, self.pending = self.pending, []
            found, left, hopeless = self._searched(slabs)
            self.likely += found
            self.is_lost |= hopeless or not self._again(left)
        return not self.is_lost

    def is_positive(self) -> bool:
        """Whether C z + d > 0 is proved, row by row, on the whole ball."""
        C, d = self.rows
        if self.is_proved:
            return True
        while self.looks_positive():
            refuted: Open = {}
            for each in sorted(self.likely, key=lambda each: each.estimate):
                row, offset = C[each.row], float(d[each.row])
                bound = each.setting.proved(each.piece, row, offset, each.parameters)
                if not bound > 0.0:
                    refuted.setdefault(each.slab, set()).add(each.row)
            self.likely = []  # all others are proved
            if not refuted:
                self.is_proved = True
                return True
            self.is_lost |= not self._again(refuted)
        return False

    def _whole(self, direction: int, rows: Sequence[int]) -> list[Slab]:
        """Slabs of the whole ball."""
        R = self.radius
        return [Slab(R * a, R * b, 0, direction, tuple(rows)) for a, b in pairwise(EDGES)]

    def _again(self, left: Open) -> bool:
        """Ask again about what stays open, in other slabs; whether that may be done."""
        own: set[int] = set()
        for slab, rows in left.items():
            own |= {row for row in rows if row != slab.direction and slab.depth == 0}
        for slab, rows in left.items():
            rest = rows - own
            if rest and slab.depth == self.effort.halvings:
                return False
            self.pending += slab.halves(tuple(rest)) if rest else ()
        self.likely = [each for each in self.likely if each.row not in own]
        for row in sorted(own):
            self.pending += self._whole(row, (row,))
        return True

    def _setting(self, slabs: Sequence[Slab]) -> Setting:
        """What is known of the network on slabs; those that reach ±R are open."""
        x0, R = self.center.reshape(-1), self.radius
        low = [-math.inf if slab.low <= -R else slab.low for slab in slabs]
        high = [math.inf if slab.high >= R else slab.high for slab in slabs]
        u = self.directions[torch.tensor([slab.direction for slab in slabs])]
        middle = torch.tensor([0.5 * (slab.low + slab.high) for slab in slabs]).to(x0)
        points = x0 + middle[:, None] * u
        batch = self.center[None].expand(len(slabs), *self.center.shape)
        cut = (
            u.reshape(batch.shape),
            torch.tensor(low, dtype=torch.float64),
            torch.tensor(high, dtype=torch.float64),
        )
        network = self.network
        relaxation = relax(network.graph, Ball(batch, R, "l2", slab=cut), network.rows)
        pieces = [Piece(x0, R, *each) for each in zip(u, low, high, points, strict=True)]
        values = values_at(network.graph, points)
        return Setting(network, relaxation, values, pieces, list(range(len(slabs))))

    def _searched(self, slabs: Sequence[Slab]) -> tuple[list[Likely], Open, bool]:
        """The rows that look positive, slabs with some that do not, and whether one is hopeless.

        Rows that linear bounds prove on a slab are not among them.
        """
        C, d = self.rows
        setting = self._setting(slabs)
        linear = setting.relaxation.lower_bounds(self.network.graph.output, C[None]) + d
        asked = torch.zeros(linear.shape, dtype=torch.bool)
        for k, slab in enumerate(slabs):
            asked[k, list(slab.rows)] = True
        pairs = torch.nonzero(asked & ~(linear > 1e-9 * (1.0 + d.abs())))
        if len(pairs) == 0:
            return [], {}, False
        piece, row = pairs[:, 0], pairs[:, 1]
        search = setting.search(piece, C[row], d[row])
        # Rows whose direction is another one still have slabs of their own to come.
        own = torch.tensor([slabs[k].direction == r for k, r in pairs.tolist()])
        own |= torch.tensor([slabs[k].depth > 0 for k in piece.tolist()])
        spare, lost = _SPARE * search.start.abs(), -_HOPELESS * search.start.abs()
        lost = torch.where(own, lost, -torch.inf)
        steps = self.effort.steps if bool(own.all()) else self.effort.first_steps
        first = setting.beginning(search, piece)
        best, estimate = optimise(search, *first, steps, until=spare, unless=lost)
        if bool((estimate <= lost).any()):
            return [], {}, True
        likely: list[Likely] = []
        left: Open = {}
        for k, (number, which) in enumerate(pairs.tolist()):
            slab, value = slabs[number], float(estimate[k])
            if value > 0.0:
                likely.append(Likely(value, slab, setting, number, which, best.row(k)))
            else:
                left.setdefault(slab, set()).add(which)
        return likely, left, False


def rows_of(specification: Specification) -> tuple[Tensor, Tensor]:
    """C and d of the rows of one input."""
    C, d = specification.coefficients, specification.offsets
    return (C[0], d[0]) if specification.batched else (C, d)
