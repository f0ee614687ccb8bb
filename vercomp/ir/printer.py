"""A graph as text: one node a line, for people and for tests of passes (text in, text out)."""

from __future__ import annotations

from vercomp.ir.graph import Activate, Affine, Graph, Input, Node, Offset


def to_text(graph: Graph) -> str:
    """The graph, a line a node, the output last."""
    return "\n".join([*(node_text(node) for node in graph.nodes), f"output {graph.output}"])


def node_text(node: Node) -> str:
    """A node, on a line; a name that holds line breaks keeps them."""
    shape = "×".join(map(str, node.shape)) or "scalar"
    if isinstance(node, Input):
        return f"input {node.name} : {shape}"
    if isinstance(node, Affine):
        text = " + ".join(f"{term.map} · {term.parent}" for term in node.terms)
        bias = bias_text(node)
        text += f" {bias}" if bias else ""
        return f"affine {node.name} : {shape} = {text}"
    if isinstance(node, Activate):
        return f"activation {node.name} : {shape} = {node.function}({node.parent})"
    return f"opaque {node.name} : {shape} = {node.operator}({', '.join(node.parents)})"


def bias_text(node: Affine) -> str:
    """The bias of an affine node with its signs; empty where there is none."""
    return " ".join(_offset(offset) for offset in node.offsets)


def _offset(offset: Offset) -> str:
    sign = "-" if offset.negate else "+"
    moved = (
        ""
        if offset.map.in_shape == offset.map.out_shape and str(offset.map).startswith("reshape")
        else f"{offset.map} · "
    )
    return f"{sign} {moved}{offset.vector.name}"
