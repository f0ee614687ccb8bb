"""Radii of methods that prove bounds in one region at a time, and certificates made of radii."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .certificates import EXACT_GAP, Certificates
from .tasks import Task

_TRIALS = 120
"""Radii that are tried for each row, at most."""

_SPAN = 8.0
"""A radius that a secant proposes lies within this factor of those that were tried."""

_INWARD = 0.25 * EXACT_GAP
"""A root that a secant finds is approached from below, by this share: there it may be proved."""

_BEYOND = 1.0 + 0.999 * EXACT_GAP
"""By this factor the largest proved radius is exceeded to see that nothing more is to be gained."""

Proves = Callable[[Tensor, Tensor], Tensor]
"""(rows (P,), radii (P,)) ↦ lower bounds (P,) of what must be positive at its radius."""


def largest_radius(
    proves: Proves, known: Tensor, first: Tensor, start: Tensor, enough: float | None = None
) -> Tensor:
    """The largest radius (B,) found at which a method proves its claim; ``known`` where it is none.

    Every radius that is tried is proved or not by itself, and the largest proved one is returned:
    nothing rests on whether larger regions are harder, or on how the bounds change with the radius,
    which only steer the search: the next radius to try is where the chord through the two last
    bounds vanishes, or the middle where chords keep to one side (the Illinois variant of regula
    falsi, Dowell and Jarratt, 1971).

    Args:
        proves: Lower bounds at radii of rows; a positive one is a proof.
        known: Radii that are proved already, (B,); 0 where none is.
        first: A radius > 0 to try first where none is known, (B,).
        start: The bound at radius 0, to the nearest: it only steers the search, (B,).
        enough: A radius beyond which nothing is asked; None to look for the largest one.
    """
    search = _Search(known, first, start)
    for _ in range(_TRIALS):
        rows = search.open(enough)
        if len(rows) == 0:
            break
        trial = search.next(rows)
        search.learn(rows, trial, proves(rows, trial))
    return search.best


class _Search:
    """For each row the largest radius that is proved, the smallest one beyond it that is not.

    Args:
        known: Radii that are proved already, (B,); 0 where none is.
        first: A radius > 0 to try first, (B,).
        start: About the bound at radius 0, (B,).
    """

    def __init__(self, known: Tensor, first: Tensor, start: Tensor) -> None:
        # Where a radius is known, a slightly larger one decides whether the method gains anything.
        self.known = known
        self.first = torch.where(known > 0.0, known * (1.0 + EXACT_GAP), first)
        self.best = known.clone()
        self.above = torch.full_like(known, torch.inf)
        self.foot = torch.zeros_like(known)  # where the chord begins: a radius with its bound
        self.value = torch.where(start > 0.0, start, torch.nan).to(known)
        self.pace = torch.full_like(known, torch.nan)  # how fast the bound fell up to ``best``
        self.lack = torch.full_like(known, torch.nan)  # at ``above``
        self.side = torch.zeros_like(known)  # where the last trial fell
        self.scale = self.value.clone()
        self.width = torch.full_like(known, torch.inf)  # of the bracket before the last trial

    def open(self, enough: float | None) -> Tensor:
        """The rows whose answers may still change."""
        gained = self.best > self.known
        going = self.best * (1.0 + EXACT_GAP) < self.above
        # Where the first, slightly larger radius failed, the method gains nothing.
        going &= gained | (self.known == 0.0) | self.above.isinf()
        going &= self.above > 1e-12 * self.first
        going &= self.best < 2.0**60 * self.first
        if enough is not None:
            going &= (self.best <= enough) & (self.above > enough * (1.0 + 1e-8))
        return torch.nonzero(going)[:, 0]

    def next(self, rows: Tensor) -> Tensor:
        """The radii to try."""
        best, above, foot = self.best[rows], self.above[rows], self.foot[rows]
        value, lack = self.value[rows], self.lack[rows]
        root = foot + (above - foot) * (value / (value - lack))
        # Just below the root lies what can be proved; beyond it, what ends the search.
        inner = root * (1.0 - _INWARD)
        inner = torch.where(inner <= best * (1.0 + 2.0 * _INWARD), best * _BEYOND, inner)
        inner = torch.clamp(inner, above / _SPAN, above)
        stuck = ~inner.isfinite() | (above - best > 0.5 * self.width[rows])
        stuck |= (inner <= best) | (inner >= above * (1.0 - _INWARD))
        between = torch.where(
            stuck, torch.where(best > 0.0, 0.5 * (best + above), 0.5 * above), inner
        )
        ahead = (foot + value / self.pace[rows]) * (1.0 - _INWARD)
        ahead = torch.where(ahead.isfinite(), ahead, 2.0 * best)
        growing = torch.clamp(ahead, best * (1.0 + 4.0 * EXACT_GAP), best * _SPAN)
        growing = torch.where(best > self.known[rows], growing, self.first[rows])
        return torch.where(above.isinf(), growing, between)

    def learn(self, rows: Tensor, trial: Tensor, bound: Tensor) -> None:
        """What the bounds (P,) at radii say."""
        proved = bound > 0.0
        finite = torch.where(bound.isfinite(), bound, torch.nan).to(self.value)
        hit, missed = rows[proved], rows[~proved]
        side = torch.where(proved, 1.0, -1.0).to(bound)
        repeated = side == self.side[rows]
        self.side[rows] = side
        # A chord that did not halve the bracket is followed by a halving.
        halved = self.width[rows] < torch.inf
        halved &= self.above[rows] - self.best[rows] > 0.5 * self.width[rows]
        self.width[rows] = torch.where(halved, torch.inf, self.above[rows] - self.best[rows])
        # Bounds fall ever faster beyond the root, which bends chords: what lacks counts by its log.
        scale = self.scale[rows]
        finite = torch.where(finite < 0.0, -scale * torch.log1p(-finite / scale), finite)
        self.pace[hit] = (self.value[hit] - finite[proved]) / (trial[proved] - self.foot[hit])
        self.pace[hit] = torch.where(self.pace[hit] > 0.0, self.pace[hit], torch.nan)
        self.best[hit] = self.foot[hit] = trial[proved]
        self.value[hit] = finite[proved]
        self.above[missed], self.lack[missed] = trial[~proved], finite[~proved]
        # The end that stays while the other one moves twice counts half.
        twice = rows[repeated]
        self.lack[twice] *= torch.where(self.side[twice] > 0.0, 0.5, 1.0)
        self.value[twice] *= torch.where(self.side[twice] < 0.0, 0.5, 1.0)


def certificates_of(
    task: Task, table: Tensor, broken: Tensor, method: str, asked: float | None
) -> Certificates:
    """Certificates from proved radii, with the input itself as the witness where it is broken.

    Args:
        task: The chunk.
        table: Proved radii, (B, columns), as :meth:`Task.table` makes them.
        broken: Inputs at which the claim is proved to fail, (B,).
        method: The name of the method that proved the radii.
        asked: The radius asked about, or None.
    """
    least = task.smallest(table)
    prediction = task.logits.argmax(1)
    if task.asked == "all":
        prediction = torch.where(least > 0.0, task.label, prediction)
    return Certificates(
        radius=least,
        target=task.nearest(table),
        exact=broken,
        gap=torch.where(broken, 0.0, torch.inf).to(least),
        witness=torch.where(broken[:, None], task.x0, torch.nan),
        prediction=prediction,
        radius_per_target=table,
        evaluations=task.scattered(torch.ones_like(task.targets), 0),
        method=(method,) * len(table),
        certified=None if asked is None else least > asked,
        refuted=None if asked is None else broken,
    )
