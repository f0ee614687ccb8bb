"""Lemma 1, as a Hessian and as a product with it that never forms it.

    ∇²f = Σ_a B_zᵀ diag(F_a ⊙ σ″(z)) B_z,     B_z = ∂z/∂x,   F_a = ∂f/∂a,     f = c·z_out,

with the sum over the activation nodes a = σ(z). Jacobians go forward by the chain rule, gradients
backward. Along a direction v the Hessian is the derivative of the gradient: tangents V = B v go
forward, and G = ∂F/∂x v comes back beside F.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any, ClassVar

from ..arithmetic.tensors import Tensors
from ..graph import Activate, Affine, Graph, Input
from ..walk import Domain, backward, forward, rule

Value = Any
"""A tensor, or the step that records it."""


def hessian(ops: Tensors, graph: Graph, x: Value, c: Value, identity: Value) -> Value | None:
    """∇²(c·z) at points x, (P, D, D); None where no activation is on the way to the output.

    Args:
        ops: The operations.
        graph: The graph; its activations have a σ″.
        x: Points, shape (P, D).
        c: Coefficients, shape (P, outputs).
        identity: The Jacobian ∂x/∂x, shape (D, D).
    """
    curved = _curved(graph)
    needed = graph.ancestors(*curved)
    values = forward(Values(ops, x), graph, only=needed)
    ops.note("B: the Jacobian of each node, (P, n, D).")
    jacobians = forward(Derivatives(ops, values, "B", identity, rows=True), graph, only=needed)
    ops.note("F: the gradient of c·z with respect to each node, (P, n).")
    gradients = backward(Gradients(ops, values, _behind(graph, curved)), graph, c)
    ops.note("The sum over the activations.")
    total = None
    for node in reversed(graph.nodes):
        if isinstance(node, Activate) and node.name in gradients:
            second = ops.second(node.function, values[node.parent])
            weights = ops.multiply(gradients[node.name], second)
            summand = ops.quadratic(jacobians[node.parent], weights)
            total = summand if total is None else ops.add(total, summand)
    return total


def hessian_product(ops: Tensors, graph: Graph, x: Value, c: Value, v: Value) -> Value | None:
    """∇²(c·z) v at points x for directions v, (P, D); None as for :func:`hessian`.

    Args:
        ops: The operations.
        graph: The graph; its activations have a σ″.
        x: Points, shape (P, D).
        c: Coefficients, shape (P, outputs).
        v: Directions, shape (P, D).
    """
    curved = _curved(graph)
    needed = graph.ancestors(*curved)
    values = forward(Values(ops, x), graph, only=needed)
    ops.note("V: the derivative of each node along v.")
    tangents = forward(Derivatives(ops, values, "V", v, rows=False), graph, only=needed)
    ops.note("F: the gradient of c·z with respect to each node.")
    gradients = backward(Gradients(ops, values, _behind(graph, curved)), graph, c)
    ops.note("G: the derivative of F along v.")
    turned = backward(TurnedGradients(ops, values, tangents, gradients), graph, None)
    return turned.get(graph.nodes[0].name)


class Values(Domain[Value]):
    """The value (P, n) of every node."""

    title = "flat values"

    def __init__(self, ops: Tensors, x: Value) -> None:
        self.ops, self.x = ops, x

    @rule(Input)
    def input(self, node: Input) -> Value:
        """The points themselves."""
        return self.x

    @rule(Affine)
    def affine(self, node: Affine, *parents: Value) -> Value:
        """z = Σ A a + b."""
        name = node.name if len(parents) == 1 and node.bias is None else ""
        parts = [
            self.ops.apply(term.map, a, name=name)
            for term, a in zip(node.terms, parents, strict=True)
        ]
        if node.bias is not None:
            parts.append(node.bias.value)
        return _total(self.ops, parts, node.name)

    @rule(Activate)
    def activation(self, node: Activate, z: Value) -> Value:
        """a = σ(z)."""
        return self.ops.value(node.function, z, name=node.name)


class Derivatives(Domain[Value]):
    """The chain rule forward: Jacobians (P, n, D), or tangents (P, n) along one direction.

    Args:
        ops: The operations.
        values: The values of the nodes.
        letter: What the derivatives are called.
        start: The derivative of the input.
        rows: Whether they are Jacobians.
    """

    title = "derivatives"

    def __init__(
        self, ops: Tensors, values: Mapping[str, Value], letter: str, start: Value, *, rows: bool
    ) -> None:
        self.ops, self.values, self.letter, self.start = ops, values, letter, start
        self.move = ops.apply_to_rows if rows else ops.apply
        self.scale = ops.multiply_rows if rows else ops.multiply

    @rule(Input)
    def input(self, node: Input) -> Value:
        """The derivative of the input, which the caller gives."""
        return self.start

    @rule(Affine)
    def affine(self, node: Affine, *parents: Value) -> Value:
        """Σ A B."""
        whole = f"{self.letter}_{node.name}"
        name = whole if len(parents) == 1 else ""
        parts = [
            self.move(term.map, b, name=name) for term, b in zip(node.terms, parents, strict=True)
        ]
        return _total(self.ops, parts, whole)

    @rule(Activate)
    def activation(self, node: Activate, b: Value) -> Value:
        """diag(σ′(z)) B."""
        slope = self.ops.first(node.function, self.values[node.parent])
        return self.scale(slope, b, name=f"{self.letter}_{node.name}")


class _Backward(Domain[Value]):
    """The rules that Gradients and TurnedGradients share; None stands for zero.

    Args:
        ops: The operations.
        values: The values of the nodes.
        wanted: The nodes whose results something asks for.
    """

    letter: ClassVar[str]

    def __init__(self, ops: Tensors, values: Mapping[str, Value], wanted: Container[str]) -> None:
        self.ops, self.values, self.wanted = ops, values, wanted

    @rule(Input)
    def input(self, node: Input, s: Value) -> Iterator[tuple[str, Value]]:
        """Nothing comes before the input."""
        return iter(())

    @rule(Affine)
    def affine(self, node: Affine, s: Value) -> Iterator[tuple[str, Value]]:
        """Aᵀ s."""
        for term in node.terms:
            name = f"{self.letter}_{term.parent}"
            if s is None:
                yield term.parent, None
            elif term.parent in self.wanted:
                yield term.parent, self.ops.adjoint(term.map, s, name=name)

    def join(self, name: str, one: Value, other: Value) -> Value:
        """Two paths to the same node are added."""
        if one is None or other is None:
            return other if one is None else one
        return self.ops.add(one, other, name=f"{self.letter}_{name}")


class Gradients(_Backward):
    """The gradient (P, n) of c·z with respect to every node; for arguments see the base."""

    title = "gradients"
    letter = "F"

    @rule(Activate)
    def activation(self, node: Activate, s: Value) -> Iterator[tuple[str, Value]]:
        """σ′(z) ⊙ s."""
        if node.parent in self.wanted:
            slope = self.ops.first(node.function, self.values[node.parent])
            yield node.parent, self.ops.multiply(slope, s, name=f"F_{node.parent}")


class TurnedGradients(_Backward):
    """The derivative of the gradient of every node along v.

    Args:
        ops: The operations.
        values: The values of the nodes.
        tangents: The derivatives of the nodes along v; every node that has one is wanted.
        gradients: The gradients of the nodes.
    """

    title = "derivatives of gradients"
    letter = "G"

    def __init__(
        self,
        ops: Tensors,
        values: Mapping[str, Value],
        tangents: Mapping[str, Value],
        gradients: Mapping[str, Value],
    ) -> None:
        super().__init__(ops, values, tangents)
        self.tangents, self.gradients = tangents, gradients

    @rule(Activate)
    def activation(self, node: Activate, g: Value) -> Iterator[tuple[str, Value]]:
        """σ′(z) ⊙ G + σ″(z) ⊙ V ⊙ F."""
        ops, z, name = self.ops, self.values[node.parent], f"G_{node.parent}"
        second = ops.second(node.function, z)
        bend = ops.multiply(second, self.tangents[node.parent])
        if g is None:
            yield node.parent, ops.multiply(bend, self.gradients[node.name], name=name)
        else:
            moved = ops.multiply(ops.first(node.function, z), g, name=name)
            turned = ops.multiply(bend, self.gradients[node.name])
            yield node.parent, ops.add(moved, turned, name=name)


def _curved(graph: Graph) -> list[str]:
    """The activations on which the output depends."""
    living = {graph.output, *graph.ancestors(graph.output)}
    return [node.name for node in graph.nodes if isinstance(node, Activate) and node.name in living]


def _behind(graph: Graph, curved: list[str]) -> frozenset[str]:
    """The activations given, and the nodes that depend on one of them."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.name in curved or any(parent in found for parent in node.parents):
            found.add(node.name)
    return frozenset(found)


def _total(ops: Tensors, parts: list[Value], name: str) -> Value:
    """The sum of one or more values, under a name."""
    total = parts[0]
    for index, part in enumerate(parts[1:], 2):
        total = ops.add(total, part, name=name if index == len(parts) else "")
    return total
