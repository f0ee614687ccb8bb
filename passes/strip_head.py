"""Strip a final softmax: it keeps the order of the classes, and curvature bounds are for logits.

argmax softmax(z) = argmax log softmax(z) = argmax z, so a certificate for the logits is one for the
network. A final elementwise activation (a sigmoid on each logit) stays: it keeps the order of the
classes too, but the margins, and with them the radii reported for a given margin, are its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vercomp.ir.graph import Affine, Graph, Opaque
from vercomp.ir.linear_maps import Reshape
from vercomp.pass_manager import Property, State

HEADS = ("softmax", "log_softmax")
"""How front ends spell a softmax over the classes; over anything else it keeps its own name."""


def _violation(state: State) -> str | None:
    head = _head(state.graph)
    return None if head is None else f"the output is the {head.operator} {head.name!r}"


NO_SOFTMAX_HEAD = Property("the output is not a softmax", _violation)


@dataclass(frozen=True)
class StripHead:
    """Drop a softmax or log-softmax over the classes at the output."""

    name: ClassVar[str] = "strip-head"
    requires: ClassVar[tuple[Property, ...]] = ()
    establishes: ClassVar[tuple[Property, ...]] = (NO_SOFTMAX_HEAD,)

    def run(self, state: State) -> State:
        """The state whose output are the logits."""
        graph = state.graph
        while (head := _head(graph)) is not None:
            (logits,) = head.parents
            kept = [node for node in graph.nodes if node.name != head.name]
            readers = {child.name for child in graph.children(head.name)}
            kept = [node for node in kept if node.name not in readers]
            graph = Graph(tuple(kept), logits)
        return state.with_graph(graph)


def _head(graph: Graph) -> Opaque | None:
    """The softmax at the output, seen through identities; nothing else may read it."""
    node = graph.node(graph.output)
    while isinstance(node, Affine) and _is_identity(node):
        node = graph.node(node.parents[0])
    if not isinstance(node, Opaque) or node.operator not in HEADS:
        return None
    return node


def _is_identity(node: Affine) -> bool:
    linear = node.terms[0].map
    return (
        len(node.terms) == 1
        and not node.offsets
        and isinstance(linear, Reshape)
        and linear.source == linear.target
    )
