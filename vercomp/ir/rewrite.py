"""Small steps that rewriting passes share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from vercomp.ir.graph import Activate, Affine, Graph, Node, Opaque, Term
from vercomp.ir.linear_maps import (
    Composition,
    LinearMap,
    Reshape,
    Shape,
    Sum,
    compose,
    identity,
    parts,
)
from vercomp.ir.selections import Gather, Pad, Slice


def is_identity(node: Node) -> bool:
    """Whether a node is an affine one that gives what it reads."""
    if not isinstance(node, Affine) or len(node.terms) != 1 or node.offsets:
        return False
    return _is_nothing(node.terms[0].map)


def rewired(node: Node, names: Mapping[str, str]) -> Node:
    """The node with its parents called otherwise; the same object where none is."""
    if not any(parent in names for parent in node.parents):
        return node
    if isinstance(node, Affine):
        terms = (replace(term, parent=names.get(term.parent, term.parent)) for term in node.terms)
        return replace(node, terms=tuple(terms))
    if isinstance(node, Activate):
        return replace(node, parent=names.get(node.parent, node.parent))
    if isinstance(node, Opaque):
        return replace(node, parents=tuple(names.get(parent, parent) for parent in node.parents))
    return node


def pruned(nodes: Iterable[Node], output: str) -> Graph:
    """The graph of the nodes on which the output depends, and the input."""
    graph = Graph(tuple(nodes), output)
    living = {graph.nodes[0].name, output} | graph.ancestors(output)
    return Graph(tuple(node for node in graph.nodes if node.name in living), output)


def without_identities(graph: Graph) -> Graph:
    """The graph whose readers of identities read what those read."""
    alias: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        node = rewired(node, alias)
        if is_identity(node):
            alias[node.name] = node.parents[0]
        nodes.append(node)
    output = alias.get(graph.output, graph.output)
    if output == graph.input.name:  # logits are an affine node, even where they are the input
        output = graph.output
    return pruned(nodes, output)


def concatenated_axis(node: Affine) -> int | None:
    """The axis along which a node puts its terms side by side, in order and without a gap.

    Each term then ends in a :class:`~vercomp.ir.selections.Pad` with zeros along that axis alone,
    and no entry of the node depends on two of them.
    """
    last = [parts(term.map)[-1] for term in node.terms]
    pads = [part.pads for part in last if isinstance(part, Pad) and part.mode == "zeros"]
    if len(pads) < 2 or len(pads) < len(last):
        return None
    padded = {axis for row in pads for axis, pair in enumerate(row) if pair != (0, 0)}
    if len(padded) != 1:
        return None
    (axis,) = padded
    start = 0
    for row, part in zip(pads, last, strict=True):
        if row[axis][0] != start:
            return None
        start += part.in_shape[axis]
    return axis if start == node.shape[axis] else None


def gathered(node: Affine) -> Affine:
    """A concatenation of entries of one node along its axis as the gather that it is.

    Exporters spell circular padding so, and code that turns channels around.
    """
    axis = concatenated_axis(node)
    if axis is None or len(set(node.parents)) > 1:
        return node
    listed = [parts(term.map)[:-1] for term in node.terms]
    shared = _common_prefix(listed)
    middle = shared[-1].out_shape if shared else node.terms[0].map.in_shape
    indices: list[int] = []
    for own in listed:
        found = _indices(own[len(shared) :], axis, middle)
        if found is None:
            return node
        indices += found
    linear = compose(Gather(middle, axis, tuple(indices)), _sequence(shared, middle))
    return replace(node, terms=(Term(linear, node.terms[0].parent),))


def _indices(applied: tuple[LinearMap, ...], axis: int, shape: Shape) -> Sequence[int] | None:
    """The entries along an axis that at most one slice or gather picks."""
    if not applied:
        return range(shape[axis])
    (only, *others) = applied
    if others or not isinstance(only, Slice | Gather) or only.axis != axis:
        return None
    return range(only.start, only.stop, only.step) if isinstance(only, Slice) else only.indices


def summed(maps: Sequence[LinearMap]) -> LinearMap:
    """A_1 + … + A_p, with what all of them apply first factored out: AB + B is (A + I)B.

    Without that a row of blocks x + Ax would grow to 2ⁿ summands.
    """
    if len(maps) == 1:
        return maps[0]
    listed = [() if _is_nothing(linear) else parts(linear) for linear in maps]
    shared = _common_prefix(listed)
    middle = shared[-1].out_shape if shared else maps[0].in_shape
    summands: list[LinearMap] = []
    for own in listed:
        rest = _sequence(own[len(shared) :], middle)
        summands += rest.maps if isinstance(rest, Sum) else (rest,)
    total = Sum(tuple(summands))
    return compose(total, _sequence(shared, maps[0].in_shape))


def _common_prefix(listed: Sequence[tuple[LinearMap, ...]]) -> tuple[LinearMap, ...]:
    """What all of several compositions apply first."""
    common = 0
    for same in zip(*listed, strict=False):
        if any(part != same[0] for part in same):
            break
        common += 1
    return listed[0][:common]


def _sequence(applied: tuple[LinearMap, ...], shape: Shape) -> LinearMap:
    if not applied:
        return identity(shape)
    return applied[0] if len(applied) == 1 else Composition(applied)


def _is_nothing(linear: LinearMap) -> bool:
    return isinstance(linear, Reshape) and linear.source == linear.target
