"""Sections: maps and biases over the parameters, and the graph that they are put together to."""

from __future__ import annotations

from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.offsets import Spread, applied
from vercomp.backends.torch.writer import Writer
from vercomp.ir.graph import Activate, Affine, Input
from vercomp.ir.linear_maps import Composition, parts
from vercomp.ir.rewrite import concatenated_axis

_INLINE = 60
"""A longer product of operators is written one factor a line."""


def maps_section(layout: Layout, writer: Writer) -> None:
    """``Maps`` and ``maps(net)``: the A of every affine node, merged, over a network's weights."""
    fields = [
        (layout.map_field(node, index), term)
        for node in layout.graph.affine()
        for index, term in enumerate(node.terms)
    ]
    writer.line("class Maps(NamedTuple):")
    with writer.indented():
        writer.line('"""The linear map A of every affine node z = Σ A a + b, on flat vectors."""')
        if fields:
            writer.blank()
        for field, _ in fields:
            writer.line(f"{field}: Operator")
    writer.blank(2)
    writer.line("def maps(net: Any) -> Maps:")
    with writer.indented():
        writer.line('"""The maps over the parameters of ``net``: a Network, or live parameters."""')
        arguments = []
        for field, term in fields:
            factors = layout.operator_factors(term.map, "net")
            product = " @ ".join(factors)
            if len(product) > _INLINE and len(factors) > 1:
                _assign_product(writer, field, factors)
                product = field
            arguments.append(f"{field}={product}")
        writer.call("return Maps", arguments)


def biases_section(layout: Layout, writer: Writer) -> None:
    """``Biases`` and ``biases(net)``: the b of every affine node that has one, flat."""
    nodes = [node for node in layout.graph.affine() if node.offsets]
    writer.line("class Biases(NamedTuple):")
    with writer.indented():
        writer.line('"""The bias b of every affine node, as a row, and a bound of its rounding."""')
        if nodes:
            writer.blank()
        for node in nodes:
            writer.line(f"{layout.nodes[node.name]}: Rounded")
    writer.blank(2)
    writer.line("def biases(net: Any) -> Biases:")
    with writer.indented():
        writer.line('"""The biases over the parameters of ``net``."""')
        spreads = {node.name: [Spread.of(offset) for offset in node.offsets] for node in nodes}
        if any(_own_field(layout, node, s) for node in nodes for s in spreads[node.name]):
            writer.line("A = maps(net)")
        through = ""
        for node in nodes:
            name = layout.nodes[node.name]
            names = [layout.part(name, index) for index in range(len(node.offsets))]
            if len(names) == 1:
                names = [name]
            for row, offset in zip(names, spreads[node.name], strict=True):
                arguments = [offset.row(layout.read(offset.vector, "net"))]
                field = _own_field(layout, node, offset)
                if field is not None:
                    arguments.append(field)
                elif offset.rest:
                    factors = layout.operator_factors(Composition(offset.maps), "net")
                    if through != " @ ".join(factors):
                        _assign_product(writer, "M", factors)
                        through = " @ ".join(factors)
                    arguments.append("M")
                if offset.negate:
                    arguments.append("negate=True")
                writer.call(f"{row} = rounding.offset", arguments)
            if len(names) > 1:
                writer.call(f"{name} = rounding.total", [f"[{', '.join(names)}]"])
        writer.call("return Biases", [layout.nodes[node.name] for node in nodes])


def _own_field(layout: Layout, node: Affine, offset: Spread) -> str | None:
    """The map of the node that an offset goes through, where it is one of them."""
    for index, term in enumerate(node.terms):
        if offset.rest and offset.rest == applied(parts(term.map)):
            return f"A.{layout.map_field(node, index)}"
    return None


def _assign_product(writer: Writer, target: str, factors: list[str]) -> None:
    """A product in one statement where it is short, else a factor at a time."""
    product = " @ ".join(factors)
    if writer.fits(f"{target} = {product}"):
        writer.assign(target, product)
        return
    writer.assign(target, factors[0])
    for factor in factors[1:]:
        writer.assign(target, f"{target} @ {factor}")


def graph_section(layout: Layout, writer: Writer) -> None:
    """``graph(net)``: the nodes, which analyses walk."""
    biased = any(node.offsets for node in layout.graph.affine())
    writer.line("def graph(net: Any) -> Graph:")
    with writer.indented():
        writer.line('"""The nodes over those maps and biases: what analyses walk."""')
        if any(layout.graph.affine()):
            writer.line("A, b = maps(net), biases(net)" if biased else "A = maps(net)")
        lines = []
        for node in layout.graph.nodes:
            name, shape = layout.nodes[node.name], f"{node.shape!r}"
            if isinstance(node, Input):
                lines.append(f'Input("{name}", {shape})')
            elif isinstance(node, Affine):
                lines.append(_affine(layout, node, name, shape))
            elif isinstance(node, Activate):
                parent, function = layout.nodes[node.parent], layout.function_of(node)
                lines.append(f'Activate("{name}", {shape}, "{parent}", {function})')
        output = layout.nodes[layout.graph.output]
        nodes = ", ".join(lines) if len(lines) > 1 else f"{lines[0]},"
        writer.line(f'return Graph(({nodes}), "{output}")')


def _affine(layout: Layout, node: Affine, name: str, shape: str) -> str:
    terms = []
    for index, term in enumerate(node.terms):
        field = layout.map_field(node, index)
        terms.append(f'Term("{field}", A.{field}, "{layout.nodes[term.parent]}")')
    listed = f"({terms[0]},)" if len(terms) == 1 else f"({', '.join(terms)})"
    arguments = [f'"{name}"', shape, listed]
    if node.offsets:
        arguments.append(f"b.{name}")
    if concatenated_axis(node) is not None:
        arguments.append("disjoint=True")
    return f"Affine({', '.join(arguments)})"
