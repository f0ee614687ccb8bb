"""Attacks for training, in l2 balls and in any region: the points that a network is trained at.

In l2 balls no pixel is clipped to [0, 1]: certificates speak of every perturbation in the ball, so
attacks use every one. An attack sees the network as it is, training mode and all, takes
derivatives with respect to the inputs only, and returns points without a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vercomp.core.regions.moves import Moves
from vercomp.core.regions.region import Region
from vercomp.errors import UsageError
from vercomp.train.balls import (
    directions,
    lengths,
    project,
    random_directions,
    random_perturbations,
    slack,
)
from vercomp.train.recipe import TARGETS
from vercomp.train.targets import largest_competitor, margin, tangents

Logits = Callable[[Tensor], Tensor]

_LONGEST = 1e3
"""A step is at most so many radii long: enough to forget where it began, and exact in float32."""

_ASCENT = 2.5
"""Steps of gradient ascent cover 2.5 ρ together (Madry et al.), so the sphere is in reach."""


@dataclass(frozen=True)
class Attacked:
    """Where :func:`curvature_attack` ended.

    Args:
        point: Perturbed inputs (B, *shape), within the ball up to rounding, without a graph.
        target: The class whose logit was raised last, (B,).
    """

    point: Tensor
    target: Tensor


def curvature_attack(
    logits: Logits,
    x: Tensor,
    y: Tensor,
    radius: float,
    curvature: Tensor,
    *,
    steps: int,
    target: str = "largest",
    start: Tensor | None = None,
    stride: float | None = None,
) -> Attacked:
    r"""Theorem 2's attack problem, min f = z_y − z_t over the ball, by projected majorisation.

    With ∇²f ≼ M·I, f(x + s) ≤ f(x) + ∇f·s + ½M‖s‖². Over the ball ‖x + s − x₀‖ ≤ ρ the right side
    is least at the projection of x − ∇f/M, so that each step decreases f, and a fixed point is a
    stationary point of the problem: either ∇f = 0, or it lies on the sphere with
    x − x₀ = −ρ ∇f/‖∇f‖. Theorem 2's multiplier is there η = ‖∇f‖/ρ: where η ≥ κ, ∇²f ≽ −κ·I, the
    Lagrangian f + ½η(‖x − x₀‖² − ρ²) is convex and the fixed point is the worst point of the ball
    (primal = dual). Near it a step leaves (M + κ)/(M + η) of the error: I − ∇²f/M stretches by at
    most 1 + κ/M, and the projection draws together by ρ/(ρ + ‖∇f‖/M). Networks of small curvature
    need very few steps.

    Early in training M is so large that steps would be nothing: no step is shorter than ``stride``.

    Args:
        logits: The network, (B, *shape) to (B, C).
        x: Inputs x₀ (B, *shape), float32 or float64.
        y: Labels (B,).
        radius: ρ.
        curvature: κ (C, C) with ∇²(z_y − z_t) ≽ −κ[y, t]·I; so M = κ[t, y].
        steps: Gradient evaluations.
        target: ``"largest"``: at every step the class t ≠ y of the largest logit; ``"runner-up"``:
            that class at x₀, kept; ``"certificate"``: where the attack begins, the class whose
            tangent falls lowest on the ball, kept (:func:`.targets.tangents`).
        start: Perturbations to begin at, shaped like x; 0 by default.
        stride: The shortest step, by default 2ρ/steps; 0: majorisation alone, which is monotone for
            a target that is kept.

    Raises:
        UsageError: Another word for ``target``.
    """
    shortest = 2.0 * radius / max(steps, 1) if stride is None else stride
    return _majorised(logits, x, y, radius, curvature, steps, target, start, shortest=shortest)


def dual_attack(
    logits: Logits,
    x: Tensor,
    y: Tensor,
    radius: float,
    curvature: Tensor,
    *,
    steps: int,
    target: str = "largest",
    start: Tensor | None = None,
) -> Attacked:
    """The points of least certified margin, where Theorem 2's dual value is attained.

    With ∇²f ≽ −κ·I, L = f − ½κ(ρ² − ‖x − x₀‖²) ≤ f on the ball is convex, of curvature κ + M at
    most, so that projected steps of length 1/(κ + M) decrease it and lead to its minimum
    (:mod:`vercomp.train.methods.dual`).

    Args:
        logits: The network, (B, *shape) to (B, C).
        x: Inputs x₀ (B, *shape), float32 or float64.
        y: Labels (B,).
        radius: ρ.
        curvature: κ (C, C), as for :func:`curvature_attack`.
        steps: Gradient evaluations.
        target: Likewise; ``"largest"`` is at every step the class of the least certified margin.
        start: Perturbations to begin at, shaped like x; 0 by default.

    Raises:
        UsageError: Another word for ``target``.
    """
    return _majorised(logits, x, y, radius, curvature, steps, target, start, dual=True)


def _majorised(
    logits: Logits,
    x: Tensor,
    y: Tensor,
    radius: float,
    curvature: Tensor,
    steps: int,
    target: str,
    start: Tensor | None,
    *,
    dual: bool = False,
    shortest: float = 0.0,
) -> Attacked:
    """Projected gradient steps of length 1/curvature from above, on f or on its dual."""
    if target not in TARGETS:
        raise UsageError(f"no attack target {target!r}", remedy=f"Known: {', '.join(TARGETS)}")
    curvature = curvature.detach().to(x)
    below = curvature if dual else torch.zeros_like(curvature)
    shift = torch.zeros_like(x) if start is None else project(start.to(x), radius)
    kept = _largest(logits, x, y) if target == "runner-up" else None
    aimed = kept
    for step in range(steps if radius > 0.0 else 0):
        if step == 0 and target == "certificate":
            kept, gradient = tangents(logits, x, y, radius, shift).nearest()
            aimed = kept
        else:
            raised = below[y] * slack(shift, radius)[:, None] if dual else 0.0
            aimed, gradient = _steepest(logits, x + shift, y, kept, raised)
        shape = lengths(shift).shape
        gradient = gradient + below[y, aimed].reshape(shape) * shift
        steepness = lengths(gradient)
        bound = (curvature[aimed, y] + below[y, aimed]).reshape(shape).clamp_min(1e-30)
        length = (steepness / bound).clamp(max=_LONGEST * radius).clamp_min(shortest)
        shift = project(shift - length * directions(gradient), radius)
    point = x.detach() + shift
    return Attacked(point, _largest(logits, point, y) if aimed is None else aimed)


def projected_gradient(
    logits: Logits,
    x: Tensor,
    y: Tensor,
    radius: float,
    *,
    steps: int,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """PGD on the cross entropy (Madry et al., 2018) in the 2-norm: steps of 2.5 ρ/steps.

    Args:
        logits: The network, (B, *shape) to (B, C).
        x: Inputs (B, *shape).
        y: Labels (B,).
        radius: ρ.
        steps: Gradient evaluations.
        start: Perturbations to begin at; by default random ones, uniform in the ball.
        generator: Of those.

    Returns:
        Perturbed inputs (B, *shape), within the ball up to rounding, without a graph.
    """

    def loss(point: Tensor) -> Tensor:
        return F.cross_entropy(logits(point), y, reduction="sum")

    if start is None:
        start = random_perturbations(x, radius, generator)
    return _ascend(loss, x, start, radius, steps)


def region_attack(
    logits: Logits,
    x: Tensor,
    y: Tensor,
    region: Region,
    *,
    steps: int,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """PGD on the cross entropy over any region: steps of 2.5/steps of its size, steepest in it.

    Args:
        logits: The network, (B, *shape) to (B, C).
        x: The centers (B, *shape).
        y: Labels (B,).
        region: Of the points.
        steps: Gradient evaluations.
        start: Perturbations to begin at (B, *shape); by default random ones.
        generator: Of those.

    Returns:
        Perturbed inputs (B, *shape), in the region up to rounding, without a graph.
    """
    moves, size = Moves(region, x.dtype), x[0].numel()
    if start is None:
        shift = moves.spread(region.kind.draw(len(x), size, generator).to(x))
    else:
        shift = moves.project(start.to(x).flatten(1))
    for _ in range(steps):
        with torch.enable_grad():
            point = (x + shift.reshape(x.shape)).detach().requires_grad_()
            loss = F.cross_entropy(logits(point), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, point)
        uphill = moves.steepest(-gradient.flatten(1), shift)
        shift = moves.project(shift + _ASCENT / steps * uphill)
    return x.detach() + shift.reshape(x.shape)


def divergence_attack(
    logits: Logits,
    x: Tensor,
    radius: float,
    *,
    steps: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """TRADES (Zhang et al., 2019): points of large KL(p(x) ‖ p(x')), p the softmax of the logits.

    At x itself the divergence has no gradient: the start is a perturbation of length ρ/1000.

    Args:
        logits: The network, (B, *shape) to (B, C).
        x: Inputs (B, *shape).
        radius: ρ.
        steps: Gradient evaluations.
        generator: Of the start.

    Returns:
        Perturbed inputs (B, *shape), as of :func:`projected_gradient`.
    """
    with torch.no_grad():
        clean = logits(x).log_softmax(1)

    def divergence(point: Tensor) -> Tensor:
        attacked = logits(point).log_softmax(1)
        return F.kl_div(attacked, clean, reduction="sum", log_target=True)

    return _ascend(divergence, x, 1e-3 * radius * random_directions(x, generator), radius, steps)


def _ascend(
    objective: Callable[[Tensor], Tensor], x: Tensor, start: Tensor, radius: float, steps: int
) -> Tensor:
    """Projected normalised gradient ascent of a sum over the batch."""
    shift = project(start.to(x), radius)
    for _ in range(steps if radius > 0.0 else 0):
        with torch.enable_grad():
            point = (x + shift).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(objective(point), point)
        shift = project(shift + _ASCENT * radius / steps * directions(gradient), radius)
    return x.detach() + shift


def _steepest(
    logits: Logits, point: Tensor, y: Tensor, kept: Tensor | None, raised: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Targets, those kept or else the largest logits once raised, and ∇(z_y − z_t) at a point."""
    with torch.enable_grad():
        point = point.detach().requires_grad_()
        z = logits(point)
        target = largest_competitor(z + raised, y) if kept is None else kept
        (gradient,) = torch.autograd.grad(margin(z, y, target).sum(), point)
    return target, gradient


def _largest(logits: Logits, point: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return largest_competitor(logits(point), y)
