"""The reference interpreter: what a source-level graph computes. The oracle for everything else."""

from __future__ import annotations

import torch
from torch import Tensor

from vercomp.core.domains.values import Values
from vercomp.core.walk import forward, rule
from vercomp.core.walk import result as output_of
from vercomp.ir.binding import bind
from vercomp.ir.graph import Graph, Opaque
from vercomp.ir.linear_maps import Parameter, Read


def stored(parameter: Parameter) -> Tensor:
    """The stored value of a parameter."""
    return parameter.value


def stored_as(dtype: torch.dtype) -> Read:
    """The stored values in one precision: some constants are float64 beside float32 weights."""
    return lambda parameter: parameter.value.to(dtype)


class Reference(Values):
    """Values of graphs that may hold opaque nodes, which run as their framework runs them."""

    @rule(Opaque)
    def opaque(self, node: Opaque, *parents: Tensor) -> Tensor:
        """What the operator gives."""
        return node.run(*parents)


def evaluate(graph: Graph, x: Tensor, read: Read = stored) -> dict[str, Tensor]:
    """The value of every node for a batch x of shape (B, *input shape), by name."""
    return forward(Reference(x), bind(graph, read))


def result(graph: Graph, x: Tensor, read: Read = stored) -> Tensor:
    """The value of the output alone; every other one is dropped once nothing reads it any more."""
    return output_of(Reference(x), bind(graph, read))
