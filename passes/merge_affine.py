"""Merge affine chains: A₂(A₁x + b₁) + b₂ = (A₂A₁)x + (A₂b₁ + b₂), as symbols.

Bounds are products of norms, and the norm of a product is at most the product of the norms: an
affine node that reads an affine node only loosens them. Nothing is multiplied out here; the
merged map is a composition over the source's own parameters, so gradients still reach them. An
inner node that several nodes read is merged into each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from vercomp.ir.graph import Activate, Affine, Graph, Node, Offset, Opaque, Term
from vercomp.ir.linear_maps import Composition, Dense, LinearMap, Reshape, compose
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
        if isinstance(node, Affine):
            node = _absorb(node, merged, alias)
            if _is_identity(node) and node.name != graph.output:
                alias[node.name] = node.terms[0].parent
        elif isinstance(node, Activate):
            node = replace(node, parent=alias.get(node.parent, node.parent))
        elif isinstance(node, Opaque):
            node = replace(node, parents=tuple(alias.get(p, p) for p in node.parents))
        merged[node.name] = node
    output = graph.output
    last = merged[output]
    if isinstance(last, Affine) and _is_identity(last) and last.parents[0] != graph.input.name:
        output = last.parents[0]
    result = _renamed(_living(merged, output), output, graph)
    return graph if result.nodes == graph.nodes and result.output == graph.output else result


def _absorb(node: Affine, merged: dict[str, Node], alias: dict[str, str]) -> Affine:
    """The node with the affine nodes that it reads multiplied into its maps."""
    terms: list[Term] = []
    offsets: list[Offset] = []
    for term in node.terms:
        inner = merged[alias.get(term.parent, term.parent)]
        if not isinstance(inner, Affine):
            terms.append(replace(term, parent=inner.name))
            continue
        terms += [Term(compose(term.map, part.map), part.parent) for part in inner.terms]
        offsets += [replace(o, map=compose(term.map, o.map)) for o in inner.offsets]
    if tuple(terms) == node.terms and not offsets:
        return node
    return replace(node, terms=tuple(terms), offsets=(*offsets, *node.offsets))


def _is_identity(node: Affine) -> bool:
    linear = node.terms[0].map
    return (
        len(node.terms) == 1
        and not node.offsets
        and isinstance(linear, Reshape)
        and linear.source == linear.target
    )


def _living(nodes: dict[str, Node], output: str) -> list[Node]:
    """The nodes on which the output depends, and the input."""
    living = {output}
    for node in reversed(nodes.values()):
        if node.name in living:
            living.update(node.parents)
    first = next(iter(nodes))
    return [node for name, node in nodes.items() if name in living or name == first]


def _renamed(nodes: list[Node], output: str, source: Graph) -> Graph:
    """The graph with merged nodes named after their outermost dense layer.

    ``fc1`` followed by a frozen batch norm is still ``fc1`` to its reader.
    """
    names: dict[str, str] = {}
    taken = {node.name for node in nodes}
    for node in nodes:
        if isinstance(node, Affine):
            layer = _layer(source, node.name)
            if layer is not None and layer not in taken:
                names[node.name] = layer
                taken.add(layer)
    result: list[Node] = []
    for node in nodes:
        name = names.get(node.name, node.name)
        if isinstance(node, Affine):
            terms = tuple(replace(t, parent=names.get(t.parent, t.parent)) for t in node.terms)
            changed = name != node.name or terms != node.terms
            result.append(replace(node, name=name, terms=terms) if changed else node)
        elif isinstance(node, Activate):
            result.append(replace(node, parent=names.get(node.parent, node.parent)))
        elif isinstance(node, Opaque):
            parents = tuple(names.get(p, p) for p in node.parents)
            result.append(replace(node, parents=parents))
        else:
            result.append(node)
    return Graph(tuple(result), names.get(output, output))


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
