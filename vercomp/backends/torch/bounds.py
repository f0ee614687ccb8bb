"""Sections: the maps and biases, the curvature program, the evaluation that bounds its rounding."""

from __future__ import annotations

from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.offsets import Spread, applied
from vercomp.backends.torch.writer import Writer
from vercomp.ir.graph import Activate, Affine, Input
from vercomp.ir.linear_maps import Composition, parts
from vercomp.program import STATEFUL, ConstantOf, MapOf, Operand, ProductOf, SideBySideOf


def maps_section(layout: Layout, writer: Writer) -> None:
    """``Maps`` and ``maps(net)``: the A of every affine node, merged, over a network's weights."""
    fields = [
        (layout.map_field(MapOf(node.name, index)), term)
        for node in layout.graph.affine()
        for index, term in enumerate(node.terms)
    ]
    writer.line("class Maps(NamedTuple):")
    with writer.indented():
        writer.line('"""The linear map A of every affine node z = Σ A a + b, on flat vectors."""')
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
            return f"A.{layout.map_field(MapOf(node.name, index))}"
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


def curvature_section(layout: Layout, writer: Writer) -> None:
    """``curvature(ops, net, c)``: the bound program, a line a step."""
    writer.line("def curvature(ops: Arithmetic, net: Any, c: Tensor) -> Bound:")
    with writer.indented():
        writer.lines(_CURVATURE_DOC)
        writer.line("A = maps(net)")
        for block in layout.program.blocks:
            if block.formula:
                writer.comment(block.formula)
            for step in block.steps:
                arguments = [_operand(layout, operand) for operand in step.operands]
                if step.operation in STATEFUL:
                    arguments.append(f'"{step.result.name}"')
                writer.call(f"{step.result.name} = ops.{step.operation}", arguments)
        norms = [
            f'"{layout.map_field(map_of)}": {value.name}'
            for map_of, value in layout.program.norms.items()
        ]
        shares = [
            f'"{layout.nodes[name]}": {value.name}' for name, value in layout.program.shares.items()
        ]
        writer.call("norms = ", norms, brackets="{}")
        writer.call("shares: dict[str, Tensor] = ", shares, brackets="{}")
        program = layout.program
        results = [program.curvature.name, program.lipschitz.name, "norms", "shares"]
        writer.call("return Bound", results)


def linearize_section(layout: Layout, writer: Writer) -> None:
    """``linearize(net, norms, x, c)``: value and gradient in float64, with their errors."""
    graph = layout.graph
    writer.call(
        "def linearize",
        ["net: Any", "norms: Mapping[str, float]", "x: Tensor", "c: Tensor"],
        " -> Linearization:",
    )
    with writer.indented():
        writer.line('"""f = c·z(x) and ∇f at flat points x (P, D), with bounds of the rounding."""')
        writer.line("A = maps(net)")
        if any(node.offsets for node in graph.affine()):
            writer.line("b = biases(net)")
        for node in graph.nodes:
            name = layout.nodes[node.name]
            if isinstance(node, Input):
                writer.line(f"z_{name} = rounding.exact(x)")
            elif isinstance(node, Affine):
                _affine(layout, writer, node)
            elif isinstance(node, Activate):
                function = layout.function_of(node)
                parent = f"z_{layout.nodes[node.parent]}"
                writer.line(f"z_{name} = rounding.activation({function}, {parent})")
        output = layout.nodes[graph.output]
        writer.line(f"f = rounding.dot(c, z_{output})")
        writer.comment("Backward: s is the gradient of f with respect to each node.")
        arrived: dict[str, str] = {}
        writer.line(f"s_{output} = rounding.exact(c)")
        arrived[graph.output] = f"s_{output}"
        for node in reversed(graph.nodes):
            if node.name not in arrived or isinstance(node, Input):
                continue
            gradient = arrived[node.name]
            if isinstance(node, Affine):
                for index, term in enumerate(node.terms):
                    field = layout.map_field(MapOf(node.name, index))
                    _send(
                        layout,
                        writer,
                        arrived,
                        term.parent,
                        f'rounding.adjoint(A.{field}, norms["{field}"], {gradient})',
                    )
            elif isinstance(node, Activate):
                function = layout.function_of(node)
                value = f"z_{layout.nodes[node.parent]}"
                _send(
                    layout,
                    writer,
                    arrived,
                    node.parent,
                    f"rounding.chain({function}, {value}, {gradient})",
                )
        gradient = arrived.get(graph.input.name, "rounding.exact(torch.zeros_like(x))")
        if gradient != "s_x":
            writer.line(f"s_x = {gradient}")
        writer.line("return Linearization(f.value[..., 0], s_x.value, f.error, s_x.error)")


def _affine(layout: Layout, writer: Writer, node: Affine) -> None:
    name = layout.nodes[node.name]
    summands = []
    for index, term in enumerate(node.terms):
        field = layout.map_field(MapOf(node.name, index))
        argument = f"z_{layout.nodes[term.parent]}"
        summands.append(f'Summand(A.{field}, norms["{field}"], {argument})')
    arguments = [f"[{', '.join(summands)}]"] + ([f"b.{name}"] if node.offsets else [])
    writer.call(f"z_{name} = rounding.affine", arguments)


def _send(layout: Layout, writer: Writer, arrived: dict[str, str], parent: str, text: str) -> None:
    """Write one contribution to a parent's gradient, added to what has arrived there."""
    target = f"s_{layout.nodes[parent]}"
    if parent in arrived:
        writer.line(f"{target} = rounding.total([{target}, {text}])")
    else:
        writer.line(f"{target} = {text}")
        arrived[parent] = target


def _operand(layout: Layout, operand: Operand) -> str:
    if isinstance(operand, MapOf):
        return f"A.{layout.map_field(operand)}"
    if isinstance(operand, ProductOf):
        return " @ ".join(f"A.{layout.map_field(map_of)}" for map_of in operand.maps)
    if isinstance(operand, SideBySideOf):
        fields = ", ".join(f"A.{layout.map_field(map_of)}" for map_of in operand.maps)
        return f"SideBySide(({fields}))"
    if isinstance(operand, ConstantOf):
        node = layout.graph.node(operand.activation)
        assert isinstance(node, Activate)  # noqa: S101 - the program was made from this graph
        return f"{layout.function_of(node)}.{operand.which}"
    return operand.name


_INLINE = 60
"""A longer product of operators is written one factor a line."""

_CURVATURE_DOC = '''\
"""κ with ∇²(c·z) ≽ −κI, and L with ‖∇(c·z)‖ ≤ L, for every input and each row of c (P, C).

``ops`` is the arithmetic: rigorous for certificates, differentiable for training.
"""
'''
