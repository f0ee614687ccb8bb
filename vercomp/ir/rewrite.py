"""Small steps that rewriting passes share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import networkx as nx

from vercomp.ir.graph import Activate, Affine, Graph, Node, Opaque
from vercomp.ir.linear_maps import Composition, LinearMap, Reshape
from vercomp.ir.selections import Pad


def is_identity(node: Node) -> bool:
    """Whether a node is an affine one that gives what it reads."""
    if not isinstance(node, Affine) or len(node.terms) != 1 or node.offsets:
        return False
    linear = node.terms[0].map
    return isinstance(linear, Reshape) and linear.source == linear.target


def rewired(node: Node, names: Mapping[str, str]) -> Node:
    """The node with its parents called otherwise; the same object where none is."""
    if not any(parent in names for parent in node.parents):
        return node
    if isinstance(node, Affine):
        terms = (replace(term, parent=names.get(term.parent, term.parent)) for term in node.terms)
        return replace(node, terms=tuple(terms))
    if isinstance(node, Activate):
        return replace(node, parent=names.get(node.parent, node.parent))
    if isinstance(node, Opaque):
        return replace(node, parents=tuple(names.get(parent, parent) for parent in node.parents))
    return node


def pruned(nodes: Iterable[Node], output: str) -> Graph:
    """The graph of the nodes on which the output depends, and the input."""
    graph = Graph(tuple(nodes), output)
    living = {graph.nodes[0].name, output} | nx.ancestors(graph.network(), output)
    return Graph(tuple(node for node in graph.nodes if node.name in living), output)


def concatenated_axis(node: Affine) -> int | None:
    """The axis along which a node puts its terms side by side, in order and without a gap.

    Each term then ends in a :class:`~vercomp.ir.selections.Pad` with zeros along that axis alone,
    and no entry of the node depends on two of them.
    """
    last = [_last(term.map) for term in node.terms]
    pads = [part.pads for part in last if isinstance(part, Pad) and part.mode == "zeros"]
    if len(pads) < 2 or len(pads) < len(last):
        return None
    padded = {axis for row in pads for axis, pair in enumerate(row) if pair != (0, 0)}
    if len(padded) != 1:
        return None
    (axis,) = padded
    start = 0
    for row, part in zip(pads, last, strict=True):
        if row[axis][0] != start:
            return None
        start += part.in_shape[axis]
    return axis if start == node.shape[axis] else None


def _last(linear: LinearMap) -> LinearMap:
    return linear.maps[-1] if isinstance(linear, Composition) else linear
