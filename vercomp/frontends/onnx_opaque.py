"""ONNX operators that no rule covers, as opaque nodes: shapes come from running them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vercomp.frontends.builder import Builder
from vercomp.frontends.onnx_call import RefusalError
from vercomp.frontends.onnx_file import from_numpy
from vercomp.frontends.onnx_nodes import SingleNode
from vercomp.frontends.values import Constant, Signal, Site, Value
from vercomp.ir.linear_maps import Shape


@dataclass(frozen=True)
class OpaqueNode:
    """A node that only the reference interpreter runs, on a batch of any size.

    Args:
        single: The node alone.
        inputs: What it reads, at least one signal; None for absent optional inputs.
        dtype: Precision of the model.
        integral: Types of values that are no real numbers, by name.
        stand_in: What stands for a symbolic batch in constants, or None.
    """

    single: SingleNode
    inputs: Sequence[Value | None]
    dtype: torch.dtype
    integral: Mapping[str, np.dtype[Any]]
    stand_in: int | None

    @property
    def signals(self) -> list[Signal]:
        """The inputs that depend on the network's."""
        return [value for value in self.inputs if isinstance(value, Signal)]

    def insert(self, build: Builder, site: Site, reason: str) -> Mapping[str, Signal]:
        """Its results by name, one opaque node each.

        Raises:
            RefusalError: It does not run on a batch of any size, or some result has no batch axis;
                with the reason given.
        """
        names = [name for name in self.single.node.output if name]
        try:
            two, three = self._shapes(2), self._shapes(3)
        except Exception as error:  # whatever an operator may raise
            raise RefusalError(reason) from error
        results = {}
        for index, name in enumerate(names):
            axis = _batch_axis(two[index], three[index])
            if axis is None:
                raise RefusalError(reason)
            full = (*two[index][:axis], build.batch, *two[index][axis + 1 :])
            results[name] = build.opaque(site, self.signals, self._pick(index), full, axis, reason)
        return results

    def _shapes(self, size: int) -> list[Shape]:
        dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        tensors = [torch.full(signal.full(size), 0.5, dtype=dtype) for signal in self.signals]
        return [tuple(np.shape(result)) for result in self._run(*tensors)]

    def _pick(self, index: int) -> Callable[..., Tensor]:
        return lambda *xs: from_numpy(np.asarray(self._run(*xs)[index])).to(xs[0].dtype)

    def _run(self, *tensors: Tensor) -> list[Any]:
        """Its results for values of the signals, as the source has them."""
        rest = iter(tensors)
        size = tensors[0].shape[self.signals[0].batch]
        arrays = {}
        for name, value in zip(self.single.node.input, self.inputs, strict=True):
            if isinstance(value, Signal):
                array = next(rest).numpy()
                arrays[name] = array.astype(self.integral.get(name, array.dtype))
            elif value is not None:
                arrays[name] = self._constant(value, size, tensors[0].dtype)
        return self.single.run(arrays)

    def _constant(self, constant: Constant, size: int, dtype: torch.dtype) -> np.ndarray:
        """A constant for a batch of this size, in the precision of the run."""
        value = constant.value
        if value.is_floating_point():
            value = value.to(dtype)
        if self.stand_in is None:
            return value.numpy()
        if value.dtype == torch.int64 and value.ndim < 2:  # a shape, in all likelihood
            return torch.where(value == self.stand_in, size, value).numpy()
        for axis, length in enumerate(value.shape):
            if length == self.stand_in:
                value = value.narrow(axis, 0, size)
        return value.numpy()


def _batch_axis(two: Shape, three: Shape) -> int | None:
    """The axis that grows with the batch, where there is one."""
    axes = [axis for axis, pair in enumerate(zip(two, three, strict=False)) if pair == (2, 3)]
    if len(two) != len(three) or len(axes) != 1:
        return None
    (axis,) = axes
    return axis if two[:axis] + two[axis + 1 :] == three[:axis] + three[axis + 1 :] else None
