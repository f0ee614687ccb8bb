"""The nearest adversarial point that a strong attack finds against any class, in the 2-norm.

Its distance is what certified radii are divided by: no certificate can exceed it. The search of
vercomp's own comes first, then descents from many points, its own and images of other classes among
them: on steep networks either finds points that the other does not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import vercomp
from vercomp.core.methods.nearest import Nearest
from vercomp.core.methods.nearest import nearest as nearest_points

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
    compiled = vercomp.compile(subject.module, input_shape=tuple(subject.x.shape[1:]))
    found = nearest_points(compiled.network, subject.x, subject.y)
    parts = []
    for rows in torch.split(torch.arange(len(subject.x)), block):
        x, y = subject.x[rows], subject.y[rows]
        first = Nearest(found.point[rows], found.distance[rows], found.target[rows])
        parts.append(_nearest(subject.module, x, y, first, subject.others, effort))
    return torch.cat(parts)


def _nearest(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    first: Nearest,
    rivals: tuple[Tensor, Tensor],
    effort: Effort,
) -> Tensor:
    """Distances (N,), from what vercomp's own search found for every target."""
    count, targets = first.target.shape
    flat, shape = x.flatten(1), x.shape[1:]
    pairs = torch.arange(count).repeat_interleave(targets)
    function = margin_of(module, shape, y[pairs], first.target.flatten())
    screened, _ = pgd_step(function, flat[pairs], steps=effort.screening, polish=5, starts=1)
    screened = torch.minimum(screened.reshape(count, -1).double(), first.distance)
    kept = screened.argsort(1)[:, :SCREENED]
    pairs = torch.arange(count).repeat_interleave(kept.shape[1])
    target = first.target.gather(1, kept).flatten()
    function = margin_of(module, shape, y[pairs], target)
    points = first.point.flatten(2)[pairs, kept.flatten()]
    step = (points - flat[pairs]).nan_to_num(nan=0.0)
    _, step = pgd_step(
        function,
        flat[pairs],
        steps=effort.steps,
        starts=effort.starts,
        beyond=[step.float(), *_towards(function, flat[pairs], target, rivals)],
    )
    # float32 may call a point adversarial that is not: the last word is float64's.
    exactly = margin_of(copy.deepcopy(module).double(), shape, y[pairs], target)
    start = (torch.full((len(pairs),), torch.inf, dtype=torch.float64), step.double())
    distance, _ = polished(exactly, flat[pairs].double(), start, 10)
    best: Tensor = torch.minimum(distance.reshape(count, -1).amin(1), first.distance.amin(1))
    return best


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
