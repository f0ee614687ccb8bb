"""The curvature program of a graph, straight from the passes, and the Hessians that it bounds."""

from __future__ import annotations

import torch
from passes.curvature import Curvature
from torch import Tensor
from vercomp.program import ConstantOf, MapOf, Program
from vercomp.program import evaluate as run_program

from passes.activation_constants import ActivationConstantsPass
from vercomp.core.arithmetic.operations import Arithmetic, Bound
from vercomp.core.arithmetic.rigorous import Rigorous
from vercomp.core.maps.operators import Operator
from vercomp.facts import CONSTANTS, CURVATURE
from vercomp.ir.graph import Affine, Graph
from vercomp.ir.reference import evaluate, stored_as
from vercomp.pass_manager import State, run_passes

DOUBLE = stored_as(torch.float64)


def curvature_program(graph: Graph) -> Program:
    """What the curvature pass emits."""
    state = run_passes(State(graph), [ActivationConstantsPass(), Curvature()])
    return state.facts.of(CURVATURE)


def bound(graph: Graph, c: Tensor, arithmetic: Arithmetic | None = None) -> Bound:
    """The bound of a graph, rigorous unless said otherwise; maps are named ``node.term``."""
    facts = run_passes(State(graph), [ActivationConstantsPass(), Curvature()]).facts

    def operator(map_of: MapOf) -> Operator:
        node = graph.node(map_of.node)
        assert isinstance(node, Affine)
        return node.terms[map_of.term].map.bind(DOUBLE)

    def constant(which: ConstantOf) -> float | tuple[float, float]:
        found = facts.of(CONSTANTS, which.activation)
        ranges = {
            "first_range": (found.g_lower, found.g_upper),
            "second_range": (found.h_lower, found.h_upper),
        }
        return found.g if which.which == "g" else ranges[which.which]

    return run_program(
        facts.of(CURVATURE),
        arithmetic or Rigorous(),
        operator,
        constant,
        c,
        lambda map_of: f"{map_of.node}.{map_of.term}",
    )


def kappa(graph: Graph, c: Tensor) -> Tensor:
    """κ for rows c."""
    return bound(graph, c).curvature


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
