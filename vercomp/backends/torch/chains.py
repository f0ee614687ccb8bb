"""Chains of maps in plain torch: on one line where they fit, else a statement at a time.

An offset is added where what is still to come is exactly its maps, as the argument that a layer's
function has for it where that can be; a batch norm with all its parts is the function of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from vercomp.backends.torch import rules
from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.offsets import Spread, applied
from vercomp.backends.torch.spelling import call, viewed
from vercomp.backends.torch.writer import Writer
from vercomp.ir.linear_maps import LinearMap, Parameter, Reshape, Scale, Shape, Sum, parts
from vercomp.ir.normalisation import DivideByDeviation


class Chain:
    """One chain of maps, on one line where it fits, else a statement at a time.

    Args:
        layout: Rules and names.
        writer: Where statements go.
        target: The variable that statements assign to.
        maps: The maps, in order.
        behind: What the result goes through before it is part of its node.
        ends: Whether offsets that come right behind the last map belong here, not to the node.
    """

    def __init__(
        self,
        layout: Layout,
        writer: Writer,
        target: str,
        maps: Sequence[LinearMap],
        behind: Sequence[LinearMap] = (),
        *,
        ends: bool = False,
    ) -> None:
        self.layout = layout
        self.writer = writer
        self.rules = layout.map_rules
        self.read = partial(layout.read, owner="self")
        self.target = target
        self.maps = tuple(maps)
        self.behind = tuple(behind)
        self.ends = ends
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
        if self.fails or not self.writer.fits(f"{self.target} = {self.expression}"):
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
        """Continue the expression, which becomes a statement first where it is long or apart."""
        longer = make(self.expression)
        if not self.expression.isidentifier():
            repeats = longer.count(self.expression) > 1
            fits = self.writer.fits(f"{self.target} = {longer}")
            if self.split and (repeats or apart or not fits):
                self.writer.assign(self.target, self.expression)
                longer = make(self.target)
            self.fails = self.fails or repeats
        self.expression = longer

    def _apply(self, part: LinearMap, position: int, offsets: list[Spread]) -> None:
        """One map, with the bias that its function adds."""
        axis = rules.bias_axis(self.rules, part)
        bias = None
        if axis is not None:
            bias = self._along(position + 1, axis, part.out_shape, offsets, negate=False)

        def make(x: str) -> str:
            return rules.forward(self.rules, part, x, self.read, bias)

        self._then(make, apart=self.after_layer and not isinstance(part, Reshape))
        self.after_layer = axis is not None

    def _add(self, offset: Spread, shape: Shape) -> None:
        text = offset.summand(self.read(offset.vector), shape)
        self._then(lambda x: f"{x} {offset.sign} {text}", apart=self.after_layer)
        self.after_layer = False

    def _sum(self, part: Sum, position: int, offsets: list[Spread]) -> None:
        """Parallel paths from one tensor, which needs a name."""
        if not self.expression.isidentifier():
            if not self.split:
                self.fails = True
                return
            self.writer.assign(self.target, self.expression)
            self.expression = self.target
        behind = (*self.maps[position + 1 :], *self.behind)
        chains = []
        for index, summand in enumerate(part.maps):
            target = self.layout.part(self.target, index)
            chain = Chain(self.layout, self.writer, target, parts(summand), behind)
            chains.append((chain, self.expression))
        total = joined(self.writer, chains, offsets, self.target)
        if total is None and self.split:
            total = joined_apart(self.writer, chains, offsets)
        self.fails = self.fails or total is None
        self.expression, self.after_layer = total or self.target, False

    def _batch_norm(self, position: int, offsets: list[Spread]) -> int:
        """F.batch_norm for the maps and offsets that are one; how many maps that were."""
        part = self.maps[position]
        if not isinstance(part, DivideByDeviation):
            return 0
        variance = _channels(part.variance, part.view, part.shape, self.read)
        left = list(offsets)
        mean = self._along(position, 0, part.shape, left, negate=True)
        if variance is None or mean is None or self._here(position, part.shape, left):
            return 0
        weight, count = None, 1
        following = self.maps[position + 1 : position + 2]
        if following and isinstance(following[0], Scale) and not following[0].divide:
            scale = following[0]
            weight = _channels(scale.factor, scale.view, scale.shape, self.read)
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
                found = offset.along(self.read(offset.vector), axis, shape)
                if found is not None:
                    offsets.remove(offset)
                    return found
        return None

    def _here(self, position: int, shape: Shape, offsets: Sequence[Spread]) -> list[Spread]:
        """The offsets that are added at this position: the maps behind it are exactly their maps.

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


def joined(
    writer: Writer,
    chains: Sequence[tuple[Chain, str]],
    offsets: list[Spread],
    name: str,
    axis: int | None = None,
) -> str | None:
    """The sum or concatenation of several chains as one expression; None where it needs more lines.

    Args:
        writer: Whose lines they are.
        chains: Each with the expression that it is applied to.
        offsets: Those that belong in the chains leave the list, unless the result is None.
        name: The variable that the result is for.
        axis: The axis along which the results are concatenated.
    """
    left = list(offsets)
    fitting = [chain.fits(x, left) for chain, x in chains]
    if not all(fitting):
        return None
    total = _together((chain.expression for chain, _ in chains), axis)
    if len(chains) > 1 and not writer.fits(f"{name} = {total}"):
        return None
    offsets[:] = left
    return total


def joined_apart(
    writer: Writer,
    chains: Sequence[tuple[Chain, str]],
    offsets: list[Spread],
    axis: int | None = None,
) -> str:
    """The sum or concatenation of several chains, each with statements of its own before it."""
    values = []
    for chain, x in chains:
        value = chain.spelled(x, offsets)
        if len(chains) > 1 and not value.isidentifier():
            writer.assign(chain.target, value)
            value = chain.target
        values.append(value)
    return _together(values, axis)


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


_EPS = 1e-5
"""What torch adds to a variance where nothing is said."""
