"""What is known of a network without any input: its nodes, with norms, constants and shares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from vercomp.core.bounds import Bounds


@dataclass(frozen=True)
class InputNode:
    """The input.

    Args:
        identifier: Unique within the network.
        name: The source's name of it.
        shape: Of one input.
    """

    identifier: str
    name: str
    shape: tuple[int, ...]

    @property
    def parents(self) -> tuple[str, ...]:
        """No parents."""
        return ()


@dataclass(frozen=True)
class MapTerm:
    """One summand A a of an affine node.

    Args:
        parent: Identifier of the node that it reads.
        map: A as the graph prints it.
        norm: Proved upper bound of ‖A‖₂.
    """

    parent: str
    map: str
    norm: float


@dataclass(frozen=True)
class AffineNode:
    """z = Σ A a + b.

    Args:
        identifier: Unique within the network.
        name: The source's name of it.
        shape: Of z.
        terms: The A with what they read.
        bias: b as the graph prints it; empty where there is none.
    """

    identifier: str
    name: str
    shape: tuple[int, ...]
    terms: tuple[MapTerm, ...]
    bias: str

    @property
    def parents(self) -> tuple[str, ...]:
        """The nodes that the terms read."""
        return tuple(term.parent for term in self.terms)

    @property
    def norm(self) -> float:
        """The largest of the bounds of ‖A‖₂."""
        return max(term.norm for term in self.terms)


@dataclass(frozen=True)
class ActivationNode:
    """a = σ(z).

    Args:
        identifier: Unique within the network.
        name: The source's name of it.
        shape: Of a.
        parent: Identifier of the node that it reads.
        function: σ by name.
        formula: σ as a formula.
        first_range: (inf σ′, sup σ′), rounded outward.
        second_range: (inf σ″, sup σ″), rounded outward; infinite where there is no σ″.
        share: Of the curvature bound, the part that this activation contributes, in [0, 1], the
            mean over all pairs.
    """

    identifier: str
    name: str
    shape: tuple[int, ...]
    parent: str
    function: str
    formula: str
    first_range: tuple[float, float]
    second_range: tuple[float, float]
    share: float

    @property
    def parents(self) -> tuple[str, ...]:
        """The node that it reads."""
        return (self.parent,)

    @property
    def g(self) -> float:
        """sup |σ′|."""
        return max(map(abs, self.first_range))

    @property
    def h(self) -> float:
        """sup |σ″|; infinite where there is no σ″."""
        return max(map(abs, self.second_range))


Node = InputNode | AffineNode | ActivationNode


@dataclass(frozen=True)
class LayerRow:
    """An affine node with the activation that reads it, or either of them alone.

    An activation has a row of its own where another one reads the same node, or where it reads no
    affine node.

    Args:
        affine: The affine node.
        following: The activation.
    """

    affine: AffineNode | None
    following: ActivationNode | None

    @property
    def node(self) -> AffineNode | ActivationNode:
        """The node that the row is named after."""
        found = self.affine or self.following
        assert found is not None  # noqa: S101 - a row has one of them
        return found

    @property
    def name(self) -> str:
        """The source's name."""
        return self.node.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its result."""
        return self.node.shape

    @property
    def activation(self) -> str | None:
        """The name of the activation."""
        return self.following.function if self.following else None

    @property
    def g(self) -> float | None:
        """sup |σ′|."""
        return self.following.g if self.following else None

    @property
    def h(self) -> float | None:
        """sup |σ″|."""
        return self.following.h if self.following else None

    @property
    def norm(self) -> float | None:
        """Proved upper bound of ‖A‖₂; of the largest, where several maps meet."""
        return self.affine.norm if self.affine else None

    @property
    def share(self) -> float:
        """The activation's part of the curvature bound."""
        return self.following.share if self.following else 0.0


@dataclass(frozen=True)
class Analysis:
    """What is known of a network without any input.

    Args:
        nodes: The nodes, in order, the input first.
        output: Identifier of the node that gives the logits.
        curvature: (lo, hi), each (C, C): lo·I ≼ ∇²(z_y − z_t) ≼ hi·I.
        lipschitz: L (C, C): ‖∇(z_y − z_t)‖ ≤ L[y, t].
    """

    nodes: tuple[Node, ...]
    output: str
    curvature: tuple[Tensor, Tensor]
    lipschitz: Tensor

    @property
    def layers(self) -> tuple[LayerRow, ...]:
        """One row an affine node or an activation that follows none, in order."""
        return layers_of(self.nodes)

    @property
    def hidden_units(self) -> int:
        """How many scalar activations there are."""
        found = (node for node in self.nodes if isinstance(node, ActivationNode))
        return sum(math.prod(node.shape) for node in found)


def analysis_of(manifest: Mapping[str, Any], bounds: Bounds) -> Analysis:
    """The analysis of a package: the graph of its manifest, with bounds of its weights.

    Args:
        manifest: The package's manifest.
        bounds: For the weights as they are.
    """
    total = bounds.curvature.sum().clamp_min(1e-300)
    shares = {name: float(share.sum() / total) for name, share in bounds.shares.items()}
    return Analysis(
        nodes=nodes_of(manifest, bounds.norms, shares),
        output=manifest["output"],
        curvature=(-bounds.curvature, bounds.curvature.T.clone()),
        lipschitz=bounds.lipschitz,
    )


def nodes_of(
    manifest: Mapping[str, Any], norms: Mapping[str, float], shares: Mapping[str, float]
) -> tuple[Node, ...]:
    """The nodes of a package.

    Args:
        manifest: The package's manifest.
        norms: Proved norms of its maps.
        shares: Of the curvature bound, by activation; 0 where there is none.
    """

    def node(data: Mapping[str, Any]) -> Node:
        identifier, name, shape = data["identifier"], data["name"], tuple(data["shape"])
        if data["kind"] == "input":
            return InputNode(identifier, name, shape)
        if data["kind"] == "affine":
            terms = tuple(
                MapTerm(term["parent"], term["text"], norms[term["map"]]) for term in data["terms"]
            )
            return AffineNode(identifier, name, shape, terms, data["bias"])
        constants = manifest["activations"][data["function"]]
        second = constants["second_range"]
        return ActivationNode(
            identifier=identifier,
            name=name,
            shape=shape,
            parent=data["parent"],
            function=constants["function"],
            formula=constants["formula"],
            first_range=tuple(constants["first_range"]),
            second_range=(-math.inf, math.inf) if second is None else (second[0], second[1]),
            share=shares.get(identifier, 0.0),
        )

    return tuple(node(data) for data in manifest["nodes"])


def layers_of(nodes: tuple[Node, ...]) -> tuple[LayerRow, ...]:
    """One row for each affine node, and for each activation that follows none, in order."""
    return tuple(_rows(nodes))


def _rows(nodes: tuple[Node, ...]) -> Iterator[LayerRow]:
    first: dict[str, ActivationNode] = {}
    for node in nodes:
        if isinstance(node, ActivationNode):
            first.setdefault(node.parent, node)
    affine = {node.identifier for node in nodes if isinstance(node, AffineNode)}
    for node in nodes:
        if isinstance(node, AffineNode):
            yield LayerRow(node, first.get(node.identifier))
        elif isinstance(node, ActivationNode) and (
            node.parent not in affine or first[node.parent] is not node
        ):
            yield LayerRow(None, node)
