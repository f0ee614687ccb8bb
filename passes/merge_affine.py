"""Merge affine chains: A₂(A₁x + b₁) + b₂ = (A₂A₁)x + (A₂b₁ + b₂), as symbols.

Bounds are products of norms, and the norm of a product is at most the product of the norms: an
affine node that reads an affine node only loosens them. Nothing is multiplied out here; the
merged map is a composition over the source's own parameters, so gradients still reach them. An
inner node that several nodes read is merged into each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from vercomp.ir.graph import Affine, Graph, Node, Offset, Term
from vercomp.ir.linear_maps import Composition, Dense, LinearMap, compose
from vercomp.ir.rewrite import is_identity, pruned, rewired
from vercomp.pass_manager import Property, State


def _violation(state: State) -> str | None:
    affine = {node.name for node in state.graph.affine()}
    for node in state.graph.affine():
        for parent in node.parents:
            if parent in affine:
                return f"the affine node {node.name!r} reads the affine node {parent!r}"
    return None


AFFINE_CHAINS_MERGED = Property("affine chains are merged", _violation)


@dataclass(frozen=True)
class MergeAffine:
    """Merge every affine node into the affine nodes that read it, and drop identities."""

    name: ClassVar[str] = "merge-affine"
    requires: ClassVar[tuple[Property, ...]] = ()
    establishes: ClassVar[tuple[Property, ...]] = (AFFINE_CHAINS_MERGED,)

    def run(self, state: State) -> State:
        """The state with no affine node that reads an affine node."""
        return state.with_graph(merge_affine(state.graph))


def merge_affine(graph: Graph) -> Graph:
    """The merged graph; the same object where there is nothing to merge."""
    merged: dict[str, Node] = {}
    alias: dict[str, str] = {}
    for node in graph.nodes:
        node = rewired(node, alias)
        if isinstance(node, Affine):
            node = _absorb(node, merged)
            if is_identity(node):
                alias[node.name] = node.parents[0]
        merged[node.name] = node
    output = alias.get(graph.output, graph.output)
    if output == graph.input.name:  # logits are an affine node, even where they are the input
        output = graph.output
    result = _renamed(pruned(merged.values(), output), graph)
    return graph if result.nodes == graph.nodes and result.output == graph.output else result


def _absorb(node: Affine, merged: dict[str, Node]) -> Affine:
    """The node with the affine nodes that it reads multiplied into its maps."""
    terms: list[Term] = []
    offsets: list[Offset] = []
    for term in node.terms:
        inner = merged[term.parent]
        if not isinstance(inner, Affine):
            terms.append(term)
            continue
        terms += [Term(compose(term.map, part.map), part.parent) for part in inner.terms]
        offsets += [replace(o, map=compose(term.map, o.map)) for o in inner.offsets]
    if tuple(terms) == node.terms and not offsets:
        return node
    return replace(node, terms=tuple(terms), offsets=(*offsets, *node.offsets))


def _renamed(merged: Graph, source: Graph) -> Graph:
    """The graph with merged nodes named after their outermost dense layer.

    ``fc1`` followed by a frozen batch norm is still ``fc1`` to its reader.
    """
    names: dict[str, str] = {}
    taken = {node.name for node in merged.nodes}
    for node in merged.affine():
        layer = _layer(source, node.name)
        if layer is not None and layer not in taken:
            names[node.name] = layer
            taken.add(layer)
    if not names:
        return merged
    nodes = []
    for old in merged.nodes:
        new = rewired(old, names)
        nodes.append(replace(new, name=names[new.name]) if new.name in names else new)
    return Graph(tuple(nodes), names.get(merged.output, merged.output))


def _layer(graph: Graph, name: str) -> str | None:
    """The nearest node upstream, through affine nodes of one term, that holds a dense map."""
    node = graph.node(name)
    while isinstance(node, Affine):
        if any(_holds_dense(term.map) for term in node.terms):
            return node.name
        if len(node.terms) != 1:
            dense = {layer for term in node.terms if (layer := _layer(graph, term.parent))}
            return dense.pop() if len(dense) == 1 else None
        node = graph.node(node.parents[0])
    return None


def _holds_dense(linear: LinearMap) -> bool:
    if isinstance(linear, Composition):
        return any(_holds_dense(part) for part in linear.maps)
    return isinstance(linear, Dense)
