"""Strip from the output what changes no comparison of its entries.

A certificate that a label stays the largest output is one for every network whose outputs compare
alike, and curvature is smaller without what squeezes them together:

* softmax and log softmax over the classes, also spelled out (exp, sums, a common subtrahend),
* a strictly increasing activation of every output (:mod:`passes.increasing`),
* [1 − σ(z), σ(z)] where σ(0) = ½, which compares as zero and z do.

What analyses can bound is kept as the graph's tail, so that bounds of outputs are still about the
model's own; after a softmax, which they cannot, the logits are the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from passes.increasing import increasing_head
from vercomp.ir.axis_maps import Total
from vercomp.ir.graph import Activate, Affine, Graph, Node, Opaque, Term
from vercomp.ir.linear_maps import Reshape, Scale, parts
from vercomp.ir.rewrite import is_identity, pruned
from vercomp.ir.selections import Expand
from vercomp.pass_manager import Property

HEADS = ("softmax", "log_softmax", "normalizer")
"""How front ends spell a softmax over the classes, and a division by the norm of all of them, which
keeps their order too; over anything else it keeps its own name."""

EXPONENTIALS = ("aten.exp.default", "Exp")
QUOTIENTS = ("aten.div.Tensor", "Div")
"""Operators of torch and of ONNX, which are no activations and no maps."""


def _violation(graph: Graph) -> str | None:
    head = _output(graph)
    if isinstance(head, Opaque) and head.operator in HEADS:
        return f"the output is the {head.operator} {head.name!r}"
    return None


NO_SOFTMAX_HEAD = Property("the output is not a softmax", _violation)


@dataclass(frozen=True)
class StripHead:
    """Drop what changes no comparison of the outputs; what can be bounded becomes the tail."""

    name: ClassVar[str] = "strip-head"
    requires: ClassVar[tuple[Property, ...]] = ()
    establishes: ClassVar[tuple[Property, ...]] = (NO_SOFTMAX_HEAD,)

    def run(self, graph: Graph) -> Graph:
        """The graph whose outputs compare as before."""
        found, bounded = graph, True
        while True:
            below = _unbounded_head(found, bounded)
            if below is not None:
                found, bounded = pruned(found.nodes, below), False
                continue
            stripped = increasing_head(found)
            if stripped is None or not (bounded or stripped.tail.exact):
                return found
            tail = stripped.tail if bounded else None
            found = replace(pruned(found.nodes, stripped.below), tail=tail)


def _unbounded_head(graph: Graph, bounded: bool) -> str | None:
    """The node below a head that no analysis takes: its entries compare as the output's do.

    Where the model's own outputs are out of reach already, what is common to all entries goes, too,
    whether an analysis takes it or not: the largest logit before a softmax, say.
    """
    if graph.outputs < 2:
        return None
    node = _output(graph)
    below: str | None = None
    if isinstance(node, Opaque) and node.operator in (*HEADS, *EXPONENTIALS):
        (below,) = node.parents
    elif isinstance(node, Opaque) and node.operator in QUOTIENTS and len(node.parents) == 2:
        dividend, divisor = (graph.node(parent) for parent in node.parents)
        if dividend.shape == node.shape and _sums(graph, divisor, dividend):
            below = dividend.name
    elif isinstance(node, Affine):
        below = _but_for_what_is_common(graph, node, bounded)
    return below if below is not None and graph.node(below).shape == node.shape else None


def _sums(graph: Graph, node: Node, summed: Node) -> bool:
    """Whether a node is the sum of all entries of another, which are positive."""
    while isinstance(node, Affine) and len(node.terms) == 1 and not node.offsets:
        (term,) = node.terms
        if not all(isinstance(part, Total | Reshape | Expand) for part in parts(term.map)):
            return False
        node = graph.node(term.parent)
        if any(isinstance(part, Total) for part in parts(term.map)):
            sizes = [part.out_shape for part in parts(term.map) if isinstance(part, Total)]
            whole = all(size == 1 for size in sizes[-1])
            return whole and node is summed and _is_positive(node)
    return False


def _is_positive(node: Node) -> bool:
    """Whether every entry is proved to be positive."""
    if isinstance(node, Opaque):
        return node.operator in EXPONENTIALS
    return isinstance(node, Activate) and node.function.name == "sigmoid"


def _but_for_what_is_common(graph: Graph, node: Affine, bounded: bool) -> str | None:
    """The parent z of z + s, where s is the same for every entry.

    If the outputs are still bounded, only an s that no analysis takes.
    """
    alone = [term for term in node.terms if _is_nothing(term)]
    common = [term for term in node.terms if not _is_nothing(term)]
    if len(alone) != 1 or not common or node.offsets:
        return None
    for term in common:
        steps = parts(term.map)
        if graph.node(term.parent).shape.count(1) < len(graph.node(term.parent).shape):
            return None
        if not any(isinstance(step, Expand) for step in steps) or not all(
            isinstance(step, Expand | Reshape)
            or (isinstance(step, Scale) and step.factor.value.numel() == 1)
            for step in steps
        ):
            return None
        above = {term.parent} | graph.ancestors(term.parent)
        if bounded and not any(isinstance(graph.node(name), Opaque) for name in above):
            return None
    return alone[0].parent


def _is_nothing(term: Term) -> bool:
    return isinstance(term.map, Reshape) and term.map.source == term.map.target


def _output(graph: Graph) -> Node:
    """The output, seen through identities."""
    node = graph.node(graph.output)
    while is_identity(node):
        node = graph.node(node.parents[0])
    return node
