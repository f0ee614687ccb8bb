"""Sections: Lemma 1, as a Hessian and as a Hessian-vector product that never forms it."""

from __future__ import annotations

from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.writer import Writer
from vercomp.ir.graph import Activate, Affine, Input
from vercomp.program import MapOf


def hessian_section(layout: Layout, writer: Writer) -> None:
    """``hessian(net, x, c)``: Σ_a B_zᵀ diag(F_a ⊙ σ″(z)) B_z."""
    curved = _upstream_of_activations(layout)
    writer.line("def hessian(net: Any, x: Tensor, c: Tensor) -> Tensor:")
    with writer.indented():
        writer.line('"""∇²(c·z) at flat points x (P, D), by Lemma 1: (P, D, D)."""')
        writer.line("A = maps(net)")
        _values(layout, writer)
        writer.comment("B: the Jacobian of each node, (P, n, D).")
        writer.line("B_x = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)")
        for node in layout.graph.nodes:
            name = layout.nodes[node.name]
            if node.name not in curved:
                continue
            if isinstance(node, Affine):
                terms = [
                    f"A.{field}.apply_to_rows(B_{parent})"
                    for field, parent in _fields(layout, node)
                ]
                writer.line(f"B_{name} = {' + '.join(terms)}")
            elif isinstance(node, Activate):
                parent = layout.nodes[node.parent]
                slope = f"{layout.function_of(node)}.first({parent})[:, :, None]"
                writer.line(f"B_{name} = {slope} * B_{parent}")
        writer.comment("F: the gradient of c·z with respect to each node, (P, n).")
        writer.line(
            "H = torch.zeros(len(x), x.shape[1], x.shape[1], dtype=x.dtype, device=x.device)"
        )
        output = layout.nodes[layout.graph.output]
        writer.line(f"F_{output} = c")
        arrived = {layout.graph.output}
        for node in reversed(layout.graph.nodes):
            if node.name not in arrived or isinstance(node, Input):
                continue
            name = layout.nodes[node.name]
            if isinstance(node, Affine):
                for field, parent in _fields(layout, node):
                    _add(writer, arrived, layout, parent, "F", f"A.{field}.adjoint(F_{name})")
            elif isinstance(node, Activate):
                function, parent = layout.function_of(node), layout.nodes[node.parent]
                writer.line(f"H += quadratic(B_{parent}, F_{name} * {function}.second({parent}))")
                _add(writer, arrived, layout, parent, "F", f"{function}.first({parent}) * F_{name}")
        writer.line("return H")


def product_section(layout: Layout, writer: Writer) -> None:
    """``hessian_vector_product(net, x, c, v)``: tangents forward, gradients and theirs back."""
    graph = layout.graph
    writer.line("def hessian_vector_product(net: Any, x: Tensor, c: Tensor, v: Tensor) -> Tensor:")
    with writer.indented():
        writer.line('"""∇²(c·z) v at flat points x (P, D) for directions v (P, D): (P, D)."""')
        writer.line("A = maps(net)")
        _values(layout, writer)
        writer.comment("d: the derivative of each node along v.")
        writer.line("d_x = v")
        for node in graph.nodes:
            name = layout.nodes[node.name]
            if isinstance(node, Affine):
                terms = [f"A.{field}.apply(d_{parent})" for field, parent in _fields(layout, node)]
                writer.line(f"d_{name} = {' + '.join(terms)}")
            elif isinstance(node, Activate):
                parent = layout.nodes[node.parent]
                writer.line(f"d_{name} = {layout.function_of(node)}.first({parent}) * d_{parent}")
        writer.comment(
            "F: the gradient of c·z with respect to each node; G: its derivative along v."
        )
        output = layout.nodes[graph.output]
        writer.line(f"F_{output} = c")
        writer.line(f"G_{output} = torch.zeros_like(c)")
        arrived, moved = {graph.output}, {graph.output}
        for node in reversed(graph.nodes):
            if node.name not in arrived or isinstance(node, Input):
                continue
            name = layout.nodes[node.name]
            if isinstance(node, Affine):
                for field, parent in _fields(layout, node):
                    if parent != "x":
                        _add(writer, arrived, layout, parent, "F", f"A.{field}.adjoint(F_{name})")
                    _add(writer, moved, layout, parent, "G", f"A.{field}.adjoint(G_{name})")
            elif isinstance(node, Activate):
                function, parent = layout.function_of(node), layout.nodes[node.parent]
                bent = f"{function}.second({parent}) * d_{parent} * F_{name}"
                turned = f"{function}.first({parent}) * G_{name}"
                _add(writer, moved, layout, parent, "G", f"{turned} + {bent}")
                _add(writer, arrived, layout, parent, "F", f"{function}.first({parent}) * F_{name}")
        writer.line("return G_x" if graph.input.name in moved else "return torch.zeros_like(x)")


def _values(layout: Layout, writer: Writer) -> None:
    """The value of every node on flat vectors."""
    for node in layout.graph.nodes:
        name = layout.nodes[node.name]
        if isinstance(node, Affine):
            terms = [f"A.{field}.apply({parent})" for field, parent in _fields(layout, node)]
            text = f"{name} = {' + '.join(terms)}"
            for offset in node.offsets:
                moved = layout.offset_vector(offset, "net")
                if not layout.is_plain(offset):
                    moved = f"({layout.operator(offset.map, 'net')}).apply({moved})"
                sign = "-" if offset.negate else "+"
                if writer.fits(f"{text} {sign} {moved}"):
                    text = f"{text} {sign} {moved}"
                else:
                    writer.line(text)
                    text = f"{name} = {name} {sign} {moved}"
            writer.line(text)
        elif isinstance(node, Activate):
            parent = layout.nodes[node.parent]
            writer.line(f"{name} = {layout.function_of(node)}.value({parent})")


def _fields(layout: Layout, node: Affine) -> list[tuple[str, str]]:
    return [
        (layout.map_field(MapOf(node.name, index)), layout.nodes[term.parent])
        for index, term in enumerate(node.terms)
    ]


def _upstream_of_activations(layout: Layout) -> frozenset[str]:
    """The nodes whose Jacobian some activation's summand needs: not those behind the last ones."""
    needed: set[str] = set()
    for node in reversed(layout.graph.nodes):
        if isinstance(node, Activate) or node.name in needed:
            needed.update(node.parents)
    return frozenset(needed)


def _add(
    writer: Writer, arrived: set[str], layout: Layout, parent: str, letter: str, text: str
) -> None:
    """``letter_parent += text``, or the first assignment to it."""
    source = next(name for name, identifier in layout.nodes.items() if identifier == parent)
    if source in arrived:
        writer.line(f"{letter}_{parent} = {letter}_{parent} + {text}")
    else:
        writer.line(f"{letter}_{parent} = {text}")
        arrived.add(source)
