"""Small steps that rewriting passes share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import networkx as nx

from vercomp.ir.graph import Activate, Affine, Graph, Node, Opaque
from vercomp.ir.linear_maps import Reshape


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
