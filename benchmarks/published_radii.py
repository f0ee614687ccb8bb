"""The l2 certificates that "Second-Order Provable Defenses" has in its appendix, made sound.

**C.6**, curvature in one ball. The appendix takes a certificate for the radius of a ball, the
curvature in that ball for the next certificate, and so on; but a radius above the R whose κ was
used proves nothing, and need not increase. Here R is searched for the largest min(R, r(κ(R))). With
one hidden layer κ(R) is the paper's own; deeper, where the paper has none, it is vercomp's.

**G**, two layers of ReLU. Over a ball the margin is at least a quadratic function, whose minimum
over the ball the S-procedure gives,

    min ½ dᵀP d + q·d + r over ‖d‖ ≤ ρ  =  max over λ ≥ 0, P + λI ≽ 0 of
                                           r − ½ qᵀ(P + λI)⁻¹q − ½ λρ².

A ρ at which it is positive is proved, so that it raises the lower end of the bisection, and the two
linear lower bounds of ReLU stand where they are good (the appendix prints both the other way
round). These baselines are in float64 without a bound of its rounding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import vercomp
from vercomp.core.local.nested import NestedBalls
from vercomp.core.local.shells import ray_radius
from vercomp.core.specifications import Specification

ONE_BALL, S_PROCEDURE = "c6", "appendix-g"
PUBLISHED = (ONE_BALL, S_PROCEDURE)
_STEPS = 10
_MULTIPLIERS = 60


def takes(method: str, module: nn.Module) -> bool:
    """Whether a method of the paper can take a network."""
    layers = [type(layer) for layer in module.modules() if not list(layer.children())]
    rough = nn.ReLU in layers
    if method == ONE_BALL:
        return not rough and nn.Conv2d not in layers
    return rough and [kind for kind in layers if kind is not nn.Flatten] == [
        nn.Linear,
        nn.ReLU,
        nn.Linear,
    ]


def radii(method: str, compiled: vercomp.CompiledNetwork, x: Tensor, y: Tensor) -> Tensor:
    """Radii (N,) against all other classes."""
    margins = Specification.margins(y, compiled.network.classes).coefficients
    search = one_ball if method == ONE_BALL else s_procedure
    found = []
    with torch.no_grad(), compiled.network.held():
        for point, rows in zip(x.double(), margins, strict=True):
            found.append(search(compiled, point, rows))
    return torch.tensor(found, dtype=torch.float64)


def one_ball(compiled: vercomp.CompiledNetwork, x: Tensor, rows: Tensor) -> float:
    """C.6: the smallest over all rows of the largest min(R, r(κ(R)))."""
    graph = compiled.network.in_double()[1]
    balls = NestedBalls(graph, x.reshape(1, -1), tuple(x.shape))
    starts = []
    for row in rows:
        at = balls.expansion.linearize(row[None])
        value = float(at.value - at.value_error)
        slope = float(at.gradient.norm() * (1.0 + 1e-12) + at.gradient_error)
        starts.append((value / slope if slope > 0.0 else math.inf, value, slope, row))
    best = math.inf
    for reach, value, slope, row in sorted(starts, key=lambda start: start[0]):
        if value <= 0.0:
            return 0.0

        high = min(best, reach, 1e6)
        found = _in_one(balls, high, row, value, slope)
        if found < best:
            low = 0.0
            for _ in range(_STEPS):
                middle = 0.5 * (low + high)
                here = _in_one(balls, middle, row, value, slope)
                found = max(found, here)
                low, high = (middle, high) if here >= middle else (low, middle)
        best = min(best, found)
    return best


def _in_one(balls: NestedBalls, R: float, row: Tensor, value: float, slope: float) -> float:
    """min(R, r(κ(R)))."""
    balls.add([R])
    return ray_radius(balls.shells([R], row), value, slope)


def s_procedure(compiled: vercomp.CompiledNetwork, x: Tensor, rows: Tensor) -> float:
    """Appendix G: the smallest over all rows of the largest ρ at which its bound is positive."""
    layers = _layers(compiled)
    best = math.inf
    z = _outputs(layers, x)
    for row in rows[(rows @ z).argsort()]:
        if float(row @ z) <= 0.0:
            return 0.0
        high = best if math.isfinite(best) else 1.0
        if math.isfinite(best) and quadratic_bound(layers, x, row, best) > 0.0:
            continue
        while math.isinf(best) and high < 1e6 and quadratic_bound(layers, x, row, high) > 0.0:
            high *= 2.0
        low = 0.0
        for _ in range(_STEPS):
            middle = 0.5 * (low + high)
            positive = quadratic_bound(layers, x, row, middle) > 0.0
            low, high = (middle, high) if positive else (low, middle)
        best = min(best, low)
    return best


def _layers(compiled: vercomp.CompiledNetwork) -> list[tuple[Tensor, Tensor]]:
    """W and b of both layers."""
    nodes = [node for node in compiled.network.in_double()[1].nodes if hasattr(node, "terms")]
    found = []
    for node in nodes:
        W = node.terms[0].map.materialise()
        bias = node.bias.value[0] if node.bias is not None else torch.zeros(len(W)).to(W)
        found.append((W, bias))
    return found


def _outputs(layers: list[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    (W, b), (V, c) = layers
    return V @ (W @ x.flatten() + b).relu() + c


def quadratic_bound(
    layers: list[tuple[Tensor, Tensor]], x: Tensor, row: Tensor, rho: float
) -> float:
    """A lower bound of a row of the outputs over the ball of radius ρ."""
    (W, b), (V, offset) = layers
    c = row @ V
    z = W @ x.flatten() + b
    half = rho * W.norm(dim=1)
    bends, slopes, constants = relu_bounds(c, z - half, z + half)
    P = W.T @ ((2.0 * c * bends)[:, None] * W)
    q = W.T @ (c * (2.0 * bends * z + slopes))
    r = float((c * (bends * z * z + slopes * z + constants)).sum() + row @ offset)
    return least_in_ball(P, q, r, rho)


def relu_bounds(c: Tensor, d: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """α, β, γ with relu(z) ≥ α z² + β z + γ on [d, u] where c > 0, and ≤ elsewhere."""
    width = (u - d).clamp_min(1e-300)
    # Lower bounds: 0, z, or the parabola through 0 and both ends.
    low = [1.0 / width, -d / width, torch.zeros_like(d)]
    zero, line = d.abs() >= 2.0 * u.abs(), u.abs() >= 2.0 * d.abs()
    for part, value in enumerate((0.0, 1.0, 0.0)):
        low[part] = torch.where(zero, 0.0, torch.where(line, value, low[part]))
    left = d.abs() <= u.abs()
    square = width * width
    high = [
        torch.where(left, -d, u) / square,
        torch.where(left, u * u + d * d, -2.0 * u * d) / square,
        torch.where(left, -u * u * d, u * d * d) / square,
    ]
    found = [torch.where(c > 0.0, low[part], high[part]) for part in range(3)]
    for part, value in enumerate((0.0, 1.0, 0.0)):  # of a neuron that is on, or off
        found[part] = torch.where(d >= 0.0, value, torch.where(u <= 0.0, 0.0, found[part]))
    return found[0], found[1], found[2]


def least_in_ball(P: Tensor, q: Tensor, r: float, rho: float) -> float:
    """A lower bound of min ½ dᵀP d + q·d + r over ‖d‖ ≤ ρ: every λ gives one, the best is taken."""
    values, vectors = torch.linalg.eigh(P)
    squared = (vectors.T @ q).square()
    floor = max(0.0, -float(values[0]))
    floor += 1e-9 * (1.0 + floor)
    span = float(q.norm()) / max(rho, 1e-300) + floor + 1e-9

    def dual(share: float) -> float:
        multiplier = floor + span * share
        inner = (squared / (values + multiplier)).sum()
        return r - 0.5 * float(inner) - 0.5 * multiplier * rho * rho

    low, high = 0.0, 1.0  # concave in λ: golden sections
    ratio = (math.sqrt(5.0) - 1.0) / 2.0
    best = max(dual(low), dual(high))
    for _ in range(_MULTIPLIERS):
        one, other = high - ratio * (high - low), low + ratio * (high - low)
        first, second = dual(one), dual(other)
        best = max(best, first, second)
        low, high = (low, other) if first >= second else (one, high)
    return best
