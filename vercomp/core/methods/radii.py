"""Radii of methods that prove bounds in one region at a time, and certificates made of radii."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .certificates import EXACT_GAP, Certificates
from .tasks import Task

_HALVINGS = 60
_DOUBLINGS = 60
_BISECTIONS = 12

Proves = Callable[[Tensor, Tensor], Tensor]
"""(rows (P,), radii (P,)) ↦ whether each is proved at its radius, (P,)."""


def largest_radius(proves: Proves, known: Tensor, first: Tensor) -> Tensor:
    """The largest radius (B,) found at which a method proves its claim; ``known`` where it is none.

    Every radius that is tried is proved or not by itself, and the largest proved one is returned:
    nothing rests on whether larger regions are harder, which only steers the search.

    Args:
        proves: Whether rows are proved at radii.
        known: Radii that are proved already, (B,); 0 where none is.
        first: A radius > 0 to try first where none is known, (B,).
    """
    best = known.clone()
    open_rows = torch.arange(len(best), device=best.device)
    # Where a radius is known, a slightly larger one decides whether the method gains anything.
    trial = torch.where(known > 0.0, known * (1.0 + EXACT_GAP), first)
    above = torch.full_like(best, torch.inf)
    for _ in range(_HALVINGS):
        if len(open_rows) == 0:
            break
        proved = proves(open_rows, trial[open_rows])
        hit, missed = open_rows[proved], open_rows[~proved]
        best[hit] = trial[hit]
        above[missed] = trial[missed]
        open_rows = missed[(known[missed] == 0.0) & (trial[missed] > 1e-12 * first[missed])]
        trial[open_rows] *= 0.5
    open_rows = torch.nonzero((best > known) & above.isinf())[:, 0]
    for _ in range(_DOUBLINGS):
        if len(open_rows) == 0:
            break
        trial[open_rows] = 2.0 * best[open_rows]
        proved = proves(open_rows, trial[open_rows])
        above[open_rows[~proved]] = trial[open_rows[~proved]]
        open_rows = open_rows[proved]
        best[open_rows] = trial[open_rows]
    open_rows = torch.nonzero((best > known) & above.isfinite())[:, 0]
    for _ in range(_BISECTIONS):
        open_rows = open_rows[best[open_rows] * (1.0 + EXACT_GAP) < above[open_rows]]
        if len(open_rows) == 0:
            break
        middle = 0.5 * (best[open_rows] + above[open_rows])
        proved = proves(open_rows, middle)
        best[open_rows] = torch.where(proved, middle, best[open_rows])
        above[open_rows] = torch.where(proved, above[open_rows], middle)
    return best


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
