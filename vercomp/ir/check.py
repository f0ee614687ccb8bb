"""Well-formedness of a graph, as an executable specification. Runs between passes."""

from __future__ import annotations

from collections.abc import Iterator

from vercomp.errors import InternalError
from vercomp.ir.graph import Activate, Affine, Graph, Input, Node
from vercomp.ir.linear_maps import Parameter, Shape


def check(graph: Graph) -> Graph:
    """Return the graph if it is well formed.

    Raises:
        InternalError: A node breaks a rule of the IR; the message names it and the rule. Front
            ends refuse what users can get wrong before they make a graph.
    """
    seen: dict[str, Node] = {}
    parameters: dict[str, Parameter] = {}
    for position, node in enumerate(graph.nodes):
        _require(node.name not in seen, node, "its name is taken by an earlier node")
        _require(
            isinstance(node, Input) == (position == 0), node, "the input must be the first node"
        )
        for parent in node.parents:
            _require(parent in seen, node, f"its parent {parent!r} does not come before it")
        if isinstance(node, Affine):
            _check_affine(node, seen)
        elif isinstance(node, Activate):
            _require(
                node.shape == seen[node.parent].shape, node, "an activation must keep the shape"
            )
        seen[node.name] = node
    for parameter in _parameters(graph):
        other = parameters.setdefault(parameter.name, parameter)
        if other is not parameter:
            raise InternalError("two parameters share one name", node=parameter.name)
    if graph.output not in seen:
        raise InternalError("the output is not a node", node=graph.output)
    return graph


def _parameters(graph: Graph) -> Iterator[Parameter]:
    """Every parameter at every place where it is read; Graph.parameters() has one of a name."""
    for node in graph.affine():
        for term in node.terms:
            yield from term.map.parameters()
        for offset in node.offsets:
            yield from offset.map.parameters()
            yield offset.vector


def _check_affine(node: Affine, seen: dict[str, Node]) -> None:
    _require(len(node.terms) > 0, node, "an affine node needs a term")
    for term in node.terms:
        source = seen[term.parent].shape
        _require(
            term.map.in_shape == source,
            node,
            f"{term.map} takes {term.map.in_shape}, but {term.parent!r} has shape {source}",
        )
        _require(
            term.map.out_shape == node.shape,
            node,
            f"{term.map} gives {term.map.out_shape}, not {node.shape}",
        )
    for offset in node.offsets:
        _require(
            offset.map.out_shape == node.shape,
            node,
            f"the offset {offset.vector.name!r} arrives as {offset.map.out_shape}",
        )
        _require(
            broadcasts(offset.vector.shape, offset.map.in_shape),
            node,
            f"the offset {offset.vector.name!r} does not broadcast to {offset.map.in_shape}",
        )


def broadcasts(shape: Shape, target: Shape) -> bool:
    """Whether a tensor of ``shape`` expands to ``target`` by the rules of numpy."""
    padded = (1,) * (len(target) - len(shape)) + shape
    return len(padded) == len(target) and all(
        size in (1, wanted) for size, wanted in zip(padded, target, strict=True)
    )


def _require(condition: bool, node: Node, rule: str) -> None:
    if not condition:
        raise InternalError(f"ill-formed graph: {rule}", node=node.name)
