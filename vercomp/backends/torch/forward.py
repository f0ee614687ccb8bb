"""Section: the Network class, its parameters and its forward pass in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from vercomp.backends.torch import rules
from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.offsets import Spread, applied, collected
from vercomp.backends.torch.spelling import call, viewed
from vercomp.backends.torch.writer import Writer
from vercomp.ir.graph import Activate, Affine
from vercomp.ir.linear_maps import LinearMap, Parameter, Reshape, Scale, Shape, Sum
from vercomp.ir.normalisation import DivideByDeviation
from vercomp.ir.rewrite import concatenated_axis, parts
from vercomp.program import MapOf

_TYPES = {"torch.float64": ", dtype=torch.float64"}


def parameter_lines(layout: Layout, writer: Writer) -> None:
    """The constructor's declarations, each with the source's own name behind it."""
    for parameter in _by_module(layout.graph.parameters()):
        name = layout.parameters[parameter.name]
        dtype = layout.dtype if parameter.trainable else parameter.value.dtype
        empty = f"torch.empty({_sizes(parameter)}{_TYPES.get(str(dtype), '')})"
        if parameter.trainable:
            writer.line(f"self.{name} = nn.Parameter({empty})")
        else:
            writer.line(f'self.register_buffer("{name}", {empty})')


def forward_lines(layout: Layout, writer: Writer) -> None:
    """The body of ``forward``: a statement or two for each node."""
    speller = _Speller(layout, writer)
    for node in layout.graph.nodes:
        name = layout.nodes[node.name]
        if isinstance(node, Affine):
            value = speller.affine(node, name)
        elif isinstance(node, Activate):
            value = f"{layout.function_of(node)}.value({layout.nodes[node.parent]})"
        else:
            continue
        if node.name == layout.graph.output:
            writer.line(f"return {value}")
        else:
            writer.assign(name, value)


class _Speller:
    """Spells affine nodes: z = Σ A a + b with every offset where it belongs.

    (x − mean) / std rather than x / std − mean / std, and a layer's own bias as the argument that
    its function has for it.
    """

    def __init__(self, layout: Layout, writer: Writer) -> None:
        self.layout = layout
        self.writer = writer
        self.read = partial(layout.read, owner="self")

    def affine(self, node: Affine, name: str) -> str:
        """The expression of a node, after the statements that lead to it."""
        offsets = [Spread.of(offset) for offset in node.offsets]
        axis = concatenated_axis(node)
        chains = []
        for index, term in enumerate(node.terms):
            target = self.layout.map_field(MapOf(node.name, index))
            maps = parts(term.map)
            offsets = collected(offsets, maps)
            behind = maps[-1:] if axis is not None else ()
            chain = _Chain(self, target, maps[: len(maps) - len(behind)], behind)
            chain.ends = axis is not None
            chains.append((chain, self.layout.nodes[term.parent]))
        total = self.joined(chains, offsets, name, axis)
        if total is None:
            long = [chain for chain, _ in chains if not chain.expression.isidentifier()]
            if len(long) == 1:  # beside skips alone: it may have the node's own name
                long[0].target = name
            total = self.joined_apart(chains, offsets, axis)
        for index, offset in enumerate(offsets):
            target = self.layout.part(f"{name}_bias", index)
            total = self._added(total, offset, name, target, node.shape)
        return total

    def joined(
        self,
        chains: Sequence[tuple[_Chain, str]],
        offsets: list[Spread],
        name: str,
        axis: int | None = None,
    ) -> str | None:
        """All chains in one line, added or concatenated, or None where they are longer."""
        left = list(offsets)
        fitting = [chain.fits(x, left) for chain, x in chains]
        if not all(fitting):
            return None
        total = _together((chain.expression for chain, _ in chains), axis)
        if len(chains) > 1 and not self.writer.fits(f"{name} = {total}"):
            return None
        offsets[:] = left
        return total

    def joined_apart(
        self,
        chains: Sequence[tuple[_Chain, str]],
        offsets: list[Spread],
        axis: int | None = None,
    ) -> str:
        """The same after a statement or more for each of several chains."""
        values = []
        for chain, x in chains:
            value = chain.spelled(x, offsets)
            if len(chains) > 1 and not value.isidentifier():
                self.writer.assign(chain.target, value)
                value = chain.target
            values.append(value)
        return _together(values, axis)

    def _added(self, total: str, offset: Spread, name: str, target: str, shape: Shape) -> str:
        """What is left of a bias at the end of a node, through its maps where it has some."""
        read = self.read(offset.vector)
        if offset.rest:
            moved = _Chain(self, target, offset.maps, ()).spelled(offset.batch(read), [])
        else:
            moved = offset.summand(read, shape)
        longer = f"{total} {offset.sign} {moved}"
        if not self.writer.fits(f"{name} = {longer}") and total != name:
            self.writer.assign(name, total)
            longer = f"{name} {offset.sign} {moved}"
        return longer


class _Chain:
    """One chain of maps, on one line where it fits, else a statement at a time.

    Args:
        speller: Whose rules, names and writer it uses.
        target: The variable that statements assign to.
        maps: The maps, in order.
        behind: What the result goes through before it is part of its node.
    """

    ends = False
    """Whether offsets that come right behind the last map belong here, not to the node."""

    def __init__(
        self,
        speller: _Speller,
        target: str,
        maps: Sequence[LinearMap],
        behind: Sequence[LinearMap],
    ) -> None:
        self.speller = speller
        self.rules = speller.layout.map_rules
        self.target = target
        self.maps = tuple(maps)
        self.behind = tuple(behind)
        self.split = False
        self.fails = False
        self.expression = ""
        self.after_layer = False

    def spelled(self, x: str, offsets: list[Spread]) -> str:
        """The expression of the chain on x, with offsets that belong in it: they leave the list."""
        if not self.fits(x, offsets):
            self.split = True
            self._spell(x, offsets)
        return self.expression

    def fits(self, x: str, offsets: list[Spread]) -> bool:
        """Whether all of it is one expression that fits on a line; then offsets leave the list."""
        left = list(offsets)
        self._spell(x, left)
        if self.fails or not self.speller.writer.fits(f"{self.target} = {self.expression}"):
            return False
        offsets[:] = left
        return True

    def _spell(self, x: str, offsets: list[Spread]) -> None:
        self.expression, self.after_layer, self.fails = x, False, False
        position = 0
        while position < len(self.maps):
            part, before = self.maps[position], position
            position += self._batch_norm(position, offsets)
            if position > before:
                continue
            for offset in self._here(position, part.in_shape, offsets):
                self._add(offset, part.in_shape)
                offsets.remove(offset)
            if isinstance(part, Sum):
                self._sum(part, position, offsets)
            else:
                self._apply(part, position, offsets)
            position += 1
        if self.ends:
            shape = self.behind[0].in_shape
            for offset in self._here(position, shape, offsets):
                self._add(offset, shape)
                offsets.remove(offset)

    def _then(self, make: Callable[[str], str], *, apart: bool = False) -> None:
        """Go on from the expression so far, in a statement of its own where it is long or apart."""
        longer = make(self.expression)
        if not self.expression.isidentifier():
            repeats = longer.count(self.expression) > 1
            fits = self.speller.writer.fits(f"{self.target} = {longer}")
            if self.split and (repeats or apart or not fits):
                self.speller.writer.assign(self.target, self.expression)
                longer = make(self.target)
            self.fails = self.fails or repeats
        self.expression = longer

    def _apply(self, part: LinearMap, position: int, offsets: list[Spread]) -> None:
        """One map, with the bias that its function adds."""
        axis = rules.bias_axis(self.rules, part)
        bias = None
        if axis is not None:
            bias = self._along(position + 1, axis, part.out_shape, offsets, negate=False)
        read = self.speller.read

        def make(x: str) -> str:
            return rules.forward(self.rules, part, x, read, bias)

        self._then(make, apart=self.after_layer and not isinstance(part, Reshape))
        self.after_layer = axis is not None

    def _add(self, offset: Spread, shape: Shape) -> None:
        text = offset.summand(self.speller.read(offset.vector), shape)
        self._then(lambda x: f"{x} {offset.sign} {text}", apart=self.after_layer)
        self.after_layer = False

    def _sum(self, part: Sum, position: int, offsets: list[Spread]) -> None:
        """Parallel paths from one tensor, which needs a name."""
        if not self.expression.isidentifier():
            if not self.split:
                self.fails = True
                return
            self.speller.writer.assign(self.target, self.expression)
            self.expression = self.target
        behind = (*self.maps[position + 1 :], *self.behind)
        chains = []
        for index, summand in enumerate(part.maps):
            target = self.speller.layout.part(self.target, index)
            chain = _Chain(self.speller, target, parts(summand), behind)
            chains.append((chain, self.expression))
        total = self.speller.joined(chains, offsets, self.target)
        if total is None and self.split:
            total = self.speller.joined_apart(chains, offsets)
        self.fails = self.fails or total is None
        self.expression, self.after_layer = total or self.target, False

    def _batch_norm(self, position: int, offsets: list[Spread]) -> int:
        """F.batch_norm for the maps and offsets that are one; how many maps that were."""
        part = self.maps[position]
        if not isinstance(part, DivideByDeviation):
            return 0
        variance = _channels(part.variance, part.view, part.shape, self.speller.read)
        left = list(offsets)
        mean = self._along(position, 0, part.shape, left, negate=True)
        if variance is None or mean is None or self._here(position, part.shape, left):
            return 0
        weight, count = None, 1
        following = self.maps[position + 1 : position + 2]
        if following and isinstance(following[0], Scale) and not following[0].divide:
            scale = following[0]
            weight = _channels(scale.factor, scale.view, scale.shape, self.speller.read)
            count += weight is not None
        bias = self._along(position + count, 0, part.shape, left, negate=False)
        offsets[:] = left
        options = {
            "weight": weight if bias is None else None,
            "bias": bias if weight is None else None,
            "eps": None if part.eps == _EPS else repr(part.eps),
        }
        both = [] if weight is None or bias is None else [weight, bias]
        self._then(
            lambda x: call("F.batch_norm", x, mean, variance, *both, **options),
            apart=self.after_layer,
        )
        self.after_layer = False
        return count

    def _along(
        self, position: int, axis: int, shape: Shape, offsets: list[Spread], *, negate: bool
    ) -> str | None:
        """An offset of this place that is a vector along one axis; it leaves the list."""
        rest = applied((*self.maps[position:], *self.behind))
        for offset in offsets:
            if offset.negate == negate and offset.rest == rest:
                found = offset.along(self.speller.read(offset.vector), axis, shape)
                if found is not None:
                    offsets.remove(offset)
                    return found
        return None

    def _here(self, position: int, shape: Shape, offsets: Sequence[Spread]) -> list[Spread]:
        """The offsets that are added just here: what is still to come is exactly their maps.

        Reshapes leave a choice: where nothing else is to come it is the node's, if it can.
        """
        maps = self.maps[position:]
        rest = applied((*maps, *self.behind))
        last = maps[-1].out_shape if maps else shape
        waits = bool(maps) and isinstance(maps[0], Reshape)
        return [
            offset
            for offset in offsets
            if offset.rest == rest
            and (offset.suits(shape) or not waits)
            and (rest or (offset.suits(shape) and not offset.suits(last)))
        ]


def _together(values: Iterable[str], axis: int | None) -> str:
    """Values added, or one behind the other along an axis."""
    return " + ".join(values) if axis is None else f"torch.cat([{', '.join(values)}], {axis + 1})"


def _channels(
    parameter: Parameter, view: Shape | None, shape: Shape, read: Callable[[Parameter], str]
) -> str | None:
    """A parameter with one entry for each channel, as a vector; None where it is not one."""
    seen = parameter.shape if view is None else view
    if seen != (shape[0], *(1,) * (len(shape) - 1)):
        return None
    return viewed(read(parameter), parameter.shape, shape[:1])


def _by_module(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Parameters of one module next to each other, what is trained first."""
    modules = list(dict.fromkeys(p.name.rpartition(".")[0] or p.name for p in parameters))

    def place(parameter: Parameter) -> tuple[int, bool]:
        module = parameter.name.rpartition(".")[0] or parameter.name
        return modules.index(module), not parameter.trainable

    return sorted(parameters, key=place)


def _sizes(parameter: Parameter) -> str:
    return ", ".join(map(str, parameter.shape)) if parameter.shape else "()"


_EPS = 1e-5
"""What torch adds to a variance where nothing is said."""
