"""Curvature and Lipschitz constants over regions, and what each layer adds to them.

The first two functions are what ``curvature`` and ``lipschitz`` of a compiled network say of
regions. The third sets, for given inputs, the curvature that is proved near them beside the global
bound, and shows which layers the difference to the curvature at the inputs themselves comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vercomp.core.errors import InputError
from vercomp.core.local import bounds
from vercomp.core.local.nested import NestedBalls
from vercomp.core.network import VerifiedNetwork
from vercomp.core.specifications import units
from vercomp.errors import UnsupportedError

if TYPE_CHECKING:
    from vercomp.compiled import CompiledNetwork
    from vercomp.core.graph import Graph
    from vercomp.core.regions.region import Region

LOOKED_AT = 4
"""Inputs that local curvature is proved around."""


def curvature_bounds(network: VerifiedNetwork, region: Region) -> Tensor:
    """K (B, C, C) with ∇²(z_y − z_t) ≽ −K[y, t] I in each of B regions; 0 on the diagonal.

    Raises:
        InputError: A region of another shape, or a network that local bounds cannot take.
    """
    graph, region = _graph(network), region.to(network.device)
    bounds.check(graph, region, smooth=True)
    rows, y, t = _margins(network)
    found = torch.zeros(len(region), network.classes, network.classes, dtype=torch.float64)
    with torch.no_grad(), network.held():
        found[:, y, t] = bounds.curvature(graph, region, rows)
    return found


def lipschitz_bounds(network: VerifiedNetwork, region: Region, rows: Tensor | None) -> Tensor:
    """Bounds of ‖∇(z_y − z_t)‖_* in each of B regions, (B, C, C), or of rows c (R, C), (B, R).

    Raises:
        InputError: A region or rows of another shape, or a network that local bounds cannot take.
    """
    graph, region = _graph(network), region.to(network.device)
    bounds.check(graph, region, smooth=False)
    with torch.no_grad(), network.held():
        if rows is not None:
            if rows.ndim != 2 or rows.shape[1] != network.scores:
                raise InputError(
                    f"rows must have the shape (R, {network.scores}), got {tuple(rows.shape)}"
                )
            return bounds.lipschitz(graph, region, rows.double().to(network.device))
        margins, y, t = _margins(network)
        half = y < t
        proved = bounds.lipschitz(graph, region, margins[half.to(margins.device)])
    found = torch.zeros(len(region), network.classes, network.classes, dtype=torch.float64)
    found[:, y[half], t[half]] = found[:, t[half], y[half]] = proved
    return found


def _graph(network: VerifiedNetwork) -> Graph:
    """The graph of a network of this version.

    Raises:
        UnsupportedError: The network comes with the runtime of another version.
    """
    if not isinstance(network, VerifiedNetwork):
        raise UnsupportedError(
            "another version of vercomp compiled this package, so that nothing local is proved",
            node=type(network).__name__,
            remedy="Compile its model again",
        )
    return network.in_double()[1]


def _margins(network: VerifiedNetwork) -> tuple[Tensor, Tensor, Tensor]:
    """The rows e_y − e_t of all pairs, and their y and t."""
    compared = units(network.scores, network.device)
    y, t = torch.nonzero(1.0 - torch.eye(network.classes), as_tuple=True)
    return compared[y.to(compared.device)] - compared[t.to(compared.device)], y, t


@dataclass(frozen=True)
class LayerLoss:
    """One activation's part of the local curvature, means over inputs.

    Args:
        name: The source's name of its layer.
        at_inputs: What its term of the Hessian has at the inputs themselves.
        added: What is added because slopes and coefficients move in the balls.
        share: Its share of everything that is added, in [0, 1].
    """

    name: str
    at_inputs: float
    added: float
    share: float


@dataclass(frozen=True)
class LocalAnalysis:
    """Local curvature beside the global one: means over inputs, of their nearest pairs.

    The pair is that of the prediction and of the class whose margin, linearised, vanishes nearest;
    the ball reaches that far.

    Args:
        inputs: How many inputs were looked at.
        radius: Of the balls.
        everywhere: The global bound κ.
        local: κ in the balls.
        at_inputs: What is left of the latter without what is added in the balls.
        layers: The activations, in order.
    """

    inputs: int
    radius: float
    everywhere: float
    local: float
    at_inputs: float
    layers: tuple[LayerLoss, ...]

    def json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}


def local_analysis(
    network: CompiledNetwork, x: Tensor, *, advance: Callable[[int], None] = lambda count: None
) -> LocalAnalysis | None:
    """Local curvature around inputs (N, *input_shape), and which layers cost it.

    None where a network is too large for local bounds or another version compiled it, or where no
    input has a finite radius.
    """
    own = network.network
    if not isinstance(own, VerifiedNetwork) or not bounds.fits(own.in_double()[1]):
        return None
    graph = own.in_double()[1]
    everywhere = network.bounds().curvature
    margins, first, second = _margins(own)
    names = {
        row.following.identifier: row.name for row in network.layers() if row.following is not None
    }
    numbers: list[tuple[float, float, float]] = []
    totals = {name: [0.0, 0.0] for name in names}
    for point in x.to(own.device).double():
        pair = _nearest_pair(own, point, margins, first, second)
        advance(1)
        if pair is None:
            continue
        number, radius = pair
        balls = NestedBalls(graph, point.reshape(1, -1), tuple(own.input_shape))
        balls.add([radius])
        with torch.no_grad():
            bound = balls.curvature(radius, margins[number]).bound
            shares = balls.shares(radius, margins[number])
        if not math.isfinite(bound):
            continue
        kappa = float(everywhere[first[number], second[number]])
        numbers.append((radius, kappa, bound))
        for name, (exact, added) in shares.items():
            totals[name][0] += exact
            totals[name][1] += added
    if not numbers:
        return None
    count = len(numbers)
    radius, kappa, bound = (sum(column) / count for column in zip(*numbers, strict=True))
    added = sum(part[1] for part in totals.values())
    layers = tuple(
        LayerLoss(names[name], exact / count, lost / count, lost / added if added > 0.0 else 0.0)
        for name, (exact, lost) in totals.items()
    )
    return LocalAnalysis(count, radius, kappa, bound, bound - added / count, layers)


def _nearest_pair(
    network: VerifiedNetwork, point: Tensor, margins: Tensor, first: Tensor, second: Tensor
) -> tuple[int, float] | None:
    """The number of the pair whose linearised margin vanishes nearest, and how far that is."""
    double = network.in_double()[0]
    leaf = point[None].clone().requires_grad_()
    with torch.enable_grad():
        z = double.logits(leaf).flatten(1)[0]
        values = margins @ z
        label = z.argmax() if len(z) > 1 else (z[0] > 0.0).long()
        best: tuple[int, float] | None = None
        for number in torch.nonzero(first == label.to(first.device))[:, 0].tolist():
            (gradient,) = torch.autograd.grad(values[number], leaf, retain_graph=True)
            distance = float(values[number].detach()) / max(float(gradient.norm()), 1e-300)
            if 0.0 < distance < 1e6 and (best is None or distance < best[1]):
                best = number, distance
    return best
