"""Strictly increasing functions at the output: they change no comparison, and can be bounded."""

from __future__ import annotations

from typing import NamedTuple

import sympy
import torch

from vercomp.activations import constants, pieces
from vercomp.errors import UnboundedCurvatureError, UnsupportedError
from vercomp.ir.activation import Activation, X
from vercomp.ir.graph import Activate, Affine, Graph, Input, Node, Tail
from vercomp.ir.reference import result, stored_as
from vercomp.ir.rewrite import is_identity, pruned, rewired

_EXACT = 2.0**20
"""Sums and products of a few whole numbers below this are exact in float64."""


class Stripped(NamedTuple):
    """A head that was found.

    Args:
        below: The node below it.
        tail: The head, and what stands behind it already.
    """

    below: str
    tail: Tail


def increasing_head(graph: Graph) -> Stripped | None:
    """The strictly increasing function at the output of a graph with several outputs."""
    if graph.outputs < 2 or (graph.tail is not None and graph.tail.complement):
        return None
    node = graph.node(graph.output)
    while is_identity(node):
        node = graph.node(node.parents[0])
    behind = () if graph.tail is None else graph.tail.functions
    # What a deviation of torch's turns around is known where nothing stands in front of it.
    if any(function.deviation for function in behind):
        return None
    if isinstance(node, Activate) and node.shape == graph.node(graph.output).shape:
        if strictly_increasing(node.function):
            return Stripped(node.parent, Tail((node.function, *behind)))
        return None
    return _complement(graph) if not behind else None


def strictly_increasing(function: Activation) -> bool:
    """Whether σ is proved to be strictly increasing, and can be bounded.

    σ′ ≥ 0, and a formula without cases, which is analytic, make σ strictly increasing unless it is
    constant: it is constant on no interval. Where there are cases, σ′ must be bounded away from 0.
    Torch's values may deviate from the formula only as softplus does, beyond a threshold above
    which σ′ ≥ ½.
    """
    try:
        found = constants(function)
        pieces(function)
    except (UnboundedCurvatureError, UnsupportedError):
        return False
    if function.deviation and function.name != "softplus":
        return False
    cases = function.formula.has(sympy.Piecewise, sympy.Abs, sympy.Min, sympy.Max, sympy.Heaviside)
    least, most = found.first_range
    return least > 0.0 or (least >= 0.0 and most > 0.0 and not cases)


def _complement(graph: Graph) -> Stripped | None:
    """[1 − σ(z), σ(z)] with one z, a strictly increasing σ and σ(0) = ½."""
    output = graph.node(graph.output)
    if output.shape != (2,) or not isinstance(output, Affine):
        return None
    affine: set[str] = set()
    ends: dict[str, Activate] = {}
    pending: list[Node] = [output]
    while pending:
        node = pending.pop()
        if isinstance(node, Affine):
            affine.add(node.name)
            pending += [graph.node(parent) for parent in node.parents]
        elif isinstance(node, Activate):
            ends[node.name] = node
        else:
            return None
    if len({(end.parent, end.function) for end in ends.values()}) != 1:
        return None
    end = next(iter(ends.values()))
    if end.shape != (1,) or not strictly_increasing(end.function) or end.function.deviation:
        return None
    if end.function.formula.subs(X, 0) != sympy.Rational(1, 2):
        return None
    if _values(graph, affine, end, ends) != [[1.0, 0.0], [0.0, 1.0]]:
        return None
    return Stripped(end.parent, Tail((end.function,), complement=True))


def _values(
    graph: Graph, affine: set[str], end: Activate, ends: dict[str, Activate]
) -> list[list[float]] | None:
    """The outputs for σ(z) = 0 and σ(z) = 1, exactly; None where they cannot be had exactly."""
    point = Input(f"{end.name} as input", end.shape)
    names = dict.fromkeys(ends, point.name)
    nodes = [point, *(rewired(node, names) for node in graph.nodes if node.name in affine)]
    small = pruned(nodes, graph.output)
    for parameter in small.parameters():
        value = parameter.value.double()
        if parameter.trainable or bool(
            (value != value.round()).any() | (value.abs() > _EXACT).any()
        ):
            return None
    found = result(small, torch.tensor([[0.0], [1.0]]).double(), stored_as(torch.float64))
    values: list[list[float]] = found.tolist()
    return values
