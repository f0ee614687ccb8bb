"""The two walks over a graph, written once: from the input forward, from the output backward.

What a walk computes is a :class:`Domain`: a table from kinds of nodes to transfer functions. Values
with rounding errors, Jacobian norms, coefficients of a Hessian, intervals are domains; each is a
class with one method for each kind of node, marked by :func:`rule`::

    class Widths(Domain[int]):
        title = "widths"

        @rule(Input)
        def input(self, node: Input) -> int:
            return math.prod(node.shape)

        @rule(Affine, Activate)
        def anything(self, node: Affine | Activate, *parents: int) -> int:
            return max(math.prod(node.shape), *parents)

    forward(Widths(), graph)["logits"]
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any, ClassVar, Generic, TypeVar

from .errors import MissingRuleError
from .graph import AnyNode, Dag

V = TypeVar("V")
Rule = TypeVar("Rule", bound=Callable[..., Any])


def rule(*kinds: type) -> Callable[[Rule], Rule]:
    """Mark a method of a domain as the transfer function of some kinds of nodes."""

    def mark(method: Rule) -> Rule:
        method.__dict__["kinds"] = kinds
        return method

    return mark


class Domain(Generic[V]):
    """A table of transfer functions.

    A rule of a forward domain takes a node and the values of its parents, in their order, and gives
    the node's value. A rule of a backward domain takes a node and what has arrived there, and gives
    pairs (name, contribution) for nodes before it; contributions to one node are joined.

    Attributes:
        title: What messages call the domain.
    """

    title: ClassVar[str]
    _table: ClassVar[dict[type, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        found = {
            kind: name
            for name, method in vars(cls).items()
            for kind in getattr(method, "kinds", ())
        }
        cls._table = {**cls._table, **found}

    def transfer(self, node: AnyNode) -> Callable[..., Any]:
        """The rule for a node: that of its class, or of the nearest class that it inherits from.

        Raises:
            MissingRuleError: The table has none.
        """
        for kind in type(node).__mro__:
            if kind in self._table:
                method: Callable[..., Any] = getattr(self, self._table[kind])
                return method
        kind_name, home = type(node).__name__, f"{type(self).__module__}.{type(self).__name__}"
        raise MissingRuleError(
            f"the domain of {self.title} has no rule for nodes of the kind {kind_name}",
            node=node.name,
            remedy=f"Give {home} a method marked @rule({kind_name})",
        )

    def join(self, name: str, one: V, other: V) -> V:
        """Two contributions that arrive at the node of that name, as one; for backward domains."""
        raise NotImplementedError(f"{type(self).__name__} walks forward only")


def forward(
    domain: Domain[V], graph: Dag[Any], *, only: Container[str] | None = None
) -> dict[str, V]:
    """The value of every node, by name.

    Args:
        domain: The table.
        graph: The graph.
        only: The nodes that are visited; all where None. With a node come its parents.
    """
    values: dict[str, V] = {}
    for node in graph.nodes:
        if only is None or node.name in only:
            values[node.name] = domain.transfer(node)(node, *(values[p] for p in node.parents))
    return values


def result(domain: Domain[V], graph: Dag[Any]) -> V:
    """The value of the output alone: others are dropped as soon as nothing more reads them."""
    last = {parent: node.name for node in graph.nodes for parent in node.parents}
    values: dict[str, V] = {}
    for node in graph.nodes:
        values[node.name] = domain.transfer(node)(node, *(values[p] for p in node.parents))
        for parent in set(node.parents):
            if last[parent] == node.name and parent != graph.output:
                del values[parent]
    return values[graph.output]


def backward(domain: Domain[V], graph: Dag[Any], start: V) -> dict[str, V]:
    """The value that arrives at every node on which the output depends, by name.

    Args:
        domain: The table; its rules say to which nodes something is sent.
        graph: The graph.
        start: What arrives at the output.
    """
    return onward(domain, graph, {graph.output: start})


def onward(domain: Domain[V], graph: Dag[Any], arrived: dict[str, V]) -> dict[str, V]:
    """What arrives at every node before those at which something has arrived already, by name.

    Args:
        domain: The table; its rules say to which nodes something is sent.
        graph: The graph.
        arrived: What has arrived, by the names of nodes.
    """
    arrived = dict(arrived)
    for node in reversed(graph.nodes):
        if node.name not in arrived:
            continue
        sent: Iterable[tuple[str, V]] = domain.transfer(node)(node, arrived[node.name])
        for name, part in sent:
            held = arrived.get(name)
            arrived[name] = part if held is None else domain.join(name, held, part)
    return arrived
