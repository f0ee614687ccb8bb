"""The curvature that is really there: a lower bound of K from exact Hessians at given inputs.

K_lb of "Second-Order Provable Defenses", appendix H.1: for each pair (y, t) the largest
|eigenvalue| of ∇²(z_y − z_t) over inputs of class y, as Lanczos iterations find it from below.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vercomp.errors import UsageError
from vercomp.results.eigenvalues import largest_eigenvalues

if TYPE_CHECKING:
    from vercomp.compiled import CompiledNetwork

STEPS = 12
ROWS = 512  # (input, target) pairs at once
UNITS = 4_000_000  # hidden units of all of them: a Hessian's product holds a few numbers for each
ALL_TARGETS = 10  # up to so many classes every target is looked at, beyond only the runner-up


def first_of_each_class(y: Tensor, count: int) -> Tensor:
    """Rows of the first ``count`` inputs of each class, in order."""
    rows = [(y == label).nonzero()[:count, 0] for label in sorted(set(y.tolist()))]
    return torch.cat(rows).sort().values


def sampled_curvature(
    network: CompiledNetwork,
    x: Tensor,
    y: Tensor,
    *,
    advance: Callable[[int], None] = lambda count: None,
) -> Tensor:
    """The largest curvature found for every pair, (C, C) float64; NaN where nothing was looked at.

    Args:
        network: With the feature ``hessian``.
        x: Inputs (B, *input_shape).
        y: Their labels (B,).
        advance: Is told how many inputs more are done.

    Raises:
        UsageError: The package was compiled without ``hessian``.
    """
    double = copy.deepcopy(network.network).double()
    product = getattr(double, "hessian_vector_product", None)
    if product is None:
        raise UsageError(
            "this package was compiled without 'hessian', which --data needs",
            remedy="Compile it again with hessian in --emit",
        )
    classes = double.classes
    x = x.double()
    found = torch.full((classes, classes), -torch.inf, dtype=torch.float64)
    per_input = classes - 1 if classes <= ALL_TARGETS else 1
    units = max(1, network.analysis().hidden_units)
    chunk = max(1, min(ROWS, UNITS // units) // per_input)
    for begin in range(0, len(x), chunk):
        points, labels = x[begin : begin + chunk], y[begin : begin + chunk]
        row, target = _targets(double.logits(points).detach(), labels)
        looked_at = points[row]
        along = partial(product, looked_at, labels[row], target)
        norms = largest_eigenvalues(along, looked_at, STEPS)
        flat = found.view(-1)
        flat.scatter_reduce_(0, labels[row] * classes + target, norms, "amax")
        advance(len(points))
    return torch.where(found.isfinite(), found, torch.nan)


def _targets(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and targets of the pairs to look at; one logit z is that of two classes, zero and z."""
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    others = torch.ones_like(logits, dtype=torch.bool).scatter(1, y[:, None], value=False)
    if logits.shape[1] > ALL_TARGETS:
        best = logits.masked_fill(~others, -torch.inf).argmax(1)
        return torch.arange(len(y)), best
    row, target = others.nonzero(as_tuple=True)
    return row, target
