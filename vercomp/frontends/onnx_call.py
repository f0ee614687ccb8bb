"""One node of an ONNX graph as the rules see it, whatever the version of its operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vercomp.frontends.builder import Builder
from vercomp.frontends.values import Constant, Signal, Site, Value
from vercomp.ir.linear_maps import Shape


class RefusalError(Exception):
    """Why a rule does not translate a node; caught where rules are called."""


@dataclass(frozen=True)
class Call:
    """One node at work.

    Args:
        build: The graph in the making.
        site: Where it stands.
        opset: The version of the operator set.
        inputs: Its inputs; None for absent optional ones.
        attributes: Its attributes, as Python values.
        outputs: How many results it has.
    """

    build: Builder
    site: Site
    opset: int
    inputs: Sequence[Value | None]
    attributes: Mapping[str, Any]
    outputs: int = 1

    def input(self, index: int) -> Value | None:
        """An input, None where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def value(self, index: int) -> Value:
        """An input that must be there."""
        value = self.input(index)
        if value is None:
            raise RefusalError(f"its input {index} is missing")
        return value

    def signal(self, index: int = 0) -> Signal:
        """An input that must depend on the network's."""
        value = self.value(index)
        if not isinstance(value, Signal):
            raise RefusalError(f"its input {index} is a constant")
        return value

    def constant(self, index: int, what: str) -> Constant | None:
        """An input that must not depend on the network's; None where it is absent."""
        value = self.input(index)
        if isinstance(value, Signal):
            raise RefusalError(f"its {what} depend on the input")
        return value

    def full(self, index: int = 0) -> Shape:
        """Shape of an input as the source has it."""
        return self.signal(index).full(self.build.batch)

    def axis(self, name: str = "axis", default: int = 0) -> int:
        """An axis of the first input that depends on the network's."""
        rank = next(value for value in self.inputs if isinstance(value, Signal)).rank
        axis = int(self.attributes.get(name, default))
        if not -rank <= axis < rank:
            raise RefusalError(f"it has no axis {axis}")
        return axis % rank

    def integers(self, name: str, index: int) -> list[int] | None:
        """Integers that are an attribute in old opsets and an input in new ones."""
        if name in self.attributes:
            return [int(value) for value in self.attributes[name]]
        value = self.constant(index, name)
        return None if value is None else [int(v) for v in value.value.reshape(-1).tolist()]

    def number(self, name: str, index: int, default: float) -> float | None:
        """A number that is an attribute in old opsets and an input in new ones."""
        if name in self.attributes:
            return float(self.attributes[name])
        value = self.input(index)
        if value is None:
            return default
        number = value.number if isinstance(value, Constant) else None
        return None if number is None else float(number)

    def reshaped(self, shape: Sequence[int]) -> Shape:
        """A shape to which the first input can be brought."""
        if math.prod(shape) != math.prod(self.full()):
            raise RefusalError("its shape does not fit its input")
        return tuple(shape)


Result = Value | tuple[Value | None, ...] | str
"""A node's first result, or all of them (None for one that jumps), or why it has none here."""

Rule = Callable[[Call], Result]

BROADCASTS = "its operands broadcast, or are two signals, in a way that no linear map expresses"
MIXES = "it mixes the batch with another dimension"


def or_reason(result: Value | None, reason: str) -> Result:
    """The result, or the reason why there is none."""
    return reason if result is None else result
