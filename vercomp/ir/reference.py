"""The reference interpreter: what a graph computes. The oracle for everything else."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vercomp.ir.graph import Activate, Affine, Graph, Input, Node
from vercomp.ir.linear_maps import Parameter, Read


def stored(parameter: Parameter) -> Tensor:
    """The stored value of a parameter."""
    return parameter.value


def stored_as(dtype: torch.dtype) -> Read:
    """The stored values in one precision: some constants are float64 beside float32 weights."""
    return lambda parameter: parameter.value.to(dtype)


def evaluate(graph: Graph, x: Tensor, read: Read = stored) -> dict[str, Tensor]:
    """The value of every node for a batch x of shape (B, *input shape), by name."""
    values: dict[str, Tensor] = {}
    for node in graph.nodes:
        values[node.name] = _value(node, values, x, read)
    return values


def result(graph: Graph, x: Tensor, read: Read = stored) -> Tensor:
    """The value of the output alone; every other one is dropped once nothing reads it any more."""
    last = {parent: node.name for node in graph.nodes for parent in node.parents}
    values: dict[str, Tensor] = {}
    for node in graph.nodes:
        values[node.name] = _value(node, values, x, read)
        for parent in set(node.parents):
            if last[parent] == node.name and parent != graph.output:
                del values[parent]
    return values[graph.output]


def _value(node: Node, values: Mapping[str, Tensor], x: Tensor, read: Read) -> Tensor:
    """The value of a node, from those of its parents."""
    if isinstance(node, Input):
        return x
    if isinstance(node, Affine):
        z: Tensor | float = bias(node, read)
        for term in node.terms:
            z = z + term.map.bind(read).apply(values[term.parent].flatten(1))
        return torch.as_tensor(z).reshape(-1, *node.shape)
    if isinstance(node, Activate):
        return node.function.spelling(values[node.parent])
    return node.run(*(values[parent] for parent in node.parents))


def bias(node: Affine, read: Read = stored) -> Tensor | float:
    """Σ_j M_j p_j of an affine node, flat; 0.0 where it has no offsets."""
    total: Tensor | float = 0.0
    for offset in node.offsets:
        vector = read(offset.vector).expand(offset.map.in_shape).reshape(-1)
        moved = offset.map.bind(read).apply(vector)
        total = total - moved if offset.negate else total + moved
    return total
