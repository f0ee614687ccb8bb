"""The graph from which the forward pass is printed: as its source has it, one statement a layer.

Analyses walk a graph whose affine chains are merged. Merging multiplies out what branches share and
puts the biases of a node's branches into one list, which no longer says at which branch each of
them stood; a reader wants every layer once, with its own bias. So the forward pass is printed from
the graph before it is merged. Only a chain of maps without a branch is taken together here: there
the place of a bias follows from the maps that are still to come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from vercomp.ir.graph import Activate, Affine, Graph, Node, Term
from vercomp.ir.linear_maps import LinearMap, compose
from vercomp.ir.rewrite import pruned, without_identities
from vercomp.names import identifiers


def readable(graph: Graph, holds_layer: Callable[[LinearMap], bool]) -> Graph:
    """The graph with every chain of maps as one node, but no two layers in one.

    Args:
        graph: The graph.
        holds_layer: Whether a map is a layer, or has one in it.
    """
    graph = without_identities(graph)
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        inner = nodes[node.parents[0]] if node.parents else None
        if isinstance(node, Affine) and isinstance(inner, Affine) and _is_link(graph, inner, node):
            outer, before = node.terms[0].map, inner.terms[0]
            if not (holds_layer(outer) and holds_layer(before.map)):
                carried = (replace(o, map=compose(outer, o.map)) for o in inner.offsets)
                term = Term(compose(outer, before.map), before.parent)
                node = replace(node, terms=(term,), offsets=(*carried, *node.offsets))
        nodes[node.name] = node
    return pruned(nodes.values(), graph.output)


def _is_link(graph: Graph, inner: Affine, outer: Affine) -> bool:
    """Whether two affine nodes follow one another in a chain without a branch."""
    alone = len(graph.children(inner.name)) == 1 and inner.name != graph.output
    return alone and len(inner.terms) == len(outer.terms) == 1


def value_names(source: Graph, merged: Graph, names: Mapping[str, str]) -> dict[str, str]:
    """An identifier for every node of the source graph; where the merged graph has the value, its.

    What an activation reads, and the output, are the same values in both graphs.

    Args:
        source: The graph as it is printed.
        merged: The graph that analyses walk.
        names: The identifiers of the merged graph's nodes.
    """
    known = {node.name: node for node in merged.nodes}
    pairs = [(source.input.name, merged.input.name), (source.output, merged.output)]
    for node in source.activations():
        twin = known.get(node.name)
        if isinstance(twin, Activate):
            pairs += [(node.name, twin.name), (node.parent, twin.parent)]
    pairs += [(node.name, node.name) for node in source.nodes if node.name in known]
    found: dict[str, str] = {}
    for name, twin_name in pairs:
        if name not in found and names[twin_name] not in found.values():
            found[name] = names[twin_name]
    others = (node.name for node in source.nodes if node.name not in found)
    return {**found, **identifiers(others, "node", taken=names.values())}
