"""What a name of the source stands for while a front end translates it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import sympy
import torch
from torch import Tensor

from vercomp.ir.activation import X
from vercomp.ir.linear_maps import Shape


@dataclass(frozen=True)
class Site:
    """An operator of the source, for names and messages.

    Args:
        name: What its result would be called by a person: ``"fc1"``, ``"tanh_1"``.
        operator: As its framework spells it.
        origin: Where it stands in the source.
    """

    name: str
    operator: str
    origin: str = ""


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that does not depend on the input.

    Args:
        value: The tensor, as this operator sees it.
        name: The name of the source's own tensor that it is, possibly under another shape or
            transposed; None for what was computed from others.
        stored: That tensor, where ``name`` is given.
        transposed: Whether ``value`` is the transpose of ``stored`` under a matrix shape.
        trainable: Whether training may change it; None where its use decides (ONNX).
        sources: Names of the trainable tensors that it was computed from.
    """

    value: Tensor
    name: str | None = None
    stored: Tensor | None = None
    transposed: bool = False
    trainable: bool | None = False
    sources: frozenset[str] = frozenset()

    @staticmethod
    def of(name: str, value: Tensor, trainable: bool | None) -> Constant:
        """A tensor of the source."""
        sources = frozenset({name}) if trainable else frozenset()
        return Constant(value, name, value, trainable=trainable, sources=sources)

    @property
    def number(self) -> float | int | bool | None:
        """Its value, where it is one number that training leaves alone."""
        if self.value.numel() != 1 or self.sources:
            return None
        return self.value.item()

    def widened(self, dtype: torch.dtype) -> Constant:
        """The same numbers in a wider precision."""
        stored = None if self.stored is None else self.stored.to(dtype)
        return replace(self, value=self.value.to(dtype), stored=stored)

    def reshaped(self, shape: Shape) -> Constant:
        """The same tensor under another shape, row-major."""
        value = self.value.reshape(shape)
        return (
            Constant(value, sources=self.sources) if self.transposed else replace(self, value=value)
        )

    def swapped(self) -> Constant:
        """A matrix transposed."""
        if self.name is None:
            return Constant(self.value.T, sources=self.sources)
        return replace(self, value=self.value.T, transposed=not self.transposed)


@dataclass(frozen=True)
class Signal:
    """A tensor that depends on the input: an elementwise expression over a node, kept lazily.

    Args:
        node: Name of the node.
        shape: Shape of the tensor, without the batch.
        expression: The formula in X over the node's value; a boolean one for comparisons.
        batch: The axis at which the source has the batch.
        site: The operator that computed it last.
        formula: How that operator made the expression from those of its operands.
        operands: Those: signals over the same node, and numbers.
    """

    node: str
    shape: Shape
    expression: sympy.Basic = field(default=X)
    batch: int = 0
    site: Site = field(default=Site("x", "input"), compare=False)
    formula: Callable[..., sympy.Basic] | None = field(default=None, compare=False, repr=False)
    operands: tuple[Signal | sympy.Basic, ...] = field(default=(), compare=False, repr=False)

    @property
    def rank(self) -> int:
        """The number of axes, the batch included."""
        return len(self.shape) + 1

    @property
    def is_truth(self) -> bool:
        """Whether its values are true and false: it comes from a comparison."""
        return not isinstance(self.expression, sympy.Expr)

    def over(self, part: Signal) -> sympy.Basic | None:
        """The expression with X for the value of ``part``, or None where X remains beside it."""
        if self is part:
            return X
        if self.formula is None:
            return None
        values = [o.over(part) if isinstance(o, Signal) else o for o in self.operands]
        return None if any(value is None for value in values) else self.formula(*values)

    def parts(self) -> Iterator[Signal]:
        """The operators before this one, back to the node, the latest first; maybe repeatedly."""
        signals = [o for o in self.operands if isinstance(o, Signal) and o.formula is not None]
        yield from signals
        for signal in signals:
            yield from signal.parts()

    def full(self, batch: int) -> Shape:
        """The shape as the source has it."""
        return (*self.shape[: self.batch], batch, *self.shape[self.batch :])


Value = Constant | Signal


def joint_sources(*values: object) -> frozenset[str]:
    """The trainable tensors that constants were computed from."""
    return frozenset().union(*(v.sources for v in values if isinstance(v, Constant)))
