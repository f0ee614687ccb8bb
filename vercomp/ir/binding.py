"""From symbols to numbers: the graph over operators that a source-level graph is, once bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vercomp.core import graph as core
from vercomp.core.arithmetic.rounded import Rounded
from vercomp.core.domains import rounding
from vercomp.core.maps.monomials import Monomial
from vercomp.core.maps.operators import Operator
from vercomp.ir.activation import Activation
from vercomp.ir.graph import Activate, Affine, Graph, Input, Node, Offset
from vercomp.ir.linear_maps import Read
from vercomp.ir.rewrite import concatenated_axis

Names = Callable[[str], str]


def bind(
    graph: Graph,
    read: Read,
    *,
    names: Names = str,
    term_name: Callable[[Affine, int], str] | None = None,
    function: Callable[[Activation], Any] | None = None,
    biased: bool = True,
) -> core.Graph:
    """A graph with the values of its parameters; opaque nodes stay as they are.

    Args:
        graph: The source-level graph.
        read: How parameters are looked up.
        names: What nodes are called.
        term_name: What the k-th map of an affine node is called; by default after its node.
        function: What stands for an activation; by default itself, which has a value and no more.
        biased: Whether biases are computed; bounds of curvature need none.
    """

    def bound(node: Node) -> Any:
        name = names(node.name)
        if isinstance(node, Affine):
            terms = tuple(
                core.Term(
                    f"{name}.{k}" if term_name is None else term_name(node, k),
                    term.map.bind(read),
                    names(term.parent),
                )
                for k, term in enumerate(node.terms)
            )
            disjoint = concatenated_axis(node) is not None
            row = bias(node, read) if biased else None
            return core.Affine(name, node.shape, terms, row, disjoint)
        if isinstance(node, Activate):
            stand_in: Any = node.function if function is None else function(node.function)
            return core.Activate(name, node.shape, names(node.parent), stand_in)
        if isinstance(node, Input):
            return replace(node, name=name)
        return replace(node, name=name, parents=tuple(map(names, node.parents)))

    return core.Graph(tuple(bound(node) for node in graph.nodes), names(graph.output))


def bias(node: Affine, read: Read) -> Rounded | None:
    """Σ_j M_j p_j of an affine node as a row, with a bound of its rounding."""
    rows = [_row(offset, read) for offset in node.offsets]
    return rounding.total(rows) if len(rows) > 1 else next(iter(rows), None)


def _row(offset: Offset, read: Read) -> Rounded:
    vector = read(offset.vector).expand(offset.map.in_shape).reshape(-1)
    operator: Operator | None = offset.map.bind(read)
    if isinstance(operator, Monomial) and operator.is_identity:
        operator = None
    return rounding.offset(vector, operator, negate=offset.negate)
