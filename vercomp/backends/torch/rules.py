"""One rule a kind of linear map: how it is spelled in plain torch, and as an operator.

The forward pass of an emitted network is spelled with torch's own functions on shaped batches; its
bounds are programs over the operators of :mod:`vercomp.runtime.operators`. A plugin that adds a map
adds its rule here, through the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vercomp.errors import UnsupportedError
from vercomp.ir.linear_maps import (
    Composition,
    Dense,
    LinearMap,
    Parameter,
    Permute,
    Reshape,
    Scale,
)

Read = Callable[[Parameter], str]
"""The expression that reads a parameter: ``self.fc1_weight``."""


@dataclass(frozen=True)
class MapRule:
    """How one kind of linear map is spelled.

    Args:
        forward: (map, expression of a batch, read) to the expression of the mapped batch.
        operator: (map, read) to the expression of an operator on flat vectors; None where the map
            is the identity on them.
    """

    forward: Callable[[LinearMap, str, Read], str]
    operator: Callable[[LinearMap, Read], str | None]


def parts(linear_map: LinearMap) -> tuple[LinearMap, ...]:
    """The maps of a composition in order of application, or the map itself."""
    return linear_map.maps if isinstance(linear_map, Composition) else (linear_map,)


def forward(rules: Mapping[type, MapRule], part: LinearMap, x: str, read: Read) -> str:
    """The expression of a part of a map, applied to the batch expression x."""
    return _rule(rules, part).forward(part, x, read)


def operator(rules: Mapping[type, MapRule], linear_map: LinearMap, read: Read) -> list[str]:
    """The expressions of a map's factors as operators, from the left."""
    found = [_rule(rules, part).operator(part, read) for part in reversed(parts(linear_map))]
    written = [expression for expression in found if expression is not None]
    if not written:
        size = _product(linear_map.in_shape)
        return [f"Monomial.identity({size})"]
    return written


def _rule(rules: Mapping[type, MapRule], part: LinearMap) -> MapRule:
    rule = rules.get(type(part))
    if rule is None:
        raise UnsupportedError(
            f"the torch backend has no rule for the linear map {part}",
            operator=type(part).__name__,
            remedy="Register one: registry.add_linear_map(map_type, rule)",
        )
    return rule


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _dense(part: LinearMap, x: str, read: Read) -> str:
    assert isinstance(part, Dense)  # noqa: S101 - the table's key says so
    matrix = _matrix(part, read)
    return f"{_atom(x)} @ {matrix}" if part.transposed else f"F.linear({x}, {matrix})"


def _dense_operator(part: LinearMap, read: Read) -> str:
    assert isinstance(part, Dense)  # noqa: S101
    return f"Dense({_matrix(part, read)}{'.T' if part.transposed else ''})"


def _matrix(part: Dense, read: Read) -> str:
    return read(part.weight) + (f".reshape{part.view!r}" if part.view is not None else "")


def _scale(part: LinearMap, x: str, read: Read) -> str:
    assert isinstance(part, Scale)  # noqa: S101
    return f"{_atom(x)} {'/' if part.divide else '*'} {read(part.factor)}"


def _scale_operator(part: LinearMap, read: Read) -> str:
    assert isinstance(part, Scale)  # noqa: S101
    divide = ", divide=True" if part.divide else ""
    factor = read(part.factor) + (f".reshape{part.view!r}" if part.view is not None else "")
    return f"Diagonal.scaling({factor}, {part.shape!r}{divide})"


def _reshape(part: LinearMap, x: str, read: Read) -> str:
    if part.in_shape == part.out_shape:
        return x
    if len(part.out_shape) == 1:
        return f"{_atom(x)}.flatten(1)"
    return f"{_atom(x)}.reshape(-1, {', '.join(map(str, part.out_shape))})"


def _permute(part: LinearMap, x: str, read: Read) -> str:
    assert isinstance(part, Permute)  # noqa: S101
    return f"{_atom(x)}.permute(0, {', '.join(str(axis + 1) for axis in part.axes)})"


def _permute_operator(part: LinearMap, read: Read) -> str:
    assert isinstance(part, Permute)  # noqa: S101
    return f"Monomial.permutation({part.source!r}, {part.axes!r})"


def _atom(x: str) -> str:
    """Parenthesised where an operator or method would bind to a part only."""
    depth = 0
    for character in x:
        depth += (character in "([") - (character in ")]")
        if character == " " and depth == 0:
            return f"({x})"
    return x


BUILTIN_RULES: Mapping[type, MapRule] = {
    Dense: MapRule(_dense, _dense_operator),
    Scale: MapRule(_scale, _scale_operator),
    Reshape: MapRule(_reshape, lambda part, read: None),
    Permute: MapRule(_permute, _permute_operator),
}
