"""The graph: a network as a DAG of affine nodes and elementwise activations.

    z_v = Σ_k A_vk a_k + b_v        affine, any number of parents (a skip connection is one more)
    a_v = σ_v(z_v)                  elementwise activation

Nodes are immutable data and refer to their parents by name. What analyses find out about a node
lives in :mod:`vercomp.facts`, never on the node. Shapes leave the batch dimension out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import Tensor

from vercomp.core.graph import Dag, Input
from vercomp.errors import InternalError
from vercomp.ir.activation import Activation
from vercomp.ir.linear_maps import LinearMap, Parameter, Shape

__all__ = ["Activate", "Affine", "Graph", "Input", "Node", "Offset", "Opaque", "Tail", "Term"]


@dataclass(frozen=True)
class Term:
    """One summand A a of an affine node: the map and the name of the node that it reads."""

    map: LinearMap
    parent: str


@dataclass(frozen=True)
class Offset:
    """One summand M p of a bias: merged affine chains carry biases through maps, symbolically.

    ``vector`` may have any shape that broadcasts to what ``map`` takes.
    """

    map: LinearMap
    vector: Parameter
    negate: bool = False


@dataclass(frozen=True)
class Affine:
    """z = Σ_k A_k a_k + Σ_j M_j p_j.

    Args:
        name: Unique name, from the source where it has one.
        shape: Shape of z.
        terms: The A_k with their parents; at least one.
        offsets: The M_j p_j; their sum is the bias.
        origin: Where it stands in the source, for messages.
    """

    name: str
    shape: Shape
    terms: tuple[Term, ...]
    offsets: tuple[Offset, ...] = ()
    origin: str = ""

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
    function: Activation
    origin: str = ""

    @property
    def parents(self) -> tuple[str, ...]:
        """The pre-activation."""
        return (self.parent,)


@dataclass(frozen=True)
class Opaque:
    """Anything else: the reference interpreter runs it, every analysis refuses it.

    Args:
        name: Unique name.
        shape: Shape of the result.
        parents: The nodes it reads.
        operator: The operator as its framework spells it.
        run: Batched inputs to batched result.
        origin: Where it stands in the source.
        reason: Why no analysis covers it.
        remedy: What would help; empty where only another network would.
        site: What the operator is called, where the node is one of its several results.
    """

    name: str
    shape: Shape
    parents: tuple[str, ...]
    operator: str
    run: Callable[..., Tensor] = field(compare=False)
    origin: str = ""
    reason: str = ""
    remedy: str = ""
    site: str = ""


Node = Input | Affine | Activate | Opaque


@dataclass(frozen=True)
class Tail:
    """What was taken from the output because it changes no comparison of the outputs.

    Args:
        functions: Strictly increasing functions, the innermost first, of every output.
        complement: Whether the graph's one output z stands for two, [1 − σ(z), σ(z)].
    """

    functions: tuple[Activation, ...]
    complement: bool = False

    @property
    def exact(self) -> bool:
        """Whether torch computes the functions as their formulas say, but for rounding."""
        return not any(function.deviation for function in self.functions)

    def __str__(self) -> str:
        inside = "z"
        for function in self.functions:
            inside = f"{function}({inside})"
        return f"[1 - {inside}, {inside}]" if self.complement else inside


@dataclass(frozen=True)
class Graph(Dag[Node]):
    """A network as its source has it: symbols over parameters.

    Args:
        tail: What stands behind the output in the source, and is no part of the nodes.
    """

    tail: Tail | None = None

    @property
    def input(self) -> Input:
        """The input node."""
        first = self.nodes[0]
        if not isinstance(first, Input):
            raise InternalError("a graph's first node must be its input", node=first.name)
        return first

    def affine(self) -> Iterator[Affine]:
        """The affine nodes, in order."""
        return (node for node in self.nodes if isinstance(node, Affine))

    def activations(self) -> Iterator[Activate]:
        """The activation nodes, in order."""
        return (node for node in self.nodes if isinstance(node, Activate))

    def opaque(self) -> Iterator[Opaque]:
        """The opaque nodes, in order."""
        return (node for node in self.nodes if isinstance(node, Opaque))

    def parameters(self) -> tuple[Parameter, ...]:
        """Every parameter that a map or an offset reads, once, in order of first use."""
        found: dict[str, Parameter] = {}
        for node in self.affine():
            for term in node.terms:
                found.update({p.name: p for p in term.map.parameters()})
            for offset in node.offsets:
                found.update({p.name: p for p in offset.map.parameters()})
                found[offset.vector.name] = offset.vector
        return tuple(found.values())
