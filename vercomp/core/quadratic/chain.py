"""A network as a chain of matrices and activations, which is what quadratic bounds take.

    a_0 = x,    z_k = W_k a_{k−1} + b_k,    a_k = σ_k(z_k)    for k = 1, …, n,    outputs A a_n + b

Every matrix is written out in float64; ``error`` bounds what that, and the merging of maps before
it, did in the 2-norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..arithmetic.rounded import Rounded
from ..functions import Elementwise
from ..graph import Activate, Affine, Dag, Graph
from ..maps.operators import Dense, Operator
from ..norms.written import writing_error

LARGEST_LAYER = 4096
"""Layers up to this size have quadratic forms that are factorised as matrices."""


@dataclass(frozen=True, eq=False)
class Layer:
    """z = W a + b and a = σ(z).

    Args:
        matrix: Ŵ, (m, n) in float64.
        error: Bound of ‖W − Ŵ‖₂.
        bias: b as a row, with a bound of its rounding; None where it is zero.
        function: σ; the last layer of a chain, which has none, gives the outputs.
        name: The name of the activation's node, or of the output.
        before: The name of the node whose value is z.
    """

    matrix: Tensor
    error: float
    bias: Rounded | None
    function: Elementwise | None
    name: str
    before: str


def obstacle(graph: Dag[Any]) -> tuple[str, str] | None:
    """A node that keeps a graph from being a chain of matrices, and why; None where none does."""
    affine, previous = True, graph.nodes[0].name
    for node in graph.nodes[1:]:
        size = math.prod(node.shape)
        if node.parents != (previous,):
            return node.name, "quadratic bounds need a chain, and this node reads another path"
        if hasattr(node, "terms") != affine:
            return node.name, "quadratic bounds need affine maps and activations in turn"
        if size > LARGEST_LAYER:
            return node.name, f"quadratic bounds need layers of at most {LARGEST_LAYER:,} units"
        affine, previous = not affine, node.name
    if affine or len(graph.nodes) < 4:
        return previous, "quadratic bounds need an activation, and an affine map behind the last"
    return None


def chain(graph: Graph) -> tuple[Layer, ...]:
    """The layers of a graph that has no obstacles, the outputs last."""
    layers: list[Layer] = []
    pending: Affine | None = None
    for node in graph.nodes[1:]:
        if isinstance(node, Affine):
            assert pending is None  # noqa: S101 - obstacle has looked
            pending = node
        elif isinstance(node, Activate) and pending is not None:
            layers.append(_layer(pending, node.function, node.name))
            pending = None
    assert pending is not None  # noqa: S101 - obstacle has looked
    return (*layers, _layer(pending, None, pending.name))


def _layer(node: Affine, function: Elementwise | None, name: str) -> Layer:
    operator: Operator = node.terms[0].map
    error = operator.error if isinstance(operator, Dense) else writing_error(operator)
    return Layer(operator.materialise(), error, node.bias, function, name, node.name)
