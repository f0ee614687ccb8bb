"""Section: the Network class, its parameters and its forward pass in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

from vercomp.backends.torch import rules
from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.writer import Writer
from vercomp.ir.graph import Activate, Affine, Offset
from vercomp.ir.linear_maps import Dense, LinearMap, Parameter, Reshape
from vercomp.program import MapOf

_TYPES = {"torch.float64": ", dtype=torch.float64"}


def parameter_lines(layout: Layout, writer: Writer) -> None:
    """The constructor's declarations, each with the source's own name behind it."""
    for parameter in layout.graph.parameters():
        name = layout.parameters[parameter.name]
        dtype = layout.dtype if parameter.trainable else parameter.value.dtype
        empty = f"torch.empty({_sizes(parameter)}{_TYPES.get(str(dtype), '')})"
        if parameter.trainable:
            writer.line(f"self.{name} = nn.Parameter({empty})")
        else:
            writer.line(f'self.register_buffer("{name}", {empty})')


def forward_lines(layout: Layout, writer: Writer) -> None:
    """The body of ``forward``: a statement or two for each node."""
    for node in layout.graph.nodes:
        name = layout.nodes[node.name]
        if isinstance(node, Affine):
            value = _affine(layout, writer, node, name)
        elif isinstance(node, Activate):
            value = f"{layout.function_of(node)}.value({layout.nodes[node.parent]})"
        else:
            continue
        if node.name == layout.graph.output:
            writer.line(f"return {value}")
        else:
            writer.assign(name, value)


def _affine(layout: Layout, writer: Writer, node: Affine, name: str) -> str:
    """z = Σ A a + b, with every offset added where its map allows: (x − mean) / std, not W·mean."""
    remaining = list(node.offsets)
    summands = []
    for index, term in enumerate(node.terms):
        # One term takes the offsets that share the tail of its map; several terms share a bias.
        target = layout.map_field(MapOf(node.name, index))
        shared = remaining if index == 0 else []
        expression = _term(layout, writer, term.map, layout.nodes[term.parent], shared, target)
        if len(node.terms) > 1:
            writer.assign(target, expression)
            expression = target
        summands.append(expression)
    total = " + ".join(summands)
    for offset in remaining:
        moved = layout.offset_vector(offset, "self")
        if not layout.is_plain(offset):
            factors = layout.operator_factors(offset.map, "self")
            writer.assign("A", " @ ".join(factors))
            moved = f"A.apply({moved})"
        if len(node.shape) > 1:
            moved = f"{moved}.reshape({', '.join(map(str, node.shape))})"
        longer = f"{total} {'-' if offset.negate else '+'} {moved}"
        if not writer.fits(f"{name} = {longer}") and total != name:
            writer.assign(name, total)
            longer = f"{name} {'-' if offset.negate else '+'} {moved}"
        total = longer
    return total


def _term(
    layout: Layout,
    writer: Writer,
    linear_map: LinearMap,
    x: str,
    offsets: list[Offset],
    target: str,
) -> str:
    """The expression of A x + the offsets it can absorb, which leave the list."""

    def read(parameter: Parameter) -> str:
        return layout.read(parameter, "self")

    expression = x
    chain = rules.parts(linear_map)
    for position in range(len(chain) + 1):
        for offset in _absorbed(chain[position:], offsets):
            sign = "-" if offset.negate else "+"
            expression = f"{expression} {sign} {read(offset.vector)}"
            offsets.remove(offset)
        if position == len(chain):
            break
        part = chain[position]
        rest = chain[position + 1 :]
        bias = _bias(layout, rest, offsets) if _takes_bias(part) else None
        if bias is not None:
            offsets.remove(bias)
        following = rules.forward(layout.map_rules, part, expression, read)
        if bias is not None:
            vector = layout.offset_vector(bias, "self")
            following = f"{following[:-1]}, {vector})"
        if not writer.fits(f"{target} = {following}") and expression != target:
            writer.assign(target, expression)
            following = rules.forward(layout.map_rules, part, target, read)
            if bias is not None:
                following = f"{following[:-1]}, {vector})"
        expression = following
    return expression


def _absorbed(rest: Sequence[LinearMap], offsets: Sequence[Offset]) -> list[Offset]:
    """The offsets that are added just here: what is still to come is exactly their map."""
    return [offset for offset in offsets if _same(rest, offset)]


def _bias(layout: Layout, rest: Sequence[LinearMap], offsets: Sequence[Offset]) -> Offset | None:
    """A vector that F.linear can add itself: nothing but reshapes comes after it."""
    if any(not isinstance(part, Reshape) for part in rest):
        return None
    found = (offset for offset in offsets if layout.is_plain(offset) and not offset.negate)
    return next(found, None)


def _same(rest: Sequence[LinearMap], offset: Offset) -> bool:
    moved = tuple(p for p in rules.parts(offset.map) if p.in_shape != p.out_shape or _acts(p))
    return moved == tuple(rest)


def _acts(part: LinearMap) -> bool:
    """Whether a part changes anything: identities are reshapes to the same shape."""
    return bool(part.parameters()) or not str(part).startswith("reshape")


def _takes_bias(part: LinearMap) -> bool:
    return isinstance(part, Dense) and not part.transposed


def _sizes(parameter: Parameter) -> str:
    return ", ".join(map(str, parameter.shape)) if parameter.shape else "()"
