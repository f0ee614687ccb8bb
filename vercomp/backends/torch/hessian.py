"""Sections: Lemma 1, as a Hessian and as a Hessian-vector product that never forms it."""

from __future__ import annotations

from collections.abc import Iterator

import networkx as nx

from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.writer import Writer
from vercomp.ir.graph import Activate, Affine, Node
from vercomp.program import MapOf


def hessian_section(layout: Layout, writer: Writer) -> None:
    """``hessian_matrix(net, x, c)``: Σ_a B_zᵀ diag(F_a ⊙ σ″(z)) B_z."""
    needed = _read_by_activations(layout)
    writer.line("def hessian_matrix(net: Any, x: Tensor, c: Tensor) -> Tensor:")
    with writer.indented():
        writer.line('"""∇²(c·z) at flat points x (P, D), by Lemma 1: (P, D, D)."""')
        writer.line("P, D = x.shape")
        zeros = "torch.zeros(P, D, D, dtype=x.dtype, device=x.device)"
        if not needed:
            writer.line(f"return {zeros}")
            return
        writer.assign("H", zeros)
        _values(layout, writer, needed)
        writer.comment("B: the Jacobian of each node, (P, n, D).")
        writer.line("B_x = torch.eye(D, dtype=x.dtype, device=x.device)")
        _derivatives(layout, writer, needed, "B", "apply_to_rows", "[:, :, None]")
        writer.comment("F: the gradient of c·z with respect to each node, (P, n).")
        back = _Backward(layout, writer, "F")
        back.start("c")
        for node in back.nodes():
            if isinstance(node, Affine):
                back.through_affine(node)
            elif isinstance(node, Activate):
                function, parent = layout.function_of(node), layout.nodes[node.parent]
                name = layout.nodes[node.name]
                writer.line(f"H += quadratic(B_{parent}, F_{name} * {function}.second({parent}))")
                back.send(node.parent, f"{function}.first({parent}) * F_{name}")
        writer.line("return H")


def product_section(layout: Layout, writer: Writer) -> None:
    """``hessian_product(net, x, c, v)``: tangents forward, gradients and theirs back."""
    needed = _read_by_activations(layout)
    writer.line("def hessian_product(net: Any, x: Tensor, c: Tensor, v: Tensor) -> Tensor:")
    with writer.indented():
        writer.line('"""∇²(c·z) v at flat points x (P, D) for directions v (P, D): (P, D)."""')
        if not needed:
            writer.line("return torch.zeros_like(v)")
            return
        _values(layout, writer, needed)
        writer.comment("V: the derivative of each node along v.")
        writer.line("V_x = v")
        _derivatives(layout, writer, needed, "V", "apply", "")
        writer.comment(
            "F: the gradient of c·z with respect to each node; G: its derivative along v."
        )
        back = _Backward(layout, writer, "F")
        turned = _Backward(layout, writer, "G", to_input=True)
        back.start("c")
        for node in back.nodes():
            name = layout.nodes[node.name]
            if isinstance(node, Affine):
                back.through_affine(node)
                turned.through_affine(node)
            elif isinstance(node, Activate):
                function, parent = layout.function_of(node), layout.nodes[node.parent]
                if node.name in turned.arrived:
                    turned.send(node.parent, f"{function}.first({parent}) * G_{name}")
                turned.send(node.parent, f"{function}.second({parent}) * V_{parent} * F_{name}")
                back.send(node.parent, f"{function}.first({parent}) * F_{name}")
        writer.return_last("G_x")


class _Backward:
    """Writes what is sent from node to parent, under one letter."""

    def __init__(
        self, layout: Layout, writer: Writer, letter: str, *, to_input: bool = False
    ) -> None:
        self.layout = layout
        self.writer = writer
        self.letter = letter
        self.arrived: set[str] = set()
        activations = [node.name for node in layout.graph.activations()]
        network = layout.graph.network()
        curved = {*activations}.union(*(nx.descendants(network, name) for name in activations))
        # Gradients matter where an activation is still to come, on the way to the input.
        self.wanted = {n.name for n in layout.graph.nodes} if to_input else curved

    def start(self, value: str) -> None:
        """Begin at the output."""
        output = self.layout.graph.output
        self.writer.line(f"{self.letter}_{self.layout.nodes[output]} = {value}")
        self.arrived.add(output)

    def nodes(self) -> Iterator[Node]:
        """All nodes from the output back; every one lies on the way to it."""
        return reversed(self.layout.graph.nodes)

    def through_affine(self, node: Affine) -> None:
        """Aᵀ of what has arrived at an affine node, to each parent."""
        if node.name in self.arrived:
            source = f"{self.letter}_{self.layout.nodes[node.name]}"
            for index, term in enumerate(node.terms):
                field = self.layout.map_field(MapOf(node.name, index))
                self.send(term.parent, f"A.{field}.adjoint({source})")

    def send(self, parent: str, text: str) -> None:
        """One contribution to a parent, added to what has arrived there."""
        if parent not in self.wanted:
            return
        target = f"{self.letter}_{self.layout.nodes[parent]}"
        total = f"{target} + {text}" if parent in self.arrived else text
        self.writer.line(f"{target} = {total}")
        self.arrived.add(parent)


def _values(layout: Layout, writer: Writer, needed: frozenset[str]) -> None:
    """The values that activations read, on flat vectors."""
    writer.line("A = maps(net)")
    if any(node.offsets for node in layout.graph.affine() if node.name in needed):
        writer.line("b = biases(net)")
    for node in layout.graph.nodes:
        name = layout.nodes[node.name]
        if node.name in needed and isinstance(node, Affine):
            terms = [f"A.{field}.apply({parent})" for field, parent in _fields(layout, node)]
            bias = [f"b.{name}.value"] if node.offsets else []
            writer.assign_sum(name, [*terms, *bias])
        elif node.name in needed and isinstance(node, Activate):
            parent = layout.nodes[node.parent]
            writer.line(f"{name} = {layout.function_of(node)}.value({parent})")


def _derivatives(
    layout: Layout, writer: Writer, needed: frozenset[str], letter: str, apply: str, widen: str
) -> None:
    """The chain rule forward, from the input's derivative, under one letter."""
    for node in layout.graph.nodes:
        target = f"{letter}_{layout.nodes[node.name]}"
        if node.name in needed and isinstance(node, Affine):
            terms = [f"A.{f}.{apply}({letter}_{p})" for f, p in _fields(layout, node)]
            writer.assign_sum(target, terms)
        elif node.name in needed and isinstance(node, Activate):
            parent = layout.nodes[node.parent]
            slope = f"{layout.function_of(node)}.first({parent}){widen}"
            writer.line(f"{target} = {slope} * {letter}_{parent}")


def _fields(layout: Layout, node: Affine) -> list[tuple[str, str]]:
    return [
        (layout.map_field(MapOf(node.name, index)), layout.nodes[term.parent])
        for index, term in enumerate(node.terms)
    ]


def _read_by_activations(layout: Layout) -> frozenset[str]:
    """The nodes that lead to some activation: what comes after the last ones has no curvature."""
    network = layout.graph.network()
    found = (nx.ancestors(network, node.name) for node in layout.graph.activations())
    return frozenset().union(*found)
