"""The nearest adversarial point that a strong attack finds against any class, in the 2-norm.

Its distance is what certified radii are divided by: no certificate can exceed it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .boundary_attack import pgd_step, polished
from .zoo import Subject

SCREENED = 3
"""Targets that the full attack is spent on, after a short one on all of them."""
NEIGHBOURS = 3
"""Images of the target's class from which descents start."""


@dataclass(frozen=True)
class Effort:
    """How hard the attack tries.

    Args:
        screening: Gradients of the short descent to every target.
        steps: Gradients of each of the others.
        starts: Of them, from the input and around it.
    """

    screening: int = 60
    steps: int = 200
    starts: int = 8


def nearest(subject: Subject, effort: Effort | None = None, block: int = 20) -> Tensor:
    """Distances (N,) in float64 of points that another class wins, in float64 arithmetic."""
    effort = effort or Effort()
    with torch.no_grad():
        rivals = subject.others[0], subject.others[1]
    parts = zip(subject.x.split(block), subject.y.split(block), strict=True)
    return torch.cat([_nearest(subject.module, x, y, rivals, effort) for x, y in parts])


def _nearest(
    module: nn.Module, x: Tensor, y: Tensor, rivals: tuple[Tensor, Tensor], effort: Effort
) -> Tensor:
    with torch.no_grad():
        classes = module(x[:1]).shape[1]
    count, targets = len(x), _others(y, classes)
    flat = x.flatten(1)
    pairs = torch.arange(count).repeat_interleave(classes - 1)
    function = margin_of(module, x.shape[1:], y[pairs], targets.flatten())
    screened, _ = pgd_step(function, flat[pairs], steps=effort.screening, polish=5, starts=1)
    kept = screened.reshape(count, -1).argsort(1)[:, :SCREENED]
    pairs = torch.arange(count).repeat_interleave(kept.shape[1])
    target = targets.gather(1, kept).flatten()
    function = margin_of(module, x.shape[1:], y[pairs], target)
    found = pgd_step(
        function,
        flat[pairs],
        steps=effort.steps,
        starts=effort.starts,
        beyond=_towards(function, flat[pairs], target, rivals),
    )
    # float32 may call a point adversarial that is not: the last word is float64's.
    exactly = margin_of(copy.deepcopy(module).double(), x.shape[1:], y[pairs], target)
    start = (torch.full_like(found[0], torch.inf, dtype=torch.float64), found[1].double())
    distance, _ = polished(exactly, flat[pairs].double(), start, 10)
    best: Tensor = distance.reshape(count, -1).amin(1)
    return best


def _others(y: Tensor, classes: int) -> Tensor:
    """The classes that are not the label, (N, C − 1)."""
    every = torch.arange(classes - 1).expand(len(y), -1)
    return every + (every >= y[:, None]).long()


def _towards(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    x0: Tensor,
    target: Tensor,
    rivals: tuple[Tensor, Tensor],
) -> list[Tensor]:
    """Steps (P, D) to where the segments to the nearest images of the target's class turn."""
    images, labels = rivals[0].flatten(1), rivals[1]
    far = torch.cdist(x0, images)
    far = torch.where(labels[None] == target[:, None], far, torch.inf)
    closest = far.topk(min(NEIGHBOURS, far.shape[1]), largest=False).indices
    steps = []
    for place in closest.T:
        v = images[place] - x0
        low, high = torch.zeros(len(x0), 1), torch.ones(len(x0), 1)
        for _ in range(10):
            middle = 0.5 * (low + high)
            beyond = (function(x0 + middle * v)[0] <= 0.0)[:, None]
            low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
        steps.append(high * v)
    return steps


def margin_of(
    module: nn.Module, shape: torch.Size, y: Tensor, t: Tensor
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Points (P, D) ↦ z_y − z_t (P,) and its gradient (P, D)."""

    def function(points: Tensor) -> tuple[Tensor, Tensor]:
        leaf = points.detach().requires_grad_()
        logits = module(leaf.reshape(-1, *shape))
        f = (logits.gather(1, y[:, None]) - logits.gather(1, t[:, None]))[:, 0]
        (gradient,) = torch.autograd.grad(f.sum(), leaf)
        return f.detach(), gradient

    return function
