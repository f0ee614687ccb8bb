"""Attacks on cascades, through the whole rule: points of the ball where it answers wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from ..inputs import check_count
from ..regions.constructors import Ball
from ..regions.region import Region
from .cascade import ABSTAINS, Cascade, classes_of

if TYPE_CHECKING:
    from .portfolio import Certifiable

_LOOKS = 2
"""So many times on its way a search asks the rule what it answers: that is what takes long."""

_HOLD = 3.0
"""The weight of keeping earlier stages from answering, beside what the later one is to certify; it
grows by this factor with every restart."""


@dataclass(frozen=True)
class CascadeAttacks:
    """What was found in the rule's balls around B inputs with labels y, on their device.

    Args:
        point: Where the rule gives a wrong answer, float64, proved to lie in the ball; else a point
            where it abstains, if one was seen; else the input. Shape (B, *input_shape).
        label: What it answers there, (B,); −1: it abstains.
        broken: An answer other than y was found, (B,).
        silenced: A point where the rule abstains was found, (B,).
    """

    point: Tensor
    label: Tensor
    broken: Tensor
    silenced: Tensor


def attack(
    cascade: Cascade,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 40,
    restarts: int = 2,
    generator: torch.Generator | None = None,
) -> CascadeAttacks:
    """Look for points of the ball at which the rule answers with another class than y.

    A stage can only certify the class that it gives at the input (:mod:`.cascade`). So only stages
    that give another class than y there are worth a search: it raises that class's margin in the
    stage, where it may then be certified, and lowers the margins by which earlier stages would
    answer first. It walks by conditional gradients, which need no projection, and asks the whole
    rule on its way.

    Args:
        cascade: The cascade.
        x: Inputs, float32 or float64, (B, *input_shape), inside the box if there is one.
        y: Labels (B,).
        steps: Gradients of a search.
        restarts: Searches for each stage, the first from the input, the others from random points.
        generator: Of those points, on the CPU; None: the same at every call.
    """
    generator = generator or torch.Generator().manual_seed(0)
    check_count("steps", steps)
    check_count("restarts", restarts)
    rule = cascade.rule
    region = Ball(x.double(), rule.radius, rule.norm, box=rule.box)
    found = _Found(cascade, x, y)
    found.offer(torch.arange(len(x), device=x.device), x.double())
    stages = [cast("Certifiable", stage) for stage in cascade.stages]
    given = torch.stack([classes_of(stage, x) for stage in stages])
    for number in range(len(stages)):
        for trial in range(restarts):
            rows = torch.nonzero((given[number] != y) & ~found.broken)[:, 0]
            if not len(rows):
                break
            own = region.rows(rows)
            start = x[rows].double() if trial == 0 else own.sample(1, generator)[:, 0]
            hold = _HOLD ** (trial + 1)
            search = _Search(stages[: number + 1], given[number][rows], y[rows], own, hold)
            for step, point in enumerate(search.walk(start, steps), 1):
                if step % max(1, steps // _LOOKS) == 0 or step == steps:
                    there = classes_of(stages[number], point) == given[number][rows]
                    found.offer(rows[there], own.rows(there).project(point[there]))
    return CascadeAttacks(found.point, found.label, found.broken, found.silenced)


class _Found:
    """The worst of what the rule answered so far."""

    def __init__(self, cascade: Cascade, x: Tensor, y: Tensor) -> None:
        self.cascade, self.y = cascade, y
        self.point = x.double().clone()
        self.label = y.clone()
        self.broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.silenced = self.broken.clone()

    def offer(self, rows: Tensor, points: Tensor) -> None:
        """Members of the balls of some of the inputs; those that are broken stay as they are."""
        answer = self.cascade.predict(points).label
        wrong = (answer != ABSTAINS) & (answer != self.y[rows])
        silent = (answer == ABSTAINS) & ~self.silenced[rows]
        new = (wrong | silent) & ~self.broken[rows]
        self.point[rows[new]] = points[new]
        self.label[rows[new]] = answer[new]
        self.silenced[rows] |= answer == ABSTAINS
        self.broken[rows] |= wrong


class _Search:
    """Conditional gradients towards where the last of some stages certifies a class.

    Args:
        stages: The stages up to the one that shall answer.
        target: The class that it shall give, (B,).
        y: The class that the earlier ones shall not certify, (B,).
        region: Where points may lie.
        hold: The weight of that, beside what the last stage is to certify.
    """

    def __init__(
        self,
        stages: list[Certifiable],
        target: Tensor,
        y: Tensor,
        region: Region,
        hold: float,
    ) -> None:
        self.stages, self.target, self.y, self.region = stages, target, y, region
        self.hold = hold

    def walk(self, start: Tensor, steps: int) -> list[Tensor]:
        """The points after each step, (B, *input_shape)."""
        point, points = start, []
        center = self.region.center.reshape(start.shape)
        for step in range(steps):
            slope = self._slope(point)
            offset = self.region.descent(-slope.flatten(1)[:, None])[:, 0].reshape(start.shape)
            point = point + (2.0 / (step + 3.0)) * (center + offset - point)
            points.append(point)
        return points

    def _slope(self, point: Tensor) -> Tensor:
        """The gradient of what is to be raised."""
        with torch.enable_grad():
            leaf = point.detach().requires_grad_()
            *earlier, last = self.stages
            value = _margin(last, leaf, self.target)
            for stage in earlier:
                value = value - self.hold * _margin(stage, leaf, self.y).clamp_min(0.0)
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        return slope


def _margin(network: Certifiable, x: Tensor, y: Tensor) -> Tensor:
    """z_y less the largest other logit (B,), in float64."""
    logits = network.logits(x.to(network.device, network.dtype)).flatten(1).to(x)
    own = logits.gather(1, y[:, None])[:, 0]
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(1)
