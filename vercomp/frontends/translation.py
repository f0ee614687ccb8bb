"""What a front end gives: a graph, and the original to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from vercomp.errors import UnsupportedError
from vercomp.ir.graph import Graph, Opaque


@dataclass(frozen=True)
class Translation:
    """A translated model.

    Args:
        graph: The graph, before any pass.
        source: Runs the original on a batch (B, *input shape) and gives logits (B, classes), on
            the CPU, without gradients, without a trace on the user's model. The model's own
            precision unless the batch is float64 and the original can compute in float64.
        source_kind: The framework of the original.
        dtype: The precision in which the original computes; half precision is kept as float32 here.
        derived: For every parameter that was computed from trainable tensors of the original
            (a weight times a mask, say), their names: training changes them, but not it.
    """

    graph: Graph
    source: Callable[[Tensor], Tensor]
    source_kind: Literal["torch", "onnx"]
    dtype: torch.dtype = torch.float32
    derived: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def refuse_opaque(graph: Graph) -> None:
    """Refuse a graph that holds what no analysis covers.

    Raises:
        UnsupportedError: There are opaque nodes; the message lists them all.
    """
    nodes = list(graph.opaque())
    if not nodes:
        return
    remedy = "Only affine operators and elementwise activations can be analysed"
    if len(nodes) == 1:
        node = nodes[0]
        raise UnsupportedError(
            node.reason,
            node=node.name,
            operator=node.operator,
            location=node.origin or None,
            remedy=remedy,
        )
    lines = "".join(f"\n  {_line(node)}" for node in nodes)
    raise UnsupportedError(f"{len(nodes)} operators are not supported:{lines}\n{remedy}")


def _line(node: Opaque) -> str:
    place = f" at {node.origin}" if node.origin else ""
    return f"node {node.name!r} ({node.operator}){place}: {node.reason}"
