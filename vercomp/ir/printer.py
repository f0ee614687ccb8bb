"""A graph as text: one node a line, for people and for tests of passes (text in, text out)."""

from __future__ import annotations

from collections.abc import Sequence

from vercomp.ir.graph import Activate, Affine, Graph, Input, Node, Offset
from vercomp.ir.linear_maps import LinearMap, Reshape, identity, parts
from vercomp.ir.rewrite import concatenated_axis
from vercomp.ir.selections import Expand


def to_text(graph: Graph) -> str:
    """The graph, a line a node, the output last, and behind it the tail if there is one."""
    tail = [] if graph.tail is None else [f"tail {graph.tail}, z the output"]
    return "\n".join([*map(node_text, graph.nodes), f"output {graph.output}", *tail])


def node_text(node: Node) -> str:
    """A node, on a line; a name that holds line breaks keeps them."""
    shape = "×".join(map(str, node.shape)) or "scalar"
    if isinstance(node, Input):
        return f"input {node.name} : {shape}"
    if isinstance(node, Affine):
        return f"affine {node.name} : {shape} = {_affine(node)}"
    if isinstance(node, Activate):
        return f"activation {node.name} : {shape} = {node.function}({node.parent})"
    return f"opaque {node.name} : {shape} = {node.operator}({', '.join(node.parents)})"


def bias_text(node: Affine) -> str:
    """The bias of an affine node with its signs; empty where there is none."""
    return " ".join(_offset(offset) for offset in node.offsets)


def _affine(node: Affine) -> str:
    """Terms and offsets added, or concatenated without the zeros that put them in their places."""
    axis = concatenated_axis(node)
    if axis is None:
        terms = " + ".join(_applied(parts(term.map), term.parent) for term in node.terms)
        return " ".join([terms, *map(_offset, node.offsets)])
    left = list(node.offsets)
    inside = []
    for term in node.terms:
        *maps, place = parts(term.map)
        own = [offset for offset in left if parts(offset.map)[-1] == place]
        left = [offset for offset in left if offset not in own]
        added = (_offset(offset, last=-1) for offset in own)
        inside.append(" ".join([_applied(maps, term.parent), *added]))
    return " ".join([f"concat({', '.join(inside)}; axis {axis})", *map(_offset, left)])


def _offset(offset: Offset, last: int | None = None) -> str:
    """An offset, without how its vector is spread over the shape to which it broadcasts."""
    maps = list(parts(offset.map)[:last])
    while maps and isinstance(maps[0], Reshape | Expand):
        maps.pop(0)
    return f"{'-' if offset.negate else '+'} {_applied(maps, offset.vector.name)}"


def _applied(maps: Sequence[LinearMap], name: str) -> str:
    """Maps of what has a name, the last one in front; identities say nothing."""
    said = [str(part) for part in reversed(maps) if part != identity(part.in_shape)]
    return " · ".join([*said, name])
