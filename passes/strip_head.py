"""Strip a final softmax: it keeps the order of the classes, and curvature bounds are for logits.

argmax softmax(z) = argmax log softmax(z) = argmax z, so a certificate for the logits is one for the
network. A final elementwise activation (a sigmoid on each logit) stays: it keeps the order of the
classes too, but the margins, and with them the radii reported for a given margin, are its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vercomp.ir.graph import Graph, Opaque
from vercomp.ir.rewrite import is_identity, pruned
from vercomp.pass_manager import Property

HEADS = ("softmax", "log_softmax", "normalizer")
"""How front ends spell a softmax over the classes, and a division by the norm of all of them, which
keeps their order too; over anything else it keeps its own name."""


def _violation(graph: Graph) -> str | None:
    head = _head(graph)
    return None if head is None else f"the output is the {head.operator} {head.name!r}"


NO_SOFTMAX_HEAD = Property("the output is not a softmax", _violation)


@dataclass(frozen=True)
class StripHead:
    """Drop a softmax or log-softmax over the classes at the output."""

    name: ClassVar[str] = "strip-head"
    requires: ClassVar[tuple[Property, ...]] = ()
    establishes: ClassVar[tuple[Property, ...]] = (NO_SOFTMAX_HEAD,)

    def run(self, graph: Graph) -> Graph:
        """The graph whose output are the logits."""
        while (head := _head(graph)) is not None:
            (logits,) = head.parents
            graph = pruned(graph.nodes, logits)
        return graph


def _head(graph: Graph) -> Opaque | None:
    """The softmax at the output, seen through identities."""
    node = graph.node(graph.output)
    while is_identity(node):
        node = graph.node(node.parents[0])
    if not isinstance(node, Opaque) or node.operator not in HEADS:
        return None
    return node
