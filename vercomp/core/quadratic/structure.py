"""What a quadratic bound asks of a graph: how large its forms become, and where they begin.

Forms are sent backward through a graph one node at a time. Between two nodes a form lives on those
nodes that have been reached and not yet been replaced by their parents: for a chain on one node,
for a residual block on two.
"""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..graph import Activate, Affine, Dag, Graph
from ..maps.operators import Operator

LARGEST = 4096
"""Forms on up to so many entries are factorised as matrices."""


def obstacle(graph: Dag[Any]) -> tuple[str, str] | None:
    """A node that keeps a graph from having quadratic bounds, and why; None where none does."""
    bending = [node for node in graph.nodes if not hasattr(node, "terms") and node.parents]
    if not bending:
        return graph.output, "quadratic bounds need an activation"
    named = {node.name for node in graph.nodes}
    if not {graph.output, *(name for node in graph.nodes for name in node.parents)} <= named:
        return None  # nodes that every method refuses are left out, and no size is known
    name, size = widest(graph)
    if size > LARGEST:
        return name, (
            f"a quadratic form there is on {size:,} entries; quadratic bounds factorise matrices, "
            f"and take up to {LARGEST:,}"
        )
    return None


def widest(graph: Dag[Any]) -> tuple[str, int]:
    """The node behind which a form has the most entries, and how many."""
    needed = graph.ancestors(graph.output) | {graph.output}
    live: set[str] = set()
    found = graph.output, 0
    for node in reversed(graph.nodes):
        bends = not hasattr(node, "terms") and bool(node.parents)
        if node.name in needed and (bends or node.name in live):
            live.discard(node.name)
            live |= set(node.parents)
            size = sum(math.prod(graph.node(name).shape) for name in live)
            if size > found[1]:
                found = node.name, size
    return found


def activations(graph: Graph) -> list[Activate]:
    """The activations that the output depends on, those nearest to the input first."""
    needed = graph.ancestors(graph.output) | {graph.output}
    return [node for node in graph.nodes if isinstance(node, Activate) and node.name in needed]


def inner(graph: Graph) -> list[str]:
    """Those of the activations that others depend on: where forms arrive."""
    everyone = activations(graph)
    before = graph.ancestors(*(node.name for node in everyone))
    return [node.name for node in everyone if node.name in before]


def in_type(graph: Graph, dtype: torch.dtype) -> Graph:
    """The graph with maps of another type, and without biases."""
    nodes = [
        replace(
            node, terms=tuple(replace(t, map=_typed(t.map, dtype)) for t in node.terms), bias=None
        )
        if isinstance(node, Affine)
        else node
        for node in graph.nodes
    ]
    return Graph(tuple(nodes), graph.output)


def _typed(value: Any, dtype: torch.dtype) -> Any:
    """An operator, or a part of one, with numbers of another type."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(dtype)
    if isinstance(value, tuple):
        return tuple(_typed(part, dtype) for part in value)
    if isinstance(value, Operator) and is_dataclass(value):
        parts = {f.name: _typed(getattr(value, f.name), dtype) for f in fields(value) if f.init}
        return replace(value, **parts)
    return value
