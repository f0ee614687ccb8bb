"""Which class an attack aims at: the largest competitor, or the one that is nearest."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vercomp.train.balls import dot, lengths

CANDIDATES = 4
"""So many competitors, those of the largest logits, have their tangents compared."""


def margin(z: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """z_y − z_t for logits (B, C), labels and targets (B,)."""
    return (z.gather(1, y[:, None]) - z.gather(1, target[:, None]))[:, 0]


def competitors(z: Tensor, y: Tensor) -> Tensor:
    """The logits without those of the labels, which are −∞, detached."""
    return z.detach().scatter(1, y[:, None], -torch.inf)


def largest_competitor(z: Tensor, y: Tensor) -> Tensor:
    """argmax over t ≠ y of z_t."""
    return competitors(z, y).argmax(1)


class Tangents(NamedTuple):
    """The margins z_y − z_t of K competitors, linearised at a point of a ball.

    Args:
        target: The competitors t, largest logit first, (B, K).
        gradient: ∇(z_y − z_t) (B, K, *shape).
        least: The least margin that the tangent has in the ball, (B, K).
    """

    target: Tensor
    gradient: Tensor
    least: Tensor

    def nearest(self) -> tuple[Tensor, Tensor]:
        """The target whose tangent falls lowest (B,), and its gradient (B, *shape)."""
        column = self.least.argmin(1)
        rows = torch.arange(len(column), device=column.device)
        return self.target[rows, column], self.gradient[rows, column]


def tangents(
    logits: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    radius: float,
    shift: Tensor,
    candidates: int = CANDIDATES,
) -> Tangents:
    """How low margins fall on the ball, as one gradient of each has it.

    The largest logit is not the nearest class: a margin may be small and flat, another one larger
    and steep. From f = z_y − z_t and g = ∇f at x₀ alone, the closed-form certificate says that no
    point of the ball has a margin below f − ρ‖g‖ − ½κρ². Targets are compared by that without its
    last term, which is a worst case that differs little between classes and that no network comes
    near: f − ρ‖g‖, positive where f/‖g‖ > ρ. Away from x₀, at x = x₀ + s, the same tangent bound
    reads f(x) − g·s − ρ‖g‖.

    Args:
        logits: The network, (B, *shape) to (B, C).
        x: Inputs x₀ (B, *shape).
        y: Labels (B,).
        radius: ρ.
        shift: s (B, *shape): where the attack begins.
        candidates: The competitors of largest logit that are compared, a backward pass each.
    """
    with torch.enable_grad():
        point = (x + shift).detach().requires_grad_()
        z = logits(point)
        table = competitors(z, y).topk(min(candidates, z.shape[1] - 1), 1).indices
        gradients, least = [], []
        for target in table.unbind(1):
            f = margin(z, y, target)
            (g,) = torch.autograd.grad(f.sum(), point, retain_graph=True)
            gradients.append(g)
            least.append(f.detach() - dot(g, shift) - radius * lengths(g).flatten())
    return Tangents(table, torch.stack(gradients, 1), torch.stack(least, 1))
