"""The curvature bounds of a graph, straight from the walk, and the Hessians that they bound."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vercomp.activations import constants
from vercomp.core import graph as core
from vercomp.core.arithmetic.operations import Arithmetic, Bound
from vercomp.core.arithmetic.recording import Recording, Step
from vercomp.core.arithmetic.rigorous import Rigorous
from vercomp.core.domains.curvature import curvature
from vercomp.ir.binding import bind
from vercomp.ir.graph import Graph
from vercomp.ir.reference import evaluate, stored_as

DOUBLE = stored_as(torch.float64)


def bounded(graph: Graph) -> core.Graph:
    """The graph as bounds see it: over float64 operators, with the constants of activations."""
    return bind(graph, DOUBLE, function=constants, biased=False)


def bound(graph: Graph, c: Tensor, arithmetic: Arithmetic | None = None) -> Bound:
    """The bound of a graph, rigorous unless said otherwise; maps are named ``node.term``."""
    return curvature(arithmetic or Rigorous(), bounded(graph), c)


def kappa(graph: Graph, c: Tensor) -> Tensor:
    """κ for rows c."""
    return bound(graph, c).curvature


def results(found: Bound) -> list[Any]:
    """Everything that a bound consists of."""
    return [found.curvature, found.lipschitz, *found.norms.values(), *found.shares.values()]


def recorded(graph: Graph) -> tuple[list[Step], Bound]:
    """The steps that some result of the curvature program needs, and the results."""
    recording: Any = Recording()
    found = curvature(recording, bounded(graph), torch.zeros(1, graph.outputs))
    return recording.needed(results(found)), found


def margins(classes: int) -> Tensor:
    """e_y − e_t for all pairs."""
    y, t = torch.nonzero(1 - torch.eye(classes), as_tuple=True)
    identity_matrix = torch.eye(classes, dtype=torch.float64)
    return identity_matrix[y] - identity_matrix[t]


def hessians(graph: Graph, c: Tensor, points: Tensor) -> Tensor:
    """∇²(c·z) at flat points, by automatic differentiation of the reference interpreter."""

    def margin(flat: Tensor) -> Tensor:
        x = flat.reshape(1, *graph.input.shape)
        return evaluate(graph, x, DOUBLE)[graph.output][0] @ c

    return torch.stack([torch.func.hessian(margin)(point) for point in points])


def derivatives(graph: Graph, points: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivatives of all logits at flat points: (P, C, n) and (P, C, n, n)."""

    def logits(flat: Tensor) -> Tensor:
        return evaluate(graph, flat.reshape(1, *graph.input.shape), DOUBLE)[graph.output][0]

    first = torch.func.vmap(torch.func.jacrev(logits))(points)
    return first, torch.func.vmap(torch.func.hessian(logits))(points)
