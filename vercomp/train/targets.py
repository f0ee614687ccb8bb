"""Which class an attack aims at: the largest competitor, or the one that is provably nearest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vercomp.errors import UsageError

CANDIDATES = 4
"""So many competitors, the largest, are asked for their certificates."""

WORDS = ("largest", "runner-up", "certificate")


def margin(z: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """z_y − z_t for logits (B, C), labels and targets (B,)."""
    return (z.gather(1, y[:, None]) - z.gather(1, target[:, None]))[:, 0]


def competitors(z: Tensor, y: Tensor) -> Tensor:
    """The logits without those of the labels, which are −∞, detached."""
    return z.detach().scatter(1, y[:, None], -torch.inf)


def largest_competitor(z: Tensor, y: Tensor) -> Tensor:
    """argmax over t ≠ y of z_t."""
    return competitors(z, y).argmax(1)


def attack_targets(
    logits: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, curvature: Tensor, word: str
) -> Tensor | None:
    """The targets of a whole attack; None for ``"largest"``, which is chosen anew at each step.

    Raises:
        UsageError: An unknown word.
    """
    if word == "largest":
        return None
    if word == "runner-up":
        with torch.no_grad():
            return largest_competitor(logits(x), y)
    if word == "certificate":
        return nearest_by_certificate(logits, x, y, curvature)
    raise UsageError(f"no attack target {word!r}", remedy=f"Known: {', '.join(WORDS)}")


def nearest_by_certificate(
    logits: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    curvature: Tensor,
    candidates: int = CANDIDATES,
) -> Tensor:
    """The class t with the smallest certificate from one gradient at the input, (B,).

    With f = z_y − z_t > 0, g = ∇f and ∇²f ≽ −κ·I, no boundary point is nearer than
    r = 2f/(‖g‖ + √(‖g‖² + 2κf)): on a ray f falls by at most ‖g‖s + ½κs² (Theorem 1 at x̂ = x₀). A
    large logit whose margin is flat may be far away, and a smaller one that is steep near. Inputs
    that are misclassified have no certificate: their target is the largest competitor.

    Args:
        logits: The network, (B, *shape) to (B, C).
        x: Inputs (B, *shape).
        y: Labels (B,).
        curvature: κ (C, C).
        candidates: Competitors that are looked at, the largest, a backward pass each.
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        z = logits(point)
        table = competitors(z, y).topk(min(candidates, z.shape[1] - 1), 1).indices
        radii = []
        for target in table.unbind(1):
            f = margin(z, y, target)
            (g,) = torch.autograd.grad(f.sum(), point, retain_graph=True)
            steepness, f = g.flatten(1).norm(dim=1), f.detach()
            root = (steepness**2 + 2.0 * (curvature[y, target] * f).clamp_min(0.0)).sqrt()
            radii.append(2.0 * f / (steepness + root).clamp_min(1e-30))
    nearest = torch.where(radii[0] > 0.0, torch.stack(radii, 1).argmin(1), 0)
    return table.gather(1, nearest[:, None])[:, 0]
