"""How far certificates and bounds are from what is seen: what a result is worth, and what to do.

A radius is a lower bound of the distance at which a claim fails, and any point at which it fails is
an upper bound. Where the two are far apart, either the network is robust and the bounds do not see
it, or the search did not find the nearest point: that ratio is reported, never a promise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vercomp.core.methods.portfolio import usual_methods
from vercomp.core.regions.ball_kind import BallKind, ball_kind
from vercomp.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vercomp.compiled import CompiledNetwork
    from vercomp.core.claims.claim import Claim
    from vercomp.core.specifications import Specification

VACUOUS = 10.0
"""Bounds that are so many times what is seen deserve a word."""

LOOKED_AT = 32
"""Inputs that are looked at."""

_ENTRIES = 2**24
"""Of coefficients so many are held at once."""

_STEPS, _BISECTIONS, _BEYOND = 8, 30, 1.05


def seen_distances(
    network: CompiledNetwork,
    x: Tensor,
    claim: Claim,
    norm: str = "l2",
    scales: Tensor | None = None,
    box: tuple[float, float] | None = None,
) -> Tensor:
    """Distances at which the claim is seen to fail, upper bounds of the true ones, (B,) float64.

    Infinite where no such point was found, zero where the claim fails at the input. The arguments
    are those of :func:`seen_failures`.
    """
    return seen_failures(network, x, claim, norm, scales, box)[1]


def seen_failures(
    network: CompiledNetwork,
    x: Tensor,
    claim: Claim,
    norm: str = "l2",
    scales: Tensor | None = None,
    box: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Points near the inputs at which the claim is seen to fail, and how far away they are.

    "Seen" is what the network says in its own arithmetic: nothing is proved at these points. A few
    steps to the zero of the linearised claim, then a bisection on the way back to the input.

    Args:
        network: The network.
        x: Inputs (B, *input_shape).
        claim: What shall stay true of them.
        norm: The norm that distances are in.
        scales: As for :func:`vercomp.core.methods.portfolio.certify`.
        box: The limits of perturbed inputs.

    Returns:
        Points (B, *input_shape), NaN where none was found, the input itself where the claim fails
        there; and their distances (B,) float64, infinite where no point was found.
    """
    net = network.network
    kind = ball_kind(norm)

    def outputs(points: Tensor) -> Tensor:
        z: Tensor = net(points.to(net.device, net.dtype))
        return z.flatten(1).to(points)

    with torch.no_grad():
        z = outputs(x)
    rows = claim.about(len(x), z.shape[1], lambda: (z.double(), z.double())).specification()
    weights = torch.ones_like(x[:1]) if scales is None else scales.to(x).expand_as(x[:1])

    def worth(points: Tensor) -> Tensor:
        return _worth(rows, outputs(points).double())

    point = x
    for _ in range(_STEPS):
        leaf = point.detach().requires_grad_()
        value = worth(leaf)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        slope = weights * gradient
        direction = _steepest(kind, slope.flatten(1)).reshape(x.shape)
        steepness = -(slope * direction).flatten(1).sum(1)
        length = (_BEYOND * value.clamp(min=0.0) / steepness).nan_to_num(0.0, 0.0, 0.0).to(x)
        point = point + length.reshape(-1, *(1,) * (x.ndim - 1)) * weights * direction
        point = point if box is None else point.clamp(*box)
    return _first_failure(worth, x.detach(), point.detach(), kind, weights)


def _first_failure(
    worth: Callable[[Tensor], Tensor], x: Tensor, point: Tensor, kind: BallKind, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The first failure found on the way to a point, and its distance; the input where it fails."""
    with torch.no_grad():
        held = worth(point) > 0.0
        low = torch.zeros(len(x), *(1,) * (x.ndim - 1), dtype=x.dtype, device=x.device)
        high = torch.ones_like(low)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            fails = (worth(x + middle * (point - x)) <= 0.0).reshape(low.shape)
            low, high = torch.where(fails, low, middle), torch.where(fails, middle, high)
        high = torch.where((worth(x) <= 0.0).reshape(low.shape), 0.0, high)
        # An input that fails is its own witness, wherever the steps led.
        held &= high.flatten() > 0.0
        found = x + high * (point - x)
        moved = (high * (point - x) / torch.where(weights == 0.0, 1.0, weights)).flatten(1)
        distance = torch.where(held, torch.inf, kind.norm(moved.double()))
    return torch.where(held.reshape(low.shape), torch.nan, found), distance


def _worth(rows: Specification, z: Tensor) -> Tensor:
    """A number for each input that is positive exactly where the specification holds."""
    values = rows.values(z)
    clauses = torch.full((len(z), rows.clauses), -torch.inf, dtype=values.dtype, device=z.device)
    clauses = clauses.scatter_reduce(1, rows.groups.expand_as(values), values, "amax")
    least: Tensor = clauses.kthvalue(rows.allowed + 1, dim=1).values
    return least


def _steepest(kind: BallKind, slope: Tensor) -> Tensor:
    """The steepest descent of length one in the 2-norm, or by signs, or along one feature."""
    if kind.name == "linf":
        return -slope.sign()
    if kind.name == "l1":
        largest = slope.abs().argmax(1, keepdim=True)
        return torch.zeros_like(slope).scatter(1, largest, -slope.gather(1, largest).sign())
    length: Tensor = torch.linalg.vector_norm(slope, dim=1, keepdim=True)
    return -slope / length.clamp_min(torch.finfo(slope.dtype).tiny)


def few(count: int, outputs: int) -> int:
    """How many inputs are looked at, for a network with so many outputs."""
    return max(1, min(count, LOOKED_AT, _ENTRIES // max(1, outputs * outputs)))


def ratio_of(seen: Tensor, radius: Tensor) -> float | None:
    """The median of seen over certified distances; None where nothing was seen."""
    known = seen.isfinite() & (seen > 0.0)
    if not bool(known.any()):
        return None
    return float((seen[known] / radius[known].clamp_min(1e-300)).median())


def blame(network: CompiledNetwork) -> str:
    """Which layer has most of the curvature bound, as a sentence; empty where there is none."""
    try:
        layers = [row for row in network.analysis().layers if row.following is not None]
    except UnsupportedError:
        return ""
    if not layers:
        return ""
    most = max(layers, key=lambda row: row.share)
    norm = f", with a norm of {most.norm:.3g}" if most.norm is not None else ""
    return f"{most.name!r} has {100 * most.share:.0f} % of the curvature bound{norm}"


def remedies(network: CompiledNetwork, methods: Sequence[str] | None) -> str:
    """What would make bounds tighter, as a sentence."""
    tried = usual_methods(network.network) if methods is None else methods
    others = [m.name for m in network.network.methods if m.name not in tried]
    advice = ["train with the curvature bound as a penalty (vercomp train, vercomp.regularizer)"]
    if not blame(network):
        advice = ["train a smooth network with a curvature penalty (vercomp train)"]
    if others:
        advice.insert(0, f"let {', '.join(others)} try as well (--methods)")
    return "; ".join(advice)


def certificate_notes(
    network: CompiledNetwork, ratio: float | None, methods: Sequence[str] | None
) -> list[str]:
    """What is to be said of radii that are far below the distances at which claims fail."""
    if ratio is None or not ratio >= VACUOUS:
        return []
    times = "more than a million" if ratio > 1e6 else f"{ratio:.3g}"
    found = [
        f"note: these radii say little: points that break the claim were found {times} times as "
        "far away (the median); the truth lies between the two"
    ]
    guilty = blame(network)
    if guilty:
        found.append(f"  where it is lost: {guilty}")
    return [*found, f"  what would help: {remedies(network, methods)}"]


def curvature_notes(network: CompiledNetwork, ratio: float | None) -> list[str]:
    """What is to be said of a curvature bound that is far above the curvature found."""
    if ratio is None or math.isnan(ratio) or not ratio >= VACUOUS:
        return []
    return [
        f"note: K says little: it is {ratio:.3g} times the curvature that was found (the mean)",
        f"  where it is lost: {blame(network)}",
        f"  what would help: {remedies(network, None)}",
    ]
