"""What a rule of the torch front end gets: one operator at work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vercomp.frontends.builder import Builder
from vercomp.frontends.values import Constant, Signal, Site, Value
from vercomp.ir.linear_maps import Shape


@dataclass(frozen=True)
class Size:
    """An integer that depends on the batch."""

    of: Callable[[int], int]


@dataclass(frozen=True)
class Call:
    """One operator at work.

    Args:
        build: The graph in the making.
        site: Where it stands.
        args: Its arguments by name: values, numbers, lists, None.
        outs: Shapes of its results as the source has them; −1 for what is not known.
        run: The operator as a function of the values of its signals, in order.
    """

    build: Builder
    site: Site
    args: Mapping[str, Any]
    outs: tuple[Shape, ...]
    run: Callable[..., Any]

    @property
    def out(self) -> Shape:
        """Shape of its first result."""
        return self.outs[0]

    def signal(self, name: str = "self") -> Signal:
        """An argument that depends on the input."""
        value = self.args.get(name)
        if value is None:
            value = next((v for v in self.args.values() if isinstance(v, Signal)), None)
        if not isinstance(value, Signal):
            raise self.build.refuse(self.site, f"its argument {name!r} is a constant")
        return value

    def value(self, name: str) -> Value:
        """An argument that is a tensor or a number."""
        value = self.args[name]
        if isinstance(value, bool | int | float):
            return Constant(torch.tensor(value, dtype=torch.float64))
        if not isinstance(value, Constant | Signal):
            raise self.build.refuse(self.site, f"its operand {name!r} depends on the batch size")
        return value

    def constant(self, name: str) -> Tensor | None:
        """A tensor argument that is a constant, or None."""
        value = self.args.get(name)
        return value.value if isinstance(value, Constant) else None

    def integers(self, name: str, count: int, default: int) -> tuple[int, ...]:
        """An option for each of several axes: a list, or one number for all of them."""
        value = self.args.get(name)
        if value is None or value == []:
            value = default
        listed = list(value) if isinstance(value, list | tuple) else [value]
        return tuple(map(int, listed * count if len(listed) == 1 else listed))


Result = Value | str
"""What a rule gives: the value, or a sentence that says why the operator is opaque."""

Results = Sequence[Callable[[], Result]]
"""The same for each result of an operator that gives several, made when it is read."""

Rule = Callable[[Call], Result]

BROADCASTS = "its operands broadcast, or are two signals, in a way that no linear map expresses"


def known(result: Value | None, reason: str) -> Result:
    """The value, or the reason where there is none."""
    return reason if result is None else result
