"""Flatten activations that stand between a reshape and its inverse.

A dense layer written as a convolution gives (m, 1, 1) to an activation, and the next one flattens
it again. An activation is elementwise, so the reshape commutes with it: it moves into the maps that
read the activation, where the two cancel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from passes.merge_affine import AFFINE_CHAINS_MERGED
from vercomp.ir.graph import Activate, Affine, Graph, Node
from vercomp.ir.linear_maps import Reshape, Shape, compose, parts
from vercomp.pass_manager import Property


@dataclass(frozen=True)
class FlattenActivations:
    """Move reshapes past activations wherever they cancel."""

    name: ClassVar[str] = "flatten-activations"
    requires: ClassVar[tuple[Property, ...]] = (AFFINE_CHAINS_MERGED,)
    establishes: ClassVar[tuple[Property, ...]] = (AFFINE_CHAINS_MERGED,)
    for_analysis: ClassVar[bool] = True

    def run(self, graph: Graph) -> Graph:
        """The graph with flat activations."""
        return flatten_activations(graph)


def flatten_activations(graph: Graph) -> Graph:
    """The graph with flat activations; the same object where nothing cancels."""
    flat = {
        name
        for node in graph.affine()
        if _cancels(graph, node)
        for name in (node.name, *(child.name for child in graph.children(node.name)))
    }
    if not flat:
        return graph
    shapes = {node.name: node.shape for node in graph.nodes}
    return Graph(tuple(_flattened(node, flat, shapes) for node in graph.nodes), graph.output)


def _cancels(graph: Graph, node: Affine) -> bool:
    """Whether a node's result is reshaped on both sides of every activation that reads it."""
    readers = graph.children(node.name)
    if len(node.shape) == 1 or node.name == graph.output or not readers:
        return False
    if not all(isinstance(parts(term.map)[-1], Reshape) for term in node.terms):
        return False
    for reader in readers:
        children = graph.children(reader.name)
        if not isinstance(reader, Activate) or reader.name == graph.output or not children:
            return False
        for child in children:
            if not isinstance(child, Affine):
                return False
            maps = [term.map for term in child.terms if term.parent == reader.name]
            if not all(isinstance(parts(linear_map)[0], Reshape) for linear_map in maps):
                return False
    return True


def _flattened(node: Node, flat: set[str], shapes: dict[str, Shape]) -> Node:
    if isinstance(node, Activate) and node.name in flat:
        return replace(node, shape=(math.prod(node.shape),))
    if not isinstance(node, Affine):
        return node
    terms = tuple(
        replace(term, map=compose(term.map, Reshape((math.prod(shape),), shape)))
        if term.parent in flat
        else term
        for term in node.terms
        for shape in [shapes[term.parent]]
    )
    if node.name not in flat:
        return replace(node, terms=terms)
    flatten = Reshape(node.shape, (math.prod(node.shape),))
    return replace(
        node,
        shape=flatten.target,
        terms=tuple(replace(term, map=compose(flatten, term.map)) for term in terms),
        offsets=tuple(replace(offset, map=compose(flatten, offset.map)) for offset in node.offsets),
    )
