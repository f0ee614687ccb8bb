"""What a front end gives: a graph, and the original to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


@dataclass(frozen=True)
class Offence:
    """An operator that cannot be analysed.

    Args:
        name: What it is called.
        operator: As its framework spells it.
        origin: Where it stands in the source.
        reason: Why.
        remedy: What would help with this one; empty where only another network would.
    """

    name: str
    operator: str
    origin: str
    reason: str
    remedy: str = ""

    @staticmethod
    def of(node: Opaque) -> Offence:
        """What an opaque node is."""
        name = node.site or node.name
        return Offence(name, node.operator, node.origin, node.reason, node.remedy)

    def __str__(self) -> str:
        place = f" at {self.origin}" if self.origin else ""
        return f"node {self.name!r} ({self.operator}){place}: {self.reason}"


def refuse_opaque(graph: Graph) -> None:
    """Refuse a graph that holds what no analysis covers.

    Raises:
        UnsupportedError: There are opaque nodes; the message lists them all.
    """
    found = [Offence.of(node) for node in graph.opaque()]
    if found:
        raise unsupported(found)


def unsupported(found: Sequence[Offence]) -> UnsupportedError:
    """The error that lists these operators, at least one, each once."""
    found = list({(each.name, each.operator, each.origin): each for each in found}.values())
    remedy = next(
        (offence.remedy for offence in found if offence.remedy),
        "Only affine operators and elementwise activations can be analysed",
    )
    if len(found) == 1:
        (only,) = found
        return UnsupportedError(
            only.reason,
            node=only.name,
            operator=only.operator,
            location=only.origin or None,
            remedy=remedy,
        )
    lines = "".join(f"\n  {offence}" for offence in found)
    return UnsupportedError(f"{len(found)} operators are not supported:{lines}\n{remedy}")
