"""Proved norms of convolutions: which axes go on a torus, and which torus.

The blocks of :mod:`.spectra` bound a norm for every choice of torus; a choice is made by estimates,
and the bound proved for it (:mod:`.cholesky`). An image that is large compared to the kernel loses
almost nothing on the torus. Where an estimate from below says that more than one percent may be
lost, more tori are tried, and axes are kept as they are as far as the work and the memory allow.
Where not even the blocks of the torus fit into memory the sums of |W| are the bound.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF, times_up, up
from ..maps.convolution import Convolution
from . import proofs
from .cholesky import largest_estimate, weighted_bounds
from .lanczos import norm_from_below
from .majorants import majorants
from .proofs import Proof
from .spectra import Grid, Spectrum

_AT_ONCE = 2.5e9
"""Floating-point operations of a proof that need not be thought about."""

_MOST = 1.25e11
"""Of one that is too long: some ten seconds."""

_MOST_WIDTH = 4096

_MOST_FOR_ROWS = 1.25e11
"""The same for many rows of weights, which take smaller factorisations."""

_CLOSE = 1.01
_LARGER = (1, 2)


def prove_convolution(convolution: Convolution, wrapped: tuple[int, ...] = ()) -> Proof:
    """Prove an upper bound of ‖A‖₂.

    Args:
        convolution: In float64, with finite weights.
        wrapped: The axes along which it is circular (:mod:`.circular`).
    """
    convolution = _on_cpu(convolution)
    if not bool((convolution.kernel != 0).any()):
        return Proof(convolution.error, "zero")
    choices = _choices(convolution, wrapped)
    if not choices:
        return Proof(convolution.absolute_norm, "sums of |W|")
    if choices[-1].work() <= _AT_ONCE or len(choices) == 1:
        return _proved(choices[-1])
    best = _proved(choices[0])
    enough = _CLOSE * norm_from_below(convolution) + convolution.error
    if best.bound > enough and choices[0].around:
        best = min(best, _proved(choices[0], _LARGER))
    for choice in choices[1:]:
        if best.bound > enough and choice.work() <= _MOST:
            best = min(best, _proved(choice))
    return best


def convolution_weighted(
    convolution: Convolution,
    q: Tensor,
    *,
    adjoint: bool = False,
    wrapped: tuple[int, ...] = (),
    blocks: int = 1,
) -> Tensor:
    """Upper bounds of ‖diag(√q_p) A‖₂², or of ‖A diag(√q_p)‖₂².

    Args:
        convolution: In float64, with finite weights.
        q: Finite, nonnegative, (P, m) or (P, n), on the CPU.
        adjoint: Whether the weights are of the inputs.
        wrapped: The axes along which the convolution is circular.
        blocks: Of how many blocks of rows this is one: it takes that share of the work.
    """
    convolution = _on_cpu(convolution)
    most = _MOST_FOR_ROWS / blocks
    choices = _choices(convolution, wrapped, len(q), most, adjoint=adjoint)
    if not choices:
        norm = convolution.absolute_norm
        return times_up(times_up(q.amax(1), norm), norm)
    fitting = [choice for choice in choices if choice.work(len(q)) <= most]
    choice = fitting[-1] if fitting else choices[0]
    rows = choice.input_weights(q) if adjoint else choice.output_weights(q)
    covers, which, factor = majorants(rows.flatten(1), _rows_at_most(choice, most))
    covers = covers.reshape(-1, *rows.shape[1:])
    batches = choice.batches(_best_grid(choice), adjoint=adjoint, rows=len(covers))
    bounds = weighted_bounds(batches, covers, choice.error)
    bounds = times_up(times_up(bounds, choice.size), choice.size)
    if convolution.error > 0.0:
        extra = times_up(covers.flatten(1).amax(1).sqrt(), convolution.error * (1.0 + 1e-9))
        root = up(up(bounds.sqrt()) + extra)
        bounds = times_up(root, root)
    return times_up(bounds[which], factor)


def _choices(
    convolution: Convolution,
    wrapped: tuple[int, ...],
    rows: int = 0,
    most: float = _MOST_FOR_ROWS,
    *,
    adjoint: bool = False,
) -> list[Spectrum]:
    """For every number of kept axes, the cheapest choice that fits into memory."""
    axes = [axis for axis in range(convolution.dimensions) if axis not in wrapped]
    every = [
        [Spectrum(convolution, kept, wrapped) for kept in itertools.combinations(axes, count)]
        for count in range(len(axes) + 1)
    ]
    fitting = [
        [
            one
            for one in some
            if one.memory(min(rows, _rows_at_most(one, most)), adjoint=adjoint) <= proofs.MEMORY
            and (not one.kept or min(one.extents) <= _MOST_WIDTH)
        ]
        for some in every
    ]
    return [min(some, key=lambda one: one.work()) for some in fitting if some]


def _rows_at_most(choice: Spectrum, most: float) -> int:
    """Rows of weights that are proved one by one; more of them are covered by so many."""
    return max(1, int(most / choice.work_of_row))


def _proved(choice: Spectrum, more: tuple[int, ...] = (0,)) -> Proof:
    ones = torch.ones(1, choice.convolution.groups, min(choice.extents), dtype=torch.float64)
    batches = choice.batches(_best_grid(choice, more))
    root = math.sqrt(float(weighted_bounds(batches, ones, choice.error)[0]))
    error = choice.convolution.error
    bound = math.nextafter((choice.size * root + error) * (1.0 + 8.0 * UNIT_ROUNDOFF), math.inf)
    return Proof(bound if root > 0.0 else error, choice.how, choice.memory())


def _best_grid(choice: Spectrum, more: tuple[int, ...] = (0,)) -> Grid:
    """Of tori so much larger than they must be, with and without half a step, the best one."""
    grids = [grid for extra in more for grid in choice.grids(extra)]
    if len(grids) == 1 or not choice.around:
        return grids[0]
    return min(grids, key=lambda grid: largest_estimate(choice.batches(grid)))


def _on_cpu(convolution: Convolution) -> Convolution:
    return replace(convolution, kernel=convolution.kernel.detach().cpu())
