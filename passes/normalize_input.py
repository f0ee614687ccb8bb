"""Put a normalisation that lives outside the model in front of it: (x − mean) / std.

Radii are then in the units of the input that the user gives, not of what the model sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vercomp.errors import UsageError
from vercomp.ir.graph import Affine, Graph, Input, Offset, Term
from vercomp.ir.linear_maps import LinearMap, Parameter, Scale, Shape, identity
from vercomp.ir.rewrite import rewired
from vercomp.pass_manager import Property


@dataclass(frozen=True)
class NormalizeInput:
    """(x − mean)/std in front of the graph.

    Args:
        mean: One number, or one for each leading channel of the input; None is 0.
        std: The same, positive; None is 1.

    Raises:
        UsageError: A number is not finite, a deviation is not positive, or their count fits
            neither one nor the channels.
    """

    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None

    name: ClassVar[str] = "normalize-input"
    requires: ClassVar[tuple[Property, ...]] = ()
    establishes: ClassVar[tuple[Property, ...]] = ()

    def run(self, graph: Graph) -> Graph:
        """The graph whose input is not normalised yet; unchanged for mean 0 and deviation 1."""
        shape = graph.input.shape
        means, stds = _values("mean", self.mean, 0.0, shape), _values("std", self.std, 1.0, shape)
        if not bool(means.isfinite().all()):
            raise UsageError("the mean must be finite", node="mean")
        if not bool((stds.isfinite() & (stds > 0)).all()):
            raise UsageError("the standard deviation must be positive and finite", node="std")
        maps: list[LinearMap] = []
        if bool((stds != 1).any()):
            maps.append(Scale(shape, _parameter(graph, "input.std", stds), divide=True))
        linear = maps[0] if maps else None
        offsets = []
        if bool((means != 0).any()):
            vector = _parameter(graph, "input.mean", means)
            offsets.append(Offset(linear or identity(shape), vector, negate=True))
        if linear is None and not offsets:
            return graph
        return _in_front(graph, linear or identity(shape), tuple(offsets))


def _in_front(graph: Graph, linear: LinearMap, offsets: tuple[Offset, ...]) -> Graph:
    source: Input = graph.input
    taken = {node.name for node in graph.nodes}
    name = "input.normalized"
    while name in taken:
        name += "_"
    node = Affine(name, source.shape, (Term(linear, source.name),), offsets, "--mean, --std")
    rest = (rewired(other, {source.name: name}) for other in graph.nodes[1:])
    output = name if graph.output == source.name else graph.output
    return Graph((source, node, *rest), output)


def _values(
    option: str, given: float | Sequence[float] | None, default: float, shape: Shape
) -> Tensor:
    """One number for all, or one for each channel, as it broadcasts to the input."""
    try:
        tensor = torch.as_tensor(default if given is None else given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{given!r} is neither a number nor a list of numbers",
            node=option,
            remedy="Give one number, or one for each channel (the first dimension of an input)",
        ) from error
    tensor = tensor.detach().to("cpu", copy=True)
    if tensor.numel() == 1:
        return tensor.reshape(())
    channels = shape[0] if shape else 1
    if tensor.numel() != channels:
        raise UsageError(
            f"{tensor.numel()} values for an input of {channels} channels",
            node=option,
            remedy="Give one number, or one for each channel (the first dimension of an input)",
        )
    return tensor.reshape(-1, *(1,) * (len(shape) - 1))


def _parameter(graph: Graph, name: str, value: Tensor) -> Parameter:
    taken = {parameter.name for parameter in graph.parameters()}
    while name in taken:
        name += "_"
    return Parameter(name, value, trainable=False)
