"""The graph that analyses walk: affine nodes over operators, and elementwise activations.

    z_v = Σ_k A_vk a_k + b_v        affine, any number of parents (a skip connection is one more)
    a_v = σ_v(z_v)                  elementwise activation

Nodes are immutable data and refer to their parents by name. Values are flat (row-major) vectors; a
node's shape, without the batch, says how they are arranged. A front end's graph
(:mod:`vercomp.ir.graph`) has symbols over parameters where this one has operators.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from .arithmetic.rounded import Rounded
    from .functions import Elementwise
    from .maps.operators import Operator

Shape = tuple[int, ...]


class AnyNode(Protocol):
    """The attributes of every kind of node."""

    @property
    def name(self) -> str:
        """A name that no other node of the graph has."""

    @property
    def shape(self) -> Shape:
        """The shape of the node's value, without the batch."""

    @property
    def parents(self) -> tuple[str, ...]:
        """The names of the nodes that this node reads."""


N = TypeVar("N", bound=AnyNode)


@dataclass(frozen=True)
class Dag(Generic[N]):
    """Nodes in topological order, the first one the input.

    Args:
        nodes: Every node after those that it reads.
        output: Name of the node whose value is the network's.
    """

    nodes: tuple[N, ...]
    output: str
    _by_name: dict[str, N] = field(init=False, repr=False, compare=False)
    _children: dict[str, tuple[N, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the nodes at once: torch.compile cannot trace properties that take a lock."""
        children: dict[str, list[N]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for parent in dict.fromkeys(node.parents):
                children.setdefault(parent, []).append(node)
        read_by = {name: tuple(found) for name, found in children.items()}
        object.__setattr__(self, "_by_name", {node.name: node for node in self.nodes})
        object.__setattr__(self, "_children", read_by)

    @property
    def outputs(self) -> int:
        """The number of entries of the network's value."""
        return math.prod(self.node(self.output).shape)

    def node(self, name: str) -> N:
        """The node of that name."""
        return self._by_name[name]

    def children(self, name: str) -> tuple[N, ...]:
        """The nodes that read ``name``, in graph order; once each."""
        return self._children[name]

    def ancestors(self, *names: str) -> frozenset[str]:
        """All nodes on which the nodes of these names depend."""
        found: set[str] = set()
        pending = [parent for name in names for parent in self.node(name).parents]
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending += self.node(name).parents
        return frozenset(found)


@dataclass(frozen=True)
class Input:
    """The one input of a network."""

    name: str
    shape: Shape

    @property
    def parents(self) -> tuple[str, ...]:
        """An input reads nothing."""
        return ()


@dataclass(frozen=True)
class Term:
    """One summand A a of an affine node.

    Args:
        name: The name under which bounds of the map are kept; unique within a graph.
        map: A, on flat vectors.
        parent: The node whose value is a.
    """

    name: str
    map: Operator
    parent: str


@dataclass(frozen=True)
class Affine:
    """z = Σ_k A_k a_k + b.

    Args:
        name: Unique name.
        shape: Shape of z.
        terms: The A_k with their parents; at least one.
        bias: b as a row (1, m) with a bound of its rounding; None where it is zero.
        disjoint: Whether no entry of z depends on two terms, as in a concatenation.
    """

    name: str
    shape: Shape
    terms: tuple[Term, ...]
    bias: Rounded | None = None
    disjoint: bool = False

    @property
    def parents(self) -> tuple[str, ...]:
        """The nodes that the terms read."""
        return tuple(term.parent for term in self.terms)


@dataclass(frozen=True)
class Activate:
    """a = σ(z), elementwise."""

    name: str
    shape: Shape
    parent: str
    function: Elementwise

    @property
    def parents(self) -> tuple[str, ...]:
        """The pre-activation."""
        return (self.parent,)


Node = Input | Affine | Activate


@dataclass(frozen=True)
class Graph(Dag[Node]):
    """A network over the operators of one state of its weights."""
