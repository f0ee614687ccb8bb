"""Section: the Network class, its parameters and its forward pass in plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from vercomp.backends.torch.chains import Chain, joined, joined_apart
from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.offsets import Spread
from vercomp.backends.torch.writer import Writer
from vercomp.ir.graph import Activate, Affine, Graph
from vercomp.ir.linear_maps import Parameter, Shape, Sum, parts
from vercomp.ir.rewrite import concatenated_axis

_TYPES = {"torch.float64": ", dtype=torch.float64"}


def parameter_lines(layout: Layout, writer: Writer) -> None:
    """The constructor's declarations, each with the source's own name behind it."""
    for parameter in _by_module(layout.stored):
        name = layout.parameters[parameter.name]
        dtype = layout.dtype if parameter.trainable else parameter.value.dtype
        empty = f"torch.empty({_sizes(parameter)}{_TYPES.get(str(dtype), '')})"
        if parameter.trainable:
            writer.line(f"self.{name} = nn.Parameter({empty})")
        else:
            writer.line(f'self.register_buffer("{name}", {empty})')


def forward_lines(layout: Layout, writer: Writer) -> None:
    """The body of ``forward``: a statement or two for each layer and activation."""
    graph, speller = layout.printed, _Speller(layout, writer)
    for node in graph.nodes:
        name = layout.values[node.name]
        if isinstance(node, Affine):
            value = speller.affine(node, name)
        elif isinstance(node, Activate):
            value = f"{layout.function_of(node)}.value({layout.values[node.parent]})"
        else:
            continue
        if node.name == graph.output:
            writer.line(f"return {value}")
        elif _is_summand(graph, node):
            speller.summands[node.name] = value
        else:
            writer.assign(name, value)
    if graph.output == graph.input.name:
        writer.line(f"return {layout.values[graph.output]}")


def _is_summand(graph: Graph, node: Affine | Activate) -> bool:
    """Whether a chain of maps is read once, by a sum or a concatenation: it stands in its line."""
    readers = graph.children(node.name)
    if not isinstance(node, Affine) or len(node.terms) > 1 or len(readers) != 1:
        return False
    return len(readers[0].parents) > 1 and readers[0].parents.count(node.name) == 1


class _Speller:
    """Spells affine nodes: z = Σ A a + b with every offset where it belongs.

    (x − mean) / std rather than x / std − mean / std, and a layer's own bias as the argument that
    its function has for it.
    """

    def __init__(self, layout: Layout, writer: Writer) -> None:
        self.layout = layout
        self.writer = writer
        self.read = partial(layout.read, owner="self")
        self.summands: dict[str, str] = {}

    def affine(self, node: Affine, name: str) -> str:
        """The expression of a node, after the statements that lead to it."""
        offsets = [Spread.of(offset) for offset in node.offsets]
        axis = concatenated_axis(node)
        chains = []
        for index, term in enumerate(node.terms):
            target = self.layout.part(name, index) if len(node.terms) > 1 else name
            maps = parts(term.map)
            behind = maps[-1:] if axis is not None else ()
            applied = maps[: len(maps) - len(behind)]
            chain = Chain(self.layout, self.writer, target, applied, behind, ends=axis is not None)
            value = self.layout.values[term.parent]
            chains.append((chain, self.summands.get(term.parent, value)))
        total = joined(self.writer, chains, offsets, name, axis)
        if total is None:
            for index, term in enumerate(node.terms):
                if term.parent in self.summands:
                    value = self.layout.values[term.parent]
                    self.writer.assign(value, self.summands[term.parent])
                    chains[index] = (chains[index][0], value)
            total = joined(self.writer, chains, offsets, name, axis)
        if total is None:
            long = [chain for chain, _ in chains if not chain.expression.isidentifier()]
            if len(long) == 1:  # beside skips alone: it may have the node's own name
                long[0].target = name
            total = joined_apart(self.writer, chains, offsets, axis)
        for index, offset in enumerate(offsets):
            target = self.layout.part(f"{name}_bias", index)
            total = self._added(total, offset, name, target, node.shape)
        return total

    def _added(self, total: str, offset: Spread, name: str, target: str, shape: Shape) -> str:
        """The expression plus a bias that found no place in a chain, behind the maps it has."""
        read = self.read(offset.vector)
        if not offset.rest:
            moved = offset.summand(read, shape)
        else:
            chain = Chain(self.layout, self.writer, target, offset.maps)
            moved = chain.spelled(offset.batch(read), [])
            moved = f"({moved})" if isinstance(offset.maps[-1], Sum) else moved
        longer = f"{total} {offset.sign} {moved}"
        if not self.writer.fits(f"{name} = {longer}") and total != name:
            self.writer.assign(name, total)
            longer = f"{name} {offset.sign} {moved}"
        return longer


def _by_module(parameters: Sequence[Parameter]) -> list[Parameter]:
    """The parameters module by module; in each module the trainable ones come first."""
    modules = list(dict.fromkeys(p.name.rpartition(".")[0] or p.name for p in parameters))

    def place(parameter: Parameter) -> tuple[int, bool]:
        module = parameter.name.rpartition(".")[0] or parameter.name
        return modules.index(module), not parameter.trainable

    return sorted(parameters, key=place)


def _sizes(parameter: Parameter) -> str:
    return ", ".join(map(str, parameter.shape)) if parameter.shape else "()"
