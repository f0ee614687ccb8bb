"""One rule a kind of linear map: how it is spelled in plain torch, and as an operator.

The forward pass of an emitted network is spelled with torch's own functions on shaped batches; its
bounds are programs over the operators of :mod:`vercomp.core.maps.operators`. Compositions and sums
are spelled here, by the rules of what they are made of. A plugin that adds a map adds its rule
through the registry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vercomp.backends.torch import rules_matrices as matrices
from vercomp.backends.torch import rules_selections as selections
from vercomp.backends.torch import rules_windows as windows
from vercomp.backends.torch.spelling import Read, spelled
from vercomp.errors import UnsupportedError
from vercomp.ir.axis_maps import AlongAxis, Total
from vercomp.ir.convolutions import AveragePool, Convolution, TransposedConvolution
from vercomp.ir.linear_maps import Dense, LinearMap, Permute, Reshape, Scale, Sum, parts
from vercomp.ir.normalisation import DivideByDeviation
from vercomp.ir.selections import Expand, Gather, Pad, Slice


def no_bias(part: LinearMap) -> int | None:
    """Most maps' functions add no bias."""
    return None


@dataclass(frozen=True)
class MapRule:
    """How one kind of linear map is spelled.

    Args:
        forward: (map, expression of a batch, read) to the expression of the mapped batch; where
            ``bias_axis`` names one, also called with the expression of a bias.
        bias_axis: The axis of the result along which torch's function adds a bias, or None.
    """

    forward: Callable[..., str]
    bias_axis: Callable[[Any], int | None] = no_bias


Rules = Mapping[type, MapRule]


def forward(rules: Rules, linear: LinearMap, x: str, read: Read, bias: str | None = None) -> str:
    """The expression of a map, applied to the batch expression x."""
    if isinstance(linear, Sum):
        return " + ".join(forward(rules, summand, x, read) for summand in linear.maps)
    *before, last = parts(linear)
    for part in before:
        x = forward(rules, part, x, read)
    rule = _rule(rules, last)
    return rule.forward(last, x, read) if bias is None else rule.forward(last, x, read, bias)


def bias_axis(rules: Rules, part: LinearMap) -> int | None:
    """The axis along which torch's function for a map adds a bias."""
    return None if isinstance(part, Sum) else _rule(rules, part).bias_axis(part)


def operator(linear: LinearMap, read: Read) -> list[str]:
    """The expressions of a map's factors as operators, from the left."""
    found = [_operator(part, read) for part in reversed(parts(linear))]
    written = [expression for expression in found if expression is not None]
    return written or [f"Monomial.identity({math.prod(linear.in_shape)})"]


def _operator(part: LinearMap, read: Read) -> str | None:
    if isinstance(part, Sum):
        summands = (" @ ".join(operator(summand, read)) for summand in part.maps)
        return f"Sum(({', '.join(summands)}))"
    described = part.operator()
    return None if described is None else spelled(described, read)


def _rule(rules: Rules, part: LinearMap) -> MapRule:
    rule = rules.get(type(part))
    if rule is None:
        raise UnsupportedError(
            f"the torch backend has no rule for the linear map {part}",
            operator=type(part).__name__,
            remedy="Register one: registry.add_linear_map(map_type, rule)",
        )
    return rule


BUILTIN_RULES: Rules = {
    Dense: MapRule(matrices.dense, matrices.dense_bias),
    AlongAxis: MapRule(matrices.along_axis, matrices.along_axis_bias),
    Total: MapRule(matrices.total),
    Scale: MapRule(matrices.scale),
    DivideByDeviation: MapRule(matrices.deviation),
    Reshape: MapRule(selections.reshape),
    Permute: MapRule(selections.permute),
    Slice: MapRule(selections.slicing),
    Gather: MapRule(selections.gather),
    Pad: MapRule(selections.pad),
    Expand: MapRule(selections.expand),
    Convolution: MapRule(windows.convolution, windows.channels),
    TransposedConvolution: MapRule(windows.transposed, windows.channels),
    AveragePool: MapRule(windows.average_pool),
}
